#include <torc/net/stream.hpp>

#include <doctest/doctest.h>

#include <array>
#include <leak_check.hpp>
#include <reset.hpp>
#include <steps.hpp>
#include <string>

#include <sys/socket.h>
#include <unistd.h>

#include <torc/net/listener.hpp>
#include <torc/net/udp.hpp>
#include <torc/runtime/as_result.hpp>
#include <torc/runtime/gather.hpp>

// Goal: what the kernel says at the ends of connections and about addresses, the same on every driver: the simulation
// is held to what Linux does. Method: both ends on one executor, over loopback.

namespace {

using torc::as_result;
using torc::task;
using torc::net::Address;
using torc::net::ListenOptions;
using torc::net::TcpListener;
using torc::net::TcpStream;
using torc::net::UdpSocket;
using torc::net::UnixStream;
using namespace torc::test;

struct Pair {
    TcpStream client;
    TcpStream server;
};

task<Pair> connected() {
    TcpListener listener = TcpListener::bind(Address::loopback(0));
    TcpStream client = co_await TcpStream::connect(listener.local());
    TcpStream server = co_await listener.accept();
    co_return Pair{std::move(client), std::move(server)};
}

/// What one receive brings: its bytes, "" for the end, or the error in angle brackets.
template <class Stream>
task<std::string> receive(Stream& stream) {
    std::array<char, 64> bytes{};
    const auto count = co_await as_result(stream.receive(std::as_writable_bytes(std::span{bytes})));
    if (!count) co_return '<' + count.error().code().message() + '>';
    co_return std::string{bytes.data(), *count};
}

template <class Stream>
task<std::string> send(Stream& stream) {
    const auto sent = co_await as_result(stream.send("x"));
    co_return sent ? "" : '<' + sent.error().code().message() + '>';
}

/// Sends until that fails: a reset takes its time.
template <class Stream>
task<std::string> send_until_failure(Stream& stream) {
    for (;;) {
        std::string failed = co_await send(stream);
        if (!failed.empty()) co_return failed;
        co_await driver_turns(1);
    }
}

/// Reads without taking, so that what follows is known to have arrived.
task<> arrival(TcpStream& stream) {
    struct peek final : torc::detail::io_awaitable<peek> {
        explicit peek(torc::descriptor& from) : io_awaitable(torc::op_kind::receive, &from) {
            address = &byte;
            length = 1;
            flags = MSG_PEEK;
        }
        torc::result<int> take() { return outcome(); }
        char byte = 0;
    };
    peek looking{stream.record().file()};
    static_cast<void>(co_await looking);
}

std::string bind_failure(const Address& where, const ListenOptions& options = {}) {
    try {
        static_cast<void>(TcpListener::bind(where, options));
    } catch (const torc::Error& error) {
        return error.code().message();
    }
    return {};
}

const std::string reset = "<Connection reset by peer>";
const std::string broken = "<Broken pipe>";

}  // namespace

TEST_SUITE("socket semantics") {
    TEST_CASE("what was sent before an orderly end arrives before it, and the end stays") {
        run_clean([]() -> task<> {
            Pair pair = co_await connected();
            co_await pair.client.send("last words");
            co_await pair.client.close();
            CHECK(co_await receive(pair.server) == "last words");
            CHECK(co_await receive(pair.server) == "");
            CHECK(co_await receive(pair.server) == "");
        });
    }

    TEST_CASE("an end of one direction leaves the other open") {
        run_clean([]() -> task<> {
            Pair pair = co_await connected();
            co_await pair.client.shutdown_write();
            CHECK(co_await receive(pair.server) == "");
            co_await pair.server.send("still there");
            CHECK(co_await receive(pair.client) == "still there");
            CHECK(co_await send(pair.client) == broken);
            co_await pair.server.close();
            CHECK(co_await receive(pair.client) == "");
        });
    }

    TEST_CASE("who sends to a peer that closed has its first send taken, and is told by the next") {
        run_clean([]() -> task<> {
            Pair pair = co_await connected();
            co_await pair.server.close();
            CHECK(co_await receive(pair.client) == "");
            CHECK(co_await send(pair.client) == "");
            CHECK(co_await send_until_failure(pair.client) == broken);
            CHECK(co_await receive(pair.client) == "");
        });
    }

    TEST_CASE("who waits for an answer of a peer that had closed before its own end arrived is reset") {
        run_clean([]() -> task<> {
            Pair pair = co_await connected();
            auto ask = [&]() -> task<> {
                co_await pair.client.send("question");
                co_await pair.client.send("more");
            };
            co_await pair.server.shutdown_write();
            co_await ask();
            co_await arrival(pair.server);
            co_await pair.server.close();  // with the question unread
            CHECK(co_await receive(pair.client) == "");
            CHECK(co_await send_until_failure(pair.client) == broken);
        });
    }

    TEST_CASE("closing with something unread resets the peer") {
        run_clean([]() -> task<> {
            Pair pair = co_await connected();
            co_await pair.client.send("never read");
            co_await arrival(pair.server);
            co_await pair.server.close();
            CHECK(co_await receive(pair.client) == reset);
            CHECK(co_await send(pair.client) == broken);
        });
    }

    TEST_CASE("a socket that may not linger resets its peer though all was read, behind what it sent") {
        run_clean([]() -> task<> {
            Pair pair = co_await connected();
            co_await pair.server.send("answer");
            co_await arrival(pair.client);
            co_await make_close_a_reset(pair.server);
            co_await pair.server.close();
            CHECK(co_await receive(pair.client) == "answer");
            CHECK(co_await receive(pair.client) == reset);
        });
    }

    TEST_CASE("what arrived before a reset is still received") {
        run_clean([]() -> task<> {
            Pair pair = co_await connected();
            co_await pair.client.send("never read");
            co_await pair.server.send("answer");
            co_await arrival(pair.server);
            co_await arrival(pair.client);
            co_await pair.server.close();
            CHECK(co_await receive(pair.client) == "answer");
            CHECK(co_await receive(pair.client) == reset);
        });
    }

    TEST_CASE("a send that meets a reset says so once; then the pipe is broken") {
        run_clean([]() -> task<> {
            Pair pair = co_await connected();
            co_await pair.client.send("never read");
            co_await arrival(pair.server);
            co_await pair.server.close();
            CHECK(co_await send_until_failure(pair.client) == reset);
            CHECK(co_await send(pair.client) == broken);
        });
    }

    TEST_CASE("a connection that nobody accepted is reset when its listener closes") {
        run_clean([]() -> task<> {
            TcpListener listener = TcpListener::bind(Address::loopback(0));
            TcpStream client = co_await TcpStream::connect(listener.local());
            co_await listener.close();
            CHECK(co_await receive(client) == reset);
        });
    }

    TEST_CASE("each end calls the other what that calls itself") {
        run_clean([]() -> task<> {
            Pair pair = co_await connected();
            CHECK(pair.client.peer() == pair.server.local());
            CHECK(pair.server.peer().is_loopback());
            CHECK(pair.server.peer().port() != 0);
            CHECK(pair.server.peer() != pair.server.local());
        });
    }

    TEST_CASE("connecting to no address in particular reaches this host") {
        run_clean([]() -> task<> {
            TcpListener listener = TcpListener::bind(Address::any(0));
            const TcpStream client = co_await TcpStream::connect(Address::any(listener.local().port()));
            TcpStream server = co_await listener.accept();
            CHECK(server.peer().ip_string() == "127.0.0.1");
            CHECK(server.local().ip_string() == "127.0.0.1");
        });
    }

    TEST_CASE("a listener on any IPv6 address sees IPv4 peers under mapped addresses") {
        run_clean([]() -> task<> {
            TcpListener listener = TcpListener::bind(Address::any_v6(0));
            const TcpStream client = co_await TcpStream::connect(Address::loopback(listener.local().port()));
            TcpStream server = co_await listener.accept();
            CHECK(server.peer().ip_string() == "::ffff:127.0.0.1");
            CHECK(server.local().ip_string() == "::ffff:127.0.0.1");
        });
    }

    TEST_CASE("a mapped address leads to the IPv4 one") {
        run_clean([]() -> task<> {
            TcpListener listener = TcpListener::bind(Address::loopback(0));
            const auto mapped = Address::parse_ip("::ffff:127.0.0.1", listener.local().port()).value();
            const TcpStream client = co_await TcpStream::connect(mapped);
            TcpStream server = co_await listener.accept();
            CHECK(server.peer().ip_string() == "127.0.0.1");
        });
    }

    TEST_CASE("who may listen beside whom on a port") {
        run_clean([]() -> task<> {
            const std::string taken = "Address already in use";
            const ListenOptions shared{.reuse_port = true};
            const ListenOptions v6_alone{.v6_only = true};
            {
                const TcpListener both = TcpListener::bind(Address::any_v6(0));
                const std::uint16_t port = both.local().port();
                CHECK(bind_failure(Address::any(port)) == taken);
                CHECK(bind_failure(Address::loopback(port)) == taken);
                CHECK(bind_failure(Address::loopback_v6(port)) == taken);
                CHECK(bind_failure(Address::any_v6(port), v6_alone) == taken);
                CHECK(bind_failure(Address::any_v6(port), shared) == taken);
            }
            // The other family's port of that number may be another program's just now, but not each time.
            int beside_v6 = 0;
            int beside_v4 = 0;
            for (int tries = 0; tries < 20; ++tries) {
                const TcpListener v6 = TcpListener::bind(Address::any_v6(0), v6_alone);
                beside_v6 += bind_failure(Address::any(v6.local().port())).empty() ? 1 : 0;
                const TcpListener one = TcpListener::bind(Address::loopback(0), shared);
                CHECK(bind_failure(one.local(), shared) == "");
                CHECK(bind_failure(one.local()) == taken);
                CHECK(bind_failure(Address::any(one.local().port())) == taken);
                beside_v4 += bind_failure(Address::loopback_v6(one.local().port())).empty() ? 1 : 0;
            }
            CHECK(beside_v6 > 0);
            CHECK(beside_v4 > 0);
            co_return;
        });
    }

    TEST_CASE("unix sockets: no file, nobody behind it, and a peer that went") {
        const std::string path = "/tmp/torc-semantics-" + std::to_string(::getpid());
        run_clean([&]() -> task<> {
            const Address where = Address::unix_socket(path);
            auto connect = [&]() -> task<std::string> {
                const auto made = co_await as_result(UnixStream::connect(where));
                co_return made ? "" : made.error().code().message();
            };
            CHECK(co_await connect() == "No such file or directory");
            TcpListener listener = TcpListener::bind(where);
            UnixStream first = co_await UnixStream::connect(where);
            TcpStream first_server = co_await listener.accept();
            co_await first.send("unread");
            co_await first_server.close();
            CHECK(co_await send(first) == broken);  // nothing has to travel for it
            CHECK(co_await receive(first) == reset);
            UnixStream second = co_await UnixStream::connect(where);
            TcpStream second_server = co_await listener.accept();
            co_await second_server.send("bye");
            co_await second_server.close();
            CHECK(co_await send(second) == broken);
            CHECK(co_await receive(second) == "bye");
            CHECK(co_await receive(second) == "");
            co_await listener.close();
            CHECK(co_await connect() == "Connection refused");
            CHECK(bind_failure(where) == "Address already in use");
        });
        ::unlink(path.c_str());
    }

    TEST_CASE("of two sockets on a port the one with the datagram's address gets it") {
        run_clean([]() -> task<> {
            UdpSocket sender = UdpSocket::bind(Address::loopback(0));
            UdpSocket on_v6 = UdpSocket::bind(Address::loopback_v6(0));
            UdpSocket other = UdpSocket::bind(Address::v4({127, 0, 0, 2}, on_v6.local().port()));
            UdpSocket mine = UdpSocket::bind(Address::loopback(on_v6.local().port()));
            const std::array<std::byte, 3> bytes{};
            co_await sender.send_to(bytes, mine.local());
            std::array<std::byte, 8> buffer{};
            const auto [size_bytes, from, truncated] = co_await mine.receive_from(buffer);
            CHECK(size_bytes == 3);
            CHECK(from == sender.local());
        });
    }
}
