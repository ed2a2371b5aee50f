#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/un.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

#include "sim_network.hpp"

// Theory of operation. Inside the simulation an IPv4 address is one, however it was written; only a socket of IPv6 sees
// it mapped. So whatever is compared is compared in one form.

namespace torc::sim {
namespace {

constexpr std::array<std::uint8_t, 16> loopback_v4{127, 0, 0, 1};
constexpr std::array<std::uint8_t, 16> loopback_v6{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
constexpr std::array<std::uint8_t, 12> mapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

}  // namespace

Endpoint Endpoint::from(const sockaddr* address, std::size_t address_bytes) {
    Endpoint made;
    if (address == nullptr || address_bytes < sizeof(sa_family_t)) return made;
    made.family = address->sa_family;
    if (made.family == AF_INET && address_bytes >= sizeof(sockaddr_in)) {
        sockaddr_in v4{};
        std::memcpy(&v4, address, sizeof v4);
        std::memcpy(made.ip.data(), &v4.sin_addr, 4);
        made.port = ntohs(v4.sin_port);
    } else if (made.family == AF_INET6 && address_bytes >= sizeof(sockaddr_in6)) {
        sockaddr_in6 v6{};
        std::memcpy(&v6, address, sizeof v6);
        std::memcpy(made.ip.data(), &v6.sin6_addr, 16);
        made.port = ntohs(v6.sin6_port);
        if (std::ranges::equal(mapped, std::span{made.ip}.first<12>())) {
            made.family = AF_INET;
            made.ip = {made.ip[12], made.ip[13], made.ip[14], made.ip[15]};
        }
    } else if (made.family == AF_UNIX) {
        const auto* const path = reinterpret_cast<const char*>(address) + offsetof(sockaddr_un, sun_path);
        made.path.assign(path, address_bytes - std::min(address_bytes, offsetof(sockaddr_un, sun_path)));
        if (!made.path.empty() && made.path.front() != '\0') made.path = made.path.c_str();
    }
    return made;
}

std::optional<Endpoint> Endpoint::parse(const std::string& text) {
    Endpoint made;
    if (::inet_pton(AF_INET, text.c_str(), made.ip.data()) == 1) {
        made.family = AF_INET;
    } else if (::inet_pton(AF_INET6, text.c_str(), made.ip.data()) == 1) {
        made.family = AF_INET6;
    } else {
        return std::nullopt;
    }
    return made;
}

Endpoint Endpoint::seen_by(int asking) const noexcept {
    if (family != AF_INET || asking != AF_INET6) return *this;
    Endpoint seen = *this;
    seen.family = AF_INET6;
    std::ranges::copy(mapped, seen.ip.begin());
    std::ranges::copy(std::span{ip}.first<4>(), seen.ip.begin() + mapped.size());
    return seen;
}

void Endpoint::write(sockaddr* address, std::uint32_t* address_bytes) const noexcept {
    sockaddr_storage full{};
    std::uint32_t size = sizeof(sa_family_t);
    full.ss_family = static_cast<sa_family_t>(family);
    if (family == AF_INET) {
        auto& v4 = reinterpret_cast<sockaddr_in&>(full);
        std::memcpy(&v4.sin_addr, ip.data(), 4);
        v4.sin_port = htons(port);
        size = sizeof v4;
    } else if (family == AF_INET6) {
        auto& v6 = reinterpret_cast<sockaddr_in6&>(full);
        std::memcpy(&v6.sin6_addr, ip.data(), 16);
        v6.sin6_port = htons(port);
        size = sizeof v6;
    } else if (family == AF_UNIX && !path.empty()) {
        auto& local = reinterpret_cast<sockaddr_un&>(full);
        const std::size_t count = std::min(path.size(), sizeof local.sun_path - 1);
        std::memcpy(local.sun_path, path.data(), count);
        size = static_cast<std::uint32_t>(offsetof(sockaddr_un, sun_path) + count + (path.front() != '\0' ? 1 : 0));
    }
    std::memcpy(address, &full, std::min(*address_bytes, size));
    *address_bytes = size;
}

bool Endpoint::is_loopback() const noexcept {
    return family == AF_INET ? ip[0] == 127 : family == AF_INET6 && ip == loopback_v6;
}

Endpoint Endpoint::reached() const {
    Endpoint there = *this;
    if (is_any()) there.ip = family == AF_INET ? loopback_v4 : loopback_v6;
    return there;
}

bool Endpoint::is_file() const noexcept { return family == AF_UNIX && !path.empty() && path.front() != '\0'; }

}  // namespace torc::sim
