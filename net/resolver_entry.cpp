#include <charconv>

#include <fmt/format.h>

#include <torc/net/resolver.hpp>

// Theory of operation. Read from the left, because an IPv6 address at the end may or may not have brackets. A host that
// is itself an IPv6 address needs them.

namespace torc::net {

namespace {

std::unexpected<Error> refuse(std::string_view text, std::string_view why) {
    return std::unexpected{Error{errc::invalid_argument, phase::none, "parse",
                                 fmt::format("\"{}\" is not HOST:PORT:ADDRESS: {}", text, why)}};
}

}  // namespace

result<StaticEntry> StaticEntry::parse(std::string_view text) {
    StaticEntry entry;
    std::string_view rest = text;
    const std::size_t bracket = text.starts_with('[') ? text.find(']') : 0;
    if (bracket == text.npos) return refuse(text, "a bracket is not closed");
    const std::size_t host_end = text.find(':', bracket);
    if (host_end == text.npos) return refuse(text, "there is no colon after the host");
    entry.host = bracket == 0 ? text.substr(0, host_end) : text.substr(1, bracket - 1);
    if (entry.host.empty()) return refuse(text, "the host is empty");
    if (bracket != 0 && host_end != bracket + 1)
        return refuse(text, "there is something between the host and its colon");

    rest = text.substr(host_end + 1);
    const std::size_t port_end = rest.find(':');
    if (port_end == rest.npos) return refuse(text, "there is no address after the port");
    const auto [end, error] = std::from_chars(rest.data(), rest.data() + port_end, entry.port);
    if (error != std::errc{} || end != rest.data() + port_end || entry.port == 0) {
        return refuse(text, "the port has to be a number between 1 and 65535");
    }
    rest.remove_prefix(port_end + 1);
    while (true) {
        const std::string_view word = rest.substr(0, rest.find(','));
        const auto address = Address::parse_ip(word, entry.port);
        if (!address) return refuse(text, address.error().message());
        entry.addresses.push_back(*address);
        if (word.size() == rest.size()) return entry;
        rest.remove_prefix(word.size() + 1);
    }
}

}  // namespace torc::net
