#include <sys/mman.h>
#include <unistd.h>

#include <map>
#include <optional>
#include <sstream>

#include <torc/net/address.hpp>
#include <torc/net/resolver.hpp>

#include "../../net/resolver_hosts.hpp"
#include "fuzz.hpp"

// Theory of operation. The first byte chooses: a list of texts that are read as addresses and as entries
// (HOST:PORT:ADDRESS), a line each, or a hosts file.
//
// Required: what was read, printed and read again, is the same; what was not is an error in words; and a hosts file
// says what the plain reader below finds in it.

namespace torc::fuzz {
namespace {

using net::Address;
using net::StaticEntry;

void require_error(const Error& error) {
    require(error.code() == errc::invalid_argument && !error.message().empty(), "an error is one about what was given");
}

void check_address(std::string_view text) {
    if (const auto ip = Address::parse_ip(text, 4433)) {
        require((ip->is_v4() || ip->is_v6()) && ip->port() == 4433, "an IP address is one, with the port given", text);
        const auto again = Address::parse_ip(ip->ip_string(), 4433);
        require(again && *again == *ip, "an IP address, printed and read again, is the same", ip->ip_string());
        const auto with_port = Address::parse(ip->to_string());
        require(with_port && *with_port == *ip, "and so it is with its port", ip->to_string());
        const Address copy = Address::from_sockaddr(ip->data(), ip->size());
        require(copy == *ip, "it is the same for system calls", ip->to_string());
    } else {
        require_error(ip.error());
    }
    if (const auto address = Address::parse(text)) {
        require(!address->empty(), "what was read is an address", text);
        const auto again = Address::parse(address->to_string());
        require(again && *again == *address, "an address, printed and read again, is the same", address->to_string());
        const Address copy = Address::from_sockaddr(address->data(), address->size());
        require(copy == *address, "it is the same for system calls", address->to_string());
    } else {
        require_error(address.error());
    }
}

void check_entry(std::string_view text) {
    const auto entry = StaticEntry::parse(text);
    if (!entry) {
        require_error(entry.error());
        return;
    }
    require(!entry->host.empty() && entry->port != 0 && !entry->addresses.empty(), "an entry is complete", text);
    const bool bracketed = entry->host.find(':') != std::string::npos || entry->host.starts_with('[');
    std::string printed = (bracketed ? "[" + entry->host + "]" : entry->host) + ":" + std::to_string(entry->port);
    char separator = ':';
    for (const Address& address : entry->addresses) {
        require(address.port() == entry->port, "its addresses have its port", text);
        printed += std::exchange(separator, ',') + address.ip_string();
    }
    const auto again = StaticEntry::parse(printed);
    require(again && again->host == entry->host && again->port == entry->port && again->addresses == entry->addresses,
            "an entry, printed and read again, is the same", printed);
}

/// A file without a name, for readers that want a path.
class File {
   public:
    explicit File(std::string_view content) : descriptor_(::memfd_create("hosts", MFD_CLOEXEC)) {
        require(descriptor_ >= 0, "there is memory for a file");
        require(::write(descriptor_, content.data(), content.size()) == static_cast<ssize_t>(content.size()),
                "it is written");
    }
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    ~File() { ::close(descriptor_); }
    [[nodiscard]] std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

   private:
    int descriptor_;
};

std::map<std::string, std::vector<Address>> read_hosts(const std::string& content) {
    std::map<std::string, std::vector<Address>> names;
    std::istringstream lines{content};
    for (std::string line; std::getline(lines, line);) {
        line.resize(std::min(line.find('#'), line.size()));
        std::istringstream words{line};
        words.imbue(std::locale::classic());
        std::string word;
        words >> word;
        const auto address = Address::parse_ip(word, 0);
        if (!address) continue;
        while (words >> word) {
            for (char& c : word) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
            if (word.ends_with('.')) word.pop_back();
            std::vector<Address>& known = names[word];
            if (std::ranges::find(known, *address) == known.end()) known.push_back(*address);
        }
    }
    return names;
}

void check_hosts(std::string_view content) {
    const File file{content};
    net::dns::HostsFile hosts{file.path()};
    for (const auto& [name, addresses] : read_hosts(std::string{content})) {
        require(hosts.find(name) == addresses, "a hosts file says what stands in it", name);
    }
    require(hosts.find("not there.").empty(), "a name that is not in the file has no address");
}

}  // namespace
}  // namespace torc::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace torc::fuzz;
    Input input{data, size};
    if ((input.byte() & 1) != 0) {
        check_hosts(input.rest());
        return 0;
    }
    while (!input.empty()) {
        const std::string_view line = input.line();
        check_address(line);
        check_entry(line);
    }
    return 0;
}
