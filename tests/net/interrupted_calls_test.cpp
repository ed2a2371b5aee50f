#include <doctest/doctest.h>

#include <dlfcn.h>
#include <poll.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <cstdint>
#include <leak_check.hpp>
#include <span>
#include <steps.hpp>
#include <string>

#include <torc/net/udp.hpp>
#include <torc/runtime.hpp>

#include "streams.hpp"

// Goal: a signal that comes while the epoll driver is in a system call changes nothing: no operation ends with it, none
// misses the edge it waits for. Method: this program stands in for the C library. Each call that a signal can interrupt
// says EINTR twice, and does its work the third time.

namespace {

/// The calls that stand in, by name.
enum class call : std::uint8_t { poll, epoll_pwait2, accept4, recv, send, recvmsg, sendmsg, count };
std::array<unsigned, static_cast<std::size_t>(call::count)> calls{};

/// Whether this call is to be interrupted: two of three.
bool interrupts(call which) noexcept {
    const bool interrupted = ++calls[static_cast<std::size_t>(which)] % 3 != 0;
    if (interrupted) errno = EINTR;
    return interrupted;
}
bool was_interrupted(call which) noexcept { return calls[static_cast<std::size_t>(which)] > 0; }

template <class Function>
Function* the_real(const char* name) noexcept {
    return reinterpret_cast<Function*>(::dlsym(RTLD_NEXT, name));
}

}  // namespace

// NOLINTBEGIN(readability-inconsistent-declaration-parameter-name)
extern "C" {

int poll(pollfd* files, nfds_t count, int limit_ms) {
    static auto* const real = the_real<int(pollfd*, nfds_t, int)>("poll");
    return interrupts(call::poll) ? -1 : real(files, count, limit_ms);
}
int epoll_pwait2(int epoll, epoll_event* events, int most, const timespec* limit, const sigset_t* signals) {
    static auto* const real = the_real<int(int, epoll_event*, int, const timespec*, const sigset_t*)>("epoll_pwait2");
    return interrupts(call::epoll_pwait2) ? -1 : real(epoll, events, most, limit, signals);
}
int accept4(int file, sockaddr* address, socklen_t* size_bytes, int flags) {
    static auto* const real = the_real<int(int, sockaddr*, socklen_t*, int)>("accept4");
    return interrupts(call::accept4) ? -1 : real(file, address, size_bytes, flags);
}
ssize_t recv(int file, void* memory, std::size_t size_bytes, int flags) {
    static auto* const real = the_real<ssize_t(int, void*, std::size_t, int)>("recv");
    return interrupts(call::recv) ? -1 : real(file, memory, size_bytes, flags);
}
ssize_t send(int file, const void* memory, std::size_t size_bytes, int flags) {
    static auto* const real = the_real<ssize_t(int, const void*, std::size_t, int)>("send");
    return interrupts(call::send) ? -1 : real(file, memory, size_bytes, flags);
}
ssize_t recvmsg(int file, msghdr* message, int flags) {
    static auto* const real = the_real<ssize_t(int, msghdr*, int)>("recvmsg");
    return interrupts(call::recvmsg) ? -1 : real(file, message, flags);
}
ssize_t sendmsg(int file, const msghdr* message, int flags) {
    static auto* const real = the_real<ssize_t(int, const msghdr*, int)>("sendmsg");
    return interrupts(call::sendmsg) ? -1 : real(file, message, flags);
}
}
// NOLINTEND(readability-inconsistent-declaration-parameter-name)

namespace {

using namespace torc;
using namespace torc::test;
using net::Address;

/// Waits until a descriptor can be read or written.
struct [[nodiscard]] ready : detail::io_awaitable<ready> {
    ready(int file_descriptor, short events) noexcept
        : io_awaitable(op_kind::poll, nullptr), watched{file_descriptor, false} {
        file = &watched;
        flags = events;
    }
    /// Only before it is awaited.
    ready(ready&& other) noexcept : ready(other.watched.value, static_cast<short>(other.flags)) {}
    [[nodiscard]] torc::result<int> take() const {
        const int events = outcome();
        if (events < 0) return std::unexpected{error_from_result(events)};
        return events;
    }
    descriptor watched;
};

}  // namespace

TEST_SUITE("interrupted calls") {
    TEST_CASE("streams connect, are accepted, and move each byte once") {
        run_clean([]() -> task<> {
            const std::string text = pattern(1 << 20);
            for (int round = 0; round < 8; ++round) {
                StreamPair pair = co_await connected_streams();
                const auto sending = [&]() -> task<> {
                    co_await pair.client.send(text);
                    co_await pair.client.shutdown_write();
                };
                const auto receiving = [&]() -> task<std::string> {
                    if (round % 2 == 0) co_return co_await read_slices(pair.server, text.size() + 1);
                    co_return co_await read_into(pair.server, text.size() + 1, 30'000);
                };
                const auto [sent, received] = co_await gather(sending(), receiving());
                CHECK(received == text);
            }
        });
        for (const call which : {call::poll, call::epoll_pwait2, call::accept4, call::recv, call::send}) {
            CHECK(was_interrupted(which));
        }
    }

    TEST_CASE("datagrams are sent and received") {
        run_clean([]() -> task<> {
            net::UdpSocket one = net::UdpSocket::bind(Address::loopback(0));
            for (int round = 0; round < 8; ++round) {
                const std::string text = pattern(100);
                std::array<std::byte, 200> memory;
                const auto sending = [&]() -> task<> {
                    co_await turns(round % 3);
                    co_await one.send_to(std::as_bytes(std::span{text}), one.local());
                };
                const auto [sent, datagram] = co_await gather(sending(), one.receive_from(memory));
                CHECK(datagram.size_bytes == text.size());
            }
        });
        CHECK(was_interrupted(call::recvmsg));
        CHECK(was_interrupted(call::sendmsg));
    }

    TEST_CASE("a wait for readiness ends when there is something to read") {
        run_clean([]() -> task<> {
            std::array<int, 2> ends{};
            REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends.data()) == 0);
            for (int round = 0; round < 8; ++round) {
                const auto filling = [&]() -> task<> {
                    co_await driver_turns(round % 3);
                    CHECK(::write(ends[0], "x", 1) == 1);
                };
                const auto [filled, events] = co_await gather(filling(), ready{ends[1], POLLIN});
                CHECK(events == POLLIN);
                char taken = 0;
                CHECK(::read(ends[1], &taken, 1) == 1);
            }
            for (const int end : ends) ::close(end);
        });
    }
}
