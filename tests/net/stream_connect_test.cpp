#include <doctest/doctest.h>

#include <unistd.h>

#include <blocking_peer.hpp>
#include <plug.hpp>
#include <steps.hpp>
#include <string>
#include <vector>

#include <torc/net/listener.hpp>
#include <torc/net/stream.hpp>
#include <torc/runtime/as_result.hpp>
#include <torc/runtime/race.hpp>
#include <torc/runtime/scope.hpp>
#include <torc/runtime/timeout.hpp>

#include "streams.hpp"

// Connecting, to one address and to several, where somebody answers, refuses, or says nothing.

namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using torc::as_result;
using torc::errc;
using torc::scope;
using torc::task;
using torc::net::Address;
using torc::net::ConnectOptions;
using torc::net::TcpStream;
using torc::net::UnixStream;
using namespace torc::test;

}  // namespace

TEST_CASE("connecting where nobody listens is refused, in words") {
    const Address dead = dead_address();
    run_clean([&]() -> task<> {
        const auto refused = co_await as_result(TcpStream::connect(dead));
        REQUIRE_FALSE(refused.has_value());
        CHECK(refused.error().code() == std::errc::connection_refused);
        CHECK(refused.error().where() == torc::phase::connect);
        CHECK(refused.error().peer() == dead.to_string());
        CHECK(std::string{refused.error().what()} == "connect: " + dead.to_string() + ": connection refused");
        CHECK(torc::Executor::here().statistics().open_descriptors == 0);
    });
}

TEST_CASE("connecting where nobody answers times out, in words, and can be cancelled") {
    const SilentAddress silent;
    run_clean([&]() -> task<> {
        const auto late =
            co_await as_result(TcpStream::connect(silent.address(), ConnectOptions{.timeout = milliseconds{5}}));
        REQUIRE_FALSE(late.has_value());
        CHECK(late.error().code() == errc::timed_out);
        CHECK(late.error().where() == torc::phase::connect);
        CHECK(late.error().peer() == silent.address().to_string());
        CHECK(std::string_view{late.error().what()}.find("timed out") != std::string_view::npos);
        for (int wait = 0; wait < 6; ++wait) {
            co_await torc::with_scope([&](scope& here) -> task<> {
                here.spawn(discard(TcpStream::connect(silent.address(), ConnectOptions{.timeout = hours{1}})));
                co_await driver_turns(wait);
                here.cancel();
            });
        }
    });
}

TEST_CASE("hundreds of connects that nobody answers are cancelled at once, however far each has got") {
    const SilentAddress silent;
    run_clean([&]() -> task<> {
        auto connect = [&](int later) -> task<> {
            co_await turns(later);
            static_cast<void>(co_await TcpStream::connect(silent.address(), ConnectOptions{.timeout = hours{1}}));
        };
        for (int wait = 0; wait < 12; ++wait) {
            co_await torc::with_scope([&](scope& here) -> task<> {
                for (int count = 0; count < 300; ++count) {
                    here.spawn(connect(count % 3));
                    if (count % 50 == 0) co_await driver_turns(1);
                }
                if (wait % 2 != 0) co_await driver_turns(wait);
                here.cancel();
            });
            CHECK(torc::Executor::here().statistics().open_descriptors == 0);
        }
    });
}

TEST_CASE("an outer limit that cuts a connect is the outer one's timeout") {
    const SilentAddress silent;
    run_clean([&]() -> task<> {
        const auto late = co_await as_result(torc::with_timeout(milliseconds{2}, TcpStream::connect(silent.address())));
        REQUIRE_FALSE(late.has_value());
        CHECK(late.error().code() == errc::timed_out);
        CHECK(late.error().where() == torc::phase::none);
    });
}

TEST_CASE("of several addresses the one that answers is taken, dead and silent ones are stepped over") {
    PeerServer server;
    const SilentAddress silent;
    run_clean([&]() -> task<> {
        std::vector<Address> addresses;
        addresses.push_back(dead_address());
        addresses.push_back(server.address());
        TcpStream stream = co_await TcpStream::connect(addresses, ConnectOptions{.attempt_delay = hours{1}});
        CHECK(stream.peer() == server.address());
        addresses.insert(addresses.begin(), silent.address());
        TcpStream second = co_await TcpStream::connect(addresses, ConnectOptions{.attempt_delay = milliseconds{1}});
        CHECK(second.peer() == server.address());
        CHECK(torc::Executor::here().statistics().open_descriptors == 2);  // the losers are closed
        co_await second.send("x");
        CHECK(co_await read_slices(second, 1) == "x");
    });
}

TEST_CASE("when all addresses fail, one failure is thrown with the others attached") {
    run_clean([&]() -> task<> {
        std::vector<Address> addresses;
        for (int index = 0; index < 3; ++index) addresses.push_back(dead_address());
        const auto failed = co_await as_result(TcpStream::connect(addresses));
        REQUIRE_FALSE(failed.has_value());
        CHECK(failed.error().code() == std::errc::connection_refused);
        CHECK(failed.error().peer() == addresses[0].to_string());
        CHECK(failed.error().attached().size() == 2);
    });
}

TEST_CASE("connecting to a unix socket whose backlog is full can be cancelled, and has its limit") {
    const std::string path = "/tmp/torc-backlog-" + std::to_string(::getpid());
    ::unlink(path.c_str());
    run_clean([&]() -> task<> {
        if (torc::Executor::here().driver().name() != "uring") {
            MESSAGE("skipped: only on io_uring does a connect wait for room in a backlog");
            co_return;
        }
        torc::net::TcpListener listener =
            torc::net::TcpListener::bind(Address::unix_socket(path), {.backlog = 1, .unlink_first = true});
        std::vector<UnixStream> all;
        for (int each = 0; each < 2; ++each) all.push_back(co_await UnixStream::connect(listener.local()));
        ConnectOptions options;
        options.timeout = milliseconds{10};
        CHECK(co_await code_of(discard(UnixStream::connect(listener.local(), options))) == errc::timed_out);
        const auto raced = co_await torc::race(discard(UnixStream::connect(listener.local())), turns(20));
        CHECK(raced.index() == 1);
        bool left = false;
        co_await torc::with_scope([&](scope& here) -> task<> {
            here.spawn(discard(UnixStream::connect(listener.local())));
            co_await driver_turns(20);
            here.cancel();
            left = true;
        });
        CHECK(left);
    });
    ::unlink(path.c_str());
}

TEST_CASE("with the plug pulled at any await of connecting to a silent address, the connect ends") {
    const SilentAddress silent;
    pull_the_plug([&]() -> task<> {
        std::vector<Address> addresses(2, silent.address());
        const auto late = co_await as_result(TcpStream::connect(
            addresses, ConnectOptions{.timeout = milliseconds{4}, .attempt_delay = milliseconds{1}}));
        CHECK_FALSE(late.has_value());
    });
}
