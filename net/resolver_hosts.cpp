#include "resolver_hosts.hpp"

#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <fstream>

// Theory of operation. The file is read when it is first needed and again when its identity, size or time of change
// differ; one stat(2) for each look-up tells. Lines are read leniently, as every reader of this file does: what is no
// address is skipped with its line, because a mistake in one line must not take the others away. What it says must not
// be taken for nothing, though, because the process was short of something at the moment of reading it: that is an
// error of this look-up, and the next one reads the file again.

namespace torc::net::dns {

bool FileWatch::changed() noexcept {
    struct stat status{};
    Identity now;
    if (::stat(path_.c_str(), &status) == 0) {
        now.device = status.st_dev;
        now.inode = status.st_ino;
        now.size_bytes = status.st_size;
        now.modified_ns = std::int64_t{status.st_mtim.tv_sec} * 1'000'000'000 + status.st_mtim.tv_nsec;
    }
    if (looked_ && now == seen_) return false;
    looked_ = true;
    seen_ = now;
    return true;
}

std::string lower_case(std::string_view text) {
    std::string lower{text};
    for (char& letter : lower) {
        if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
    }
    return lower;
}

std::string_view next_word(std::string_view& line) noexcept {
    constexpr std::string_view space = " \t\r\v\f";
    line.remove_prefix(std::min(line.find_first_not_of(space), line.size()));
    const std::string_view word = line.substr(0, line.find_first_of(space));
    line.remove_prefix(word.size());
    return word;
}

bool is_shortage(int error) noexcept {
    return error == EMFILE || error == ENFILE || error == ENOMEM || error == ENOBUFS;
}

const std::vector<Address>& HostsFile::find(const std::string& name) {
    if (file_.changed()) {
        try {
            read();
        } catch (Error& error) {
            file_.look_again();
            throw error.with_peer(name);
        } catch (...) {
            file_.look_again();
            throw;
        }
    }
    const auto found = names_.find(name);
    return found == names_.end() ? none_ : found->second;
}

void HostsFile::read() {
    names_.clear();
    std::ifstream file{file_.path()};
    const std::error_code code{errno, std::generic_category()};
    if (!file && is_shortage(code.value())) {
        throw Error{code, phase::resolve, "resolve", "the hosts file " + file_.path() + ": " + code.message()};
    }
    for (std::string line; std::getline(file, line);) read_line(line);
}

void HostsFile::read_line(std::string_view line) {
    line = line.substr(0, line.find('#'));
    const auto address = Address::parse_ip(next_word(line), 0);
    if (!address) return;
    for (std::string_view name = next_word(line); !name.empty(); name = next_word(line)) {
        if (name.ends_with('.')) name.remove_suffix(1);
        std::vector<Address>& known = names_[lower_case(name)];
        if (std::find(known.begin(), known.end(), *address) == known.end()) known.push_back(*address);
    }
}

}  // namespace torc::net::dns
