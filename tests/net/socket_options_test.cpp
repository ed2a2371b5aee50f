#include <doctest/doctest.h>

#include <kernel_sockets.hpp>
#include <leak_check.hpp>
#include <optional>
#include <string>
#include <vector>

#include <netinet/in.h>
#include <netinet/tcp.h>

#include <torc/http/session.hpp>
#include <torc/net/listener.hpp>
#include <torc/net/stream.hpp>
#include <torc/runtime/as_result.hpp>
#include <torc/runtime/gather.hpp>

// What the options of connecting and listening do to the sockets, as the kernel tells it: keep-alive by the timer that
// /proc/net/tcp shows, which knows sockets behind direct descriptors as well; TCP_NODELAY by asking the descriptor,
// where the process has one.

namespace {

using torc::task;
using torc::net::Address;
using torc::net::ConnectOptions;
using torc::net::ListenOptions;
using torc::net::TcpListener;
using torc::net::TcpStream;
using namespace torc::test;

/// What is to be seen of both ends of a connection that was made with these options.
struct Seen {
    bool client_keeps_alive = false;
    bool server_keeps_alive = false;
    std::optional<int> client_no_delay;  // a direct descriptor can not be asked
    std::optional<int> server_no_delay;
    std::string driver;
};

task<Seen> see(ConnectOptions connect, ListenOptions listen, Address where) {
    TcpListener listener = TcpListener::bind(where, listen);
    const TcpStream client = co_await TcpStream::connect(listener.local(), connect);
    TcpStream server = co_await listener.accept();
    const tcp_end near{server.peer(), server.local()};
    const tcp_end far{server.local(), server.peer()};
    const std::optional<int> client_timer = timer_of(near);
    const std::optional<int> server_timer = timer_of(far);
    REQUIRE(client_timer.has_value());
    REQUIRE(server_timer.has_value());
    Seen seen;
    seen.client_keeps_alive = *client_timer == keep_alive_timer;
    seen.server_keeps_alive = *server_timer == keep_alive_timer;
    seen.client_no_delay = option_of(near, IPPROTO_TCP, TCP_NODELAY);
    seen.server_no_delay = option_of(far, IPPROTO_TCP, TCP_NODELAY);
    seen.driver = torc::Executor::here().driver().name();
    co_return seen;
}

Seen seen(ConnectOptions connect = {}, ListenOptions listen = {}, Address where = Address::loopback(0)) {
    return run_clean([&] { return see(connect, listen, where); });
}

}  // namespace

TEST_CASE("an accepted stream sends small writes at once, unless the listener was told otherwise") {
    CHECK(seen().server_no_delay == 1);
    ListenOptions listen;
    listen.no_delay = false;
    CHECK(seen({}, listen).server_no_delay == 0);
    CHECK(seen({}, listen, Address::loopback_v6(0)).server_no_delay == 0);
    CHECK(seen({}, {}, Address::loopback_v6(0)).server_no_delay == 1);
}

TEST_CASE("a stream that connected sends small writes at once, unless it was told otherwise") {
    const Seen by_default = seen();
    if (by_default.driver == "epoll") REQUIRE(by_default.client_no_delay.has_value());
    CHECK(by_default.client_no_delay.value_or(1) == 1);
    ConnectOptions connect;
    connect.no_delay = false;
    CHECK(seen(connect).client_no_delay.value_or(0) == 0);
    connect.keep_alive = true;
    CHECK(seen(connect, {}, Address::loopback_v6(0)).client_no_delay.value_or(0) == 0);
    connect.no_delay = true;
    CHECK(seen(connect, {}, Address::loopback_v6(0)).client_no_delay.value_or(1) == 1);
}

TEST_CASE("an idle connection is kept alive where that was asked for, and not otherwise") {
    ConnectOptions connect;
    CHECK_FALSE(seen(connect).client_keeps_alive);
    for (const bool no_delay : {true, false}) {
        CAPTURE(no_delay);
        connect = {.no_delay = no_delay, .keep_alive = true};
        const Seen asked = seen(connect);
        CHECK(asked.client_keeps_alive);
        CHECK_FALSE(asked.server_keeps_alive);
        CHECK(seen(connect, {}, Address::loopback_v6(0)).client_keeps_alive);
    }
}

TEST_CASE("a stream can be told later whether to send small writes at once") {
    run_clean([]() -> task<> {
        TcpListener listener = TcpListener::bind(Address::loopback(0));
        TcpStream client = co_await TcpStream::connect(listener.local(), {.no_delay = false});
        TcpStream server = co_await listener.accept();
        const tcp_end near{server.peer(), server.local()};
        for (const int wanted : {1, 0, 1}) {
            co_await client.set_no_delay(wanted == 1);
            CHECK(option_of(near, IPPROTO_TCP, TCP_NODELAY).value_or(wanted) == wanted);
            co_await server.set_no_delay(wanted == 1);
            CHECK(option_of({near.peer, near.local}, IPPROTO_TCP, TCP_NODELAY) == wanted);
        }
        co_await client.close();
        const auto refused = co_await torc::as_result(client.set_no_delay(true));
        REQUIRE_FALSE(refused);
        CHECK(refused.error().code() == torc::errc::closed);
    });
}

TEST_CASE("a session sets no option for requests that are one write, and sends the pieces of streamed ones at once") {
    run_clean([]() -> task<> {
        TcpListener listener = TcpListener::bind(Address::loopback(0));
        std::vector<int> set;  // for each request
        auto site = [&]() -> task<> {
            TcpStream visitor = co_await listener.accept();
            const tcp_end near{visitor.peer(), visitor.local()};
            const std::string_view driver = torc::Executor::here().driver().name();
            for (const std::size_t body_bytes : {0, 100, 200'000, 300, 0}) {
                for (std::string seen; !seen.contains("\r\n\r\n") || seen.size() < body_bytes;) {
                    const torc::BufferSlice piece = co_await visitor.receive();
                    seen.append(reinterpret_cast<const char*>(piece.bytes().data()), piece.bytes().size());
                }
                const std::optional<int> option = option_of(near, IPPROTO_TCP, TCP_NODELAY);
                if (driver == "epoll") REQUIRE(option.has_value());
                set.push_back(option.value_or(set.size() > 2 ? 1 : 0));
                co_await visitor.send("HTTP/1.1 204 No Content\r\n\r\n");
            }
        };
        auto visit = [&]() -> task<> {
            torc::http::AsyncSession session{"http://" + listener.local().to_string()};
            co_await session.get("/");
            co_await session.post("/", std::string(100, 'x'));
            co_await session.post("/", std::string(200'000, 'x'));
            torc::http::Request streamed;
            streamed.method = "POST";
            streamed.stream.emplace();
            streamed.stream->length = 300;
            const std::string piece(100, 'x');
            int pieces = 0;
            streamed.stream->next = [&]() -> task<std::span<const std::byte>> {
                co_return std::as_bytes(std::span{piece}).first(pieces++ < 3 ? piece.size() : 0);
            };
            co_await session.request(std::move(streamed));
            co_await session.get("/");
        };
        co_await torc::gather(site(), visit());
        CHECK(set == std::vector<int>{0, 0, 0, 1, 1});
    });
}
