// Connecting while the name is looked up, on the machine's own loopback and against a name server that holds answers
// back. Delays are an hour where a test is about what ends them, so that it can not pass by waiting; what is about time
// itself is in sim/names_test.cpp.

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <doctest/doctest.h>
#include <torc/http/session.hpp>
#include <torc/net/listener.hpp>
#include <torc/net/resolver.hpp>
#include <torc/net/stream.hpp>
#include <torc/runtime/as_result.hpp>
#include <torc/runtime/gather.hpp>
#include <torc/runtime/offload.hpp>
#include <torc/runtime/race.hpp>
#include <torc/runtime/time.hpp>

#include "dns_server.hpp"
#include "leak_check.hpp"

using namespace std::chrono_literals;
using torc::task;
using torc::net::Address;
using torc::net::Resolver;
using torc::net::TcpListener;
using torc::net::TcpStream;
using torc::test::DnsRecords;
using torc::test::DnsServer;

namespace {

/// Listens on one port of both loopback addresses, or of one of them.
struct Listeners {
    std::optional<TcpListener> v4;
    std::optional<TcpListener> v6;
    std::uint16_t port = 0;

    static Listeners both() {
        for (;;) {
            Listeners made;
            made.v4.emplace(TcpListener::bind(Address::loopback(0)));
            made.port = made.v4->local().port();
            try {
                made.v6.emplace(TcpListener::bind(Address::loopback_v6(made.port)));
                return made;
            } catch (const torc::Error& error) {
                if (error.code() != std::errc::address_in_use) throw;
            }
        }
    }
    static Listeners only_v4() {
        Listeners made = both();
        made.v6.reset();
        return made;
    }
};

Resolver& resolver() { return Resolver::of(torc::Executor::here()); }

torc::net::ConnectOptions patient() {
    torc::net::ConnectOptions options;
    options.resolution_delay = options.attempt_delay = 1h;
    options.timeout = 1h;
    return options;
}

/// Runs `body`, whose names are those of `server`.
void with_names(const DnsServer& server, const std::function<task<>()>& body) {
    torc::test::run_clean([&]() -> task<> {
        const auto configured = [](const DnsServer& names, const std::function<task<>()>& inner) -> task<> {
            torc::net::ResolverOptions options;
            options.servers = {names.address()};
            options.hosts_file = "/nonexistent/hosts";
            options.timeout = 1h;
            options.tries = 1;
            resolver().configure(options);
            co_await inner();
        };
        return configured(server, body);
    });
}

/// The address that was connected to, or the error in words.
task<std::string> connected(std::string host, std::uint16_t port, torc::net::ConnectOptions options = patient()) {
    auto stream = co_await torc::as_result(TcpStream::connect(std::move(host), port, options));
    if (!stream) co_return std::string{stream.error().what()};
    co_return stream->peer().ip_string();
}

task<> asked(DnsServer& server, std::string name, std::size_t count) {
    const auto wait = [&server, &name, count] { server.wait_for_questions(name, count); };
    co_await torc::offload(wait);
}

task<> release_when_asked(DnsServer& server, std::string name) {
    co_await asked(server, name, 2);
    server.release(name);
}

const DnsRecords both_families{.a = {"127.0.0.1"}, .aaaa = {"::1"}};

DnsRecords both_but(std::uint16_t type, const std::function<void(DnsRecords&)>& change) {
    DnsRecords records = both_families;
    records.only = type;
    change(records);
    return records;
}

void be_silent(DnsRecords& records) { records.silent = true; }
void be_held(DnsRecords& records) { records.held = true; }
void be_broken(DnsRecords& records) { records.rcode = 2; }
void be_absent(DnsRecords& records) { records.rcode = 3; }

}  // namespace

TEST_CASE("a name server that is silent about IPv6 does not keep IPv4 from being connected to") {
    DnsServer server;
    server.set("site.test", both_but(DnsRecords::type_aaaa, be_silent));
    with_names(server, []() -> task<> {
        const Listeners listeners = Listeners::both();
        torc::net::ConnectOptions options = patient();
        options.resolution_delay = 1ms;
        const std::string peer = co_await connected("site.test", listeners.port, options);
        CHECK(peer == "127.0.0.1");
        CHECK(resolver().statistics().lookups == 2);
        CHECK(resolver().statistics().abandoned == 1);
    });
}

TEST_CASE("a name server that is silent about IPv4 keeps nobody from anything") {
    DnsServer server;
    server.set("site.test", both_but(DnsRecords::type_a, be_silent));
    with_names(server, []() -> task<> {
        const Listeners listeners = Listeners::both();
        const std::string peer = co_await connected("site.test", listeners.port);
        CHECK(peer == "::1");
        CHECK(resolver().statistics().abandoned == 1);
    });
}

TEST_CASE("IPv6 addresses that come second, but in time, are tried first") {
    DnsServer server;
    server.set("site.test", both_but(DnsRecords::type_aaaa, be_held));
    with_names(server, [&]() -> task<> {
        const Listeners listeners = Listeners::both();
        const auto [peer, released] =
            co_await torc::gather(connected("site.test", listeners.port), release_when_asked(server, "site.test"));
        CHECK(peer == "::1");
    });
}

TEST_CASE("IPv4 addresses that come when connecting has begun are used when it fails") {
    DnsServer server;
    server.set("site.test", both_but(DnsRecords::type_a, be_held));
    with_names(server, [&]() -> task<> {
        const Listeners listeners = Listeners::only_v4();
        torc::net::Resolution names = resolver().look_up("site.test", listeners.port);
        co_await names.usable(1h);
        // From here on who waits for the name has nothing else to wait for: the attempt has failed.
        const auto release_when_awaited = [](DnsServer& held) -> task<> {
            while (torc::Executor::here().dump_tasks().find("resolve site.test") == std::string::npos) {
                co_await torc::yield();
            }
            held.release("site.test");
        };
        auto connecting = TcpStream::connect(std::move(names), patient());
        auto [stream, released] = co_await torc::gather(std::move(connecting), release_when_awaited(server));
        CHECK(stream.peer().ip_string() == "127.0.0.1");
    });
}

TEST_CASE("a family that fails or does not exist ends the waiting for it") {
    for (const auto& change : {be_broken, be_absent}) {
        DnsServer server;
        server.set("four.test", both_but(DnsRecords::type_aaaa, change));
        server.set("six.test", both_but(DnsRecords::type_a, change));
        with_names(server, []() -> task<> {
            const Listeners listeners = Listeners::both();
            const std::string four = co_await connected("four.test", listeners.port);
            CHECK(four == "127.0.0.1");
            const std::string six = co_await connected("six.test", listeners.port);
            CHECK(six == "::1");
        });
    }
}

TEST_CASE("without an address of either family it is the look-up that fails") {
    DnsServer server;
    server.set("broken.test", {.rcode = 2});
    server.set("empty.test", {});
    with_names(server, []() -> task<> {
        std::string said = co_await connected("broken.test", 80);
        CHECK(said == "resolve: broken.test: the name servers could not find out (they answered SERVFAIL)");
        said = co_await connected("nosuch.test", 80);
        CHECK(said == "resolve: nosuch.test: no such name");
        said = co_await connected("empty.test", 80);
        CHECK(said == "resolve: empty.test: the name has no address");
        said = co_await connected("a..b", 80);
        CHECK(said == "resolve: a..b: the name of the host has an empty part between its dots");
    });
}

TEST_CASE("when no attempt succeeds all of them are told, and that a family could not be looked up") {
    DnsServer server;
    server.set("site.test", both_but(DnsRecords::type_aaaa, be_broken));
    with_names(server, []() -> task<> {
        std::uint16_t port = 0;
        {
            const Listeners gone = Listeners::both();
            port = gone.port;
        }
        const auto stream = co_await torc::as_result(TcpStream::connect("site.test", port, patient()));
        REQUIRE_FALSE(stream);
        CHECK(stream.error().code() == std::errc::connection_refused);
        CHECK(stream.error().where() == torc::phase::connect);
        REQUIRE(stream.error().attached().size() == 1);
        try {
            std::rethrow_exception(stream.error().attached().front());
        } catch (const torc::Error& other) {
            CHECK(other.code() == torc::errc::resolver_failed);
            CHECK(std::string{other.what()} ==
                  "resolve: site.test: IPv6 addresses: the name servers could not find out (they answered SERVFAIL)");
        }
    });
}

TEST_CASE("one who is cancelled while connecting leaves no question open") {
    for (const std::uint16_t held : {std::uint16_t{0}, DnsRecords::type_aaaa, DnsRecords::type_a}) {
        DnsServer server;
        server.set("site.test", both_but(held, be_held));
        with_names(server, [&]() -> task<> {
            std::uint16_t port = 0;
            {
                const Listeners gone = Listeners::both();
                port = gone.port;
            }
            // It waits for both answers, for the better one, or for the one that is left when nobody listens.
            const auto first = co_await torc::race(connected("site.test", port), asked(server, "site.test", 2));
            CHECK(first.index() == 1);
            CHECK(resolver().statistics().abandoned >= 1);
            // Another one begins anew.
            server.release("site.test");
            const Listeners listeners = Listeners::both();
            const std::string peer = co_await connected("site.test", listeners.port);
            CHECK(peer == "::1");
        });
    }
}

TEST_CASE("what needs no name server is connected to in the same way") {
    DnsServer server;
    with_names(server, [&]() -> task<> {
        const Listeners listeners = Listeners::only_v4();
        torc::net::ResolverOptions options = resolver().options();
        options.entries = {{.host = "entry.test",
                            .port = 0,
                            .addresses = {Address::loopback_v6(1), Address::loopback_v6(1), Address::loopback(1)}}};
        resolver().configure(options);
        for (const std::string host : {"127.0.0.1", "localhost", "entry.test"}) {
            CAPTURE(host);
            const std::string peer = co_await connected(host, listeners.port);
            CHECK(peer == "127.0.0.1");
        }
        CHECK(resolver().statistics().answered_locally == 3);
        CHECK(resolver().statistics().lookups == 0);
    });
}

TEST_CASE("a session opens while a name server is silent about one family") {
    for (const std::uint16_t type : {DnsRecords::type_a, DnsRecords::type_aaaa}) {
        DnsServer server;
        server.set("site.test", both_but(type, be_silent));
        with_names(server, [&]() -> task<> {
            Listeners listeners = Listeners::both();
            const auto answer = [](TcpListener& listener) -> task<> {
                TcpStream stream = co_await listener.accept();
                static_cast<void>(co_await stream.receive());
                co_await stream.send("HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
            };
            const auto ask = [](std::uint16_t port) -> task<std::string> {
                torc::http::SessionOptions options;
                options.connection = patient();
                options.connection.resolution_delay = 1ms;
                torc::http::AsyncSession session{"http://site.test:" + std::to_string(port) + "/", options};
                torc::http::Response& response = co_await session;
                CHECK(response.status() == 204);
                co_return session.peer().ip_string();
            };
            const bool silent_v4 = type == DnsRecords::type_a;
            const auto [answered, peer] =
                co_await torc::gather(answer(silent_v4 ? *listeners.v6 : *listeners.v4), ask(listeners.port));
            CHECK(peer == (silent_v4 ? "::1" : "127.0.0.1"));
        });
    }
}
