#include <torc/net/address.hpp>

#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>

#include <algorithm>
#include <charconv>
#include <cstring>
#include <optional>

#include <fmt/format.h>

// Theory of operation
//
// The object holds a socket address exactly as the kernel takes it, so that `data()` and `size()` cost nothing. It is
// read and written by copying whole structures in and out, which the compiler turns into plain loads and stores.
//
// Two addresses are equal when their bytes are. That works because `from_sockaddr` rebuilds what came from outside:
// padding and flow labels, which say nothing about where a socket is, do not survive it.
//
// The length of a unix address is part of it (unix(7)): a path ends with a zero byte that is counted, an abstract
// name begins with one and ends where the length says, and an unnamed socket has the family alone.

namespace torc::net {

namespace {

constexpr std::size_t path_offset = offsetof(sockaddr_un, sun_path);
constexpr std::size_t path_capacity = sizeof(sockaddr_un::sun_path);

static_assert(sizeof(sockaddr_un) <= Address::capacity_bytes && sizeof(sockaddr_in6) <= Address::capacity_bytes);

std::unexpected<Error> refuse(std::string sentence) {
    return std::unexpected{Error{errc::invalid_argument, phase::none, "parse", std::move(sentence)}};
}

result<std::uint16_t> parse_port(std::string_view text, std::string_view whole) {
    unsigned port = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), port);
    if (error != std::errc{} || end != text.data() + text.size() || port > 65535) {
        return refuse(fmt::format("\"{}\" is not a port between 0 and 65535 (in \"{}\")", text, whole));
    }
    return static_cast<std::uint16_t>(port);
}

/// An interface's index, from its name or its number.
std::optional<std::uint32_t> parse_scope(const std::string& text) {
    std::uint32_t number = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error == std::errc{} && end == text.data() + text.size()) return number;
    number = if_nametoindex(text.c_str());
    return number == 0 ? std::nullopt : std::optional{number};
}

}  // namespace

void Address::store(const void* address, std::size_t size_bytes) noexcept {
    std::memcpy(bytes_.data(), address, size_bytes);
    size_bytes_ = static_cast<std::uint32_t>(size_bytes);
}

template <class Native>
Native Address::load() const noexcept {
    Native native{};
    std::memcpy(&native, bytes_.data(), sizeof native);
    return native;
}

Address Address::v4(std::array<std::uint8_t, 4> ip, std::uint16_t port) noexcept {
    sockaddr_in native{};
    native.sin_family = AF_INET;
    native.sin_port = htons(port);
    std::memcpy(&native.sin_addr, ip.data(), ip.size());
    Address made;
    made.store(&native, sizeof native);
    return made;
}

Address Address::v6(std::array<std::uint8_t, 16> ip, std::uint16_t port, std::uint32_t scope_id) noexcept {
    sockaddr_in6 native{};
    native.sin6_family = AF_INET6;
    native.sin6_port = htons(port);
    native.sin6_scope_id = scope_id;
    std::memcpy(&native.sin6_addr, ip.data(), ip.size());
    Address made;
    made.store(&native, sizeof native);
    return made;
}

Address Address::loopback(std::uint16_t port) noexcept { return v4({127, 0, 0, 1}, port); }

Address Address::loopback_v6(std::uint16_t port) noexcept {
    return v6({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, port);
}

Address Address::any(std::uint16_t port) noexcept { return v4({}, port); }

Address Address::any_v6(std::uint16_t port) noexcept { return v6({}, port); }

Address Address::unix_socket(std::string_view path) {
    const bool abstract = path.starts_with('@');
    const auto fail = [](std::string sentence) {
        throw Error{errc::invalid_argument, phase::none, "unix_socket", std::move(sentence)};
    };
    if (path.empty()) fail("the path of a unix socket is empty");
    if (!abstract && path.find('\0') != path.npos) fail("the path of a unix socket holds a zero byte");
    // The '@' turns into a zero byte; a path gets one at its end.
    if (path.size() > (abstract ? path_capacity : path_capacity - 1)) {
        fail(fmt::format("the path of a unix socket is {} bytes long, {} are possible: \"{}\"", path.size(),
                         abstract ? path_capacity : path_capacity - 1, path));
    }
    sockaddr_un native{};
    native.sun_family = AF_UNIX;
    std::memcpy(native.sun_path, path.data(), path.size());
    if (abstract) native.sun_path[0] = '\0';
    Address made;
    made.store(&native, path_offset + path.size() + (abstract ? 0 : 1));
    return made;
}

Address Address::from_sockaddr(const sockaddr* address, std::size_t size_bytes) noexcept {
    if (address == nullptr || size_bytes < sizeof(sa_family_t)) return {};
    sa_family_t family = AF_UNSPEC;
    std::memcpy(&family, address, sizeof family);
    if (family == AF_INET && size_bytes >= sizeof(sockaddr_in)) {
        sockaddr_in native{};
        std::memcpy(&native, address, sizeof native);
        std::array<std::uint8_t, 4> ip{};
        std::memcpy(ip.data(), &native.sin_addr, ip.size());
        return v4(ip, ntohs(native.sin_port));
    }
    if (family == AF_INET6 && size_bytes >= sizeof(sockaddr_in6)) {
        sockaddr_in6 native{};
        std::memcpy(&native, address, sizeof native);
        std::array<std::uint8_t, 16> ip{};
        std::memcpy(ip.data(), &native.sin6_addr, ip.size());
        return v6(ip, ntohs(native.sin6_port), native.sin6_scope_id);
    }
    if (family != AF_UNIX) return {};
    sockaddr_un native{};
    std::size_t used_bytes = std::min(size_bytes, sizeof native);
    std::memcpy(&native, address, used_bytes);
    if (used_bytes > path_offset && native.sun_path[0] != '\0') {
        // The kernel may count the final zero byte or leave it out, and a path may fill all the room.
        const std::size_t length = strnlen(native.sun_path, used_bytes - path_offset);
        used_bytes = path_offset + std::min(length + 1, path_capacity);
    }
    Address made;
    made.store(&native, used_bytes);
    return made;
}

result<Address> Address::parse_ip(std::string_view ip, std::uint16_t port) {
    const std::string_view whole = ip;
    if (ip.size() >= 2 && ip.front() == '[' && ip.back() == ']') {
        ip = ip.substr(1, ip.size() - 2);
        if (ip.find(':') == ip.npos) return refuse(fmt::format("\"{}\" has brackets around no IPv6 address", whole));
    }
    if (ip.find('\0') != ip.npos) return refuse("an IP address holds a zero byte");
    if (ip.find(':') == ip.npos) {
        std::array<std::uint8_t, 4> bytes{};
        if (inet_pton(AF_INET, std::string{ip}.c_str(), bytes.data()) != 1) {
            return refuse(fmt::format("\"{}\" is not an IP address", whole));
        }
        return v4(bytes, port);
    }
    std::array<std::uint8_t, 16> bytes{};
    const std::size_t percent = ip.find('%');
    if (inet_pton(AF_INET6, std::string{ip.substr(0, percent)}.c_str(), bytes.data()) != 1) {
        return refuse(fmt::format("\"{}\" is not an IP address", whole));
    }
    if (percent == ip.npos) return v6(bytes, port);
    const auto scope = parse_scope(std::string{ip.substr(percent + 1)});
    if (!scope) return refuse(fmt::format("there is no network interface \"{}\"", ip.substr(percent + 1)));
    return v6(bytes, port, *scope);
}

result<Address> Address::parse(std::string_view text) {
    if (text.starts_with("unix:")) {
        try {
            return unix_socket(text.substr(5));
        } catch (const Error& error) {
            return std::unexpected{error};
        }
    }
    const std::size_t colon = text.rfind(':');
    if (colon == text.npos || text.ends_with(']')) {
        return refuse(fmt::format("\"{}\" has no port: write it as address:port", text));
    }
    const std::string_view ip = text.substr(0, colon);
    if (!ip.starts_with('[') && ip.find(':') != ip.npos) {
        return refuse(fmt::format("\"{}\" needs brackets around the IPv6 address: [address]:port", text));
    }
    const auto port = parse_port(text.substr(colon + 1), text);
    if (!port) return std::unexpected{port.error()};
    return parse_ip(ip, *port);
}

const sockaddr* Address::data() const noexcept { return reinterpret_cast<const sockaddr*>(bytes_.data()); }

int Address::family() const noexcept {
    static_assert(AF_UNSPEC == 0);
    sa_family_t family = AF_UNSPEC;
    std::memcpy(&family, bytes_.data(), sizeof family);
    return family;
}

bool Address::is_v4() const noexcept { return family() == AF_INET; }
bool Address::is_v6() const noexcept { return family() == AF_INET6; }
bool Address::is_unix() const noexcept { return family() == AF_UNIX; }

bool Address::is_loopback() const noexcept {
    if (is_v4()) return (ntohl(load<sockaddr_in>().sin_addr.s_addr) >> 24) == 127;
    if (!is_v6()) return false;
    const in6_addr ip = load<sockaddr_in6>().sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(&ip) || (IN6_IS_ADDR_V4MAPPED(&ip) && ip.s6_addr[12] == 127);
}

std::uint16_t Address::port() const noexcept {
    if (is_v4()) return ntohs(load<sockaddr_in>().sin_port);
    if (is_v6()) return ntohs(load<sockaddr_in6>().sin6_port);
    return 0;
}

Address Address::with_port(std::uint16_t port) const noexcept {
    Address changed = *this;
    if (is_v4()) {
        auto native = load<sockaddr_in>();
        native.sin_port = htons(port);
        changed.store(&native, sizeof native);
    } else if (is_v6()) {
        auto native = load<sockaddr_in6>();
        native.sin6_port = htons(port);
        changed.store(&native, sizeof native);
    }
    return changed;
}

std::uint32_t Address::scope_id() const noexcept { return is_v6() ? load<sockaddr_in6>().sin6_scope_id : 0; }

std::string Address::ip_string() const {
    char text[INET6_ADDRSTRLEN] = {};
    if (is_v4()) {
        const in_addr ip = load<sockaddr_in>().sin_addr;
        return inet_ntop(AF_INET, &ip, text, sizeof text);
    }
    if (!is_v6()) return {};
    const in6_addr ip = load<sockaddr_in6>().sin6_addr;
    std::string written = inet_ntop(AF_INET6, &ip, text, sizeof text);
    if (const std::uint32_t scope = scope_id(); scope != 0) {
        char name[IF_NAMESIZE] = {};
        written += '%';
        written += if_indextoname(scope, name) != nullptr ? std::string{name} : std::to_string(scope);
    }
    return written;
}

std::string Address::path() const {
    if (!is_unix() || size_bytes_ <= path_offset) return {};
    const auto native = load<sockaddr_un>();
    const std::size_t length = size_bytes_ - path_offset;
    if (native.sun_path[0] == '\0') return '@' + std::string{native.sun_path + 1, length - 1};
    return {native.sun_path, strnlen(native.sun_path, length)};
}

std::string Address::to_string() const {
    if (is_v4()) return fmt::format("{}:{}", ip_string(), port());
    if (is_v6()) return fmt::format("[{}]:{}", ip_string(), port());
    return is_unix() ? "unix:" + path() : "none";
}

bool operator==(const Address& a, const Address& b) noexcept {
    return a.size_bytes_ == b.size_bytes_ && std::memcmp(a.bytes_.data(), b.bytes_.data(), a.size_bytes_) == 0;
}

}  // namespace torc::net
