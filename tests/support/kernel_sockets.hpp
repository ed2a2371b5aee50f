#pragma once

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>
#include <string>

#include <netinet/in.h>
#include <sys/socket.h>

#include <torc/net/address.hpp>

/// What the kernel says of one end of a TCP connection, whoever has it.
namespace torc::test {

/// One end, by its own address and the other's.
struct tcp_end {
    net::Address local;
    net::Address peer;
};

/// A keep-alive timer in /proc/net/tcp.
constexpr int keep_alive_timer = 2;

/// Which timer runs for that end (0 for none), as /proc/net/tcp shows it; nothing if there is no such connection. It
/// knows sockets behind direct descriptors, too. Requires: nothing sent is unacknowledged, which has a timer of its
/// own.
inline std::optional<int> timer_of(const tcp_end& end) {
    // Both forms of address are written as the kernel has them in memory, in words of the machine's order.
    auto written = [](const net::Address& address) {
        char text[64];
        std::string all;
        const auto* const raw = reinterpret_cast<const unsigned char*>(address.data());
        const std::size_t at = address.is_v6() ? offsetof(sockaddr_in6, sin6_addr) : offsetof(sockaddr_in, sin_addr);
        for (std::size_t word = 0; word < (address.is_v6() ? 4U : 1U); ++word) {
            std::uint32_t value = 0;
            std::memcpy(&value, raw + at + 4 * word, sizeof value);
            std::snprintf(text, sizeof text, "%08X", value);
            all += text;
        }
        std::snprintf(text, sizeof text, ":%04X", address.port());
        return all + text;
    };
    const std::string wanted = written(end.local) + ' ' + written(end.peer);
    std::ifstream table{end.local.is_v6() ? "/proc/net/tcp6" : "/proc/net/tcp"};
    for (std::string line; std::getline(table, line);) {
        if (line.find(wanted) == std::string::npos) continue;
        std::istringstream words{line};
        std::string number;
        std::string local;
        std::string peer;
        std::string state;
        std::string queues;
        std::string timer;
        words >> number >> local >> peer >> state >> queues >> timer;
        return std::stoi(timer.substr(0, 2), nullptr, 16);
    }
    return std::nullopt;
}

/// An integer option of that end; nothing if the process has no descriptor for it, as where it is a ring's alone.
inline std::optional<int> option_of(const tcp_end& end, int level, int name) {
    for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
        const int fd = std::stoi(entry.path().filename().string());
        auto address = [fd](auto ask) {
            sockaddr_storage storage{};
            socklen_t size = sizeof storage;
            auto* const raw = reinterpret_cast<sockaddr*>(&storage);
            return ask(fd, raw, &size) == 0 ? net::Address::from_sockaddr(raw, size) : net::Address{};
        };
        if (address(::getsockname) != end.local || address(::getpeername) != end.peer) continue;
        int value = 0;
        socklen_t size = sizeof value;
        if (::getsockopt(fd, level, name, &value, &size) == 0) return value;
    }
    return std::nullopt;
}

}  // namespace torc::test
