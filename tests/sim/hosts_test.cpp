#include "simulated.hpp"

#include <optional>
#include <vector>

// Goal: the simulated machines, their names and addresses, and what may listen and be reached where.

using namespace torc;
using namespace torc::test;

namespace {

/// Listens on an address and answers the first connection with what it sees: "peer > local".
task<> tell(net::Address where, net::ListenOptions options, event& listening) {
    net::TcpListener listener = net::TcpListener::bind(where, options);
    listening.set();
    net::TcpStream stream = co_await listener.accept();
    const std::string seen = stream.peer().ip_string() + " > " + stream.local().to_string();
    co_await stream.send(seen);
}

task<std::string> ask(net::Address where) {
    net::TcpStream stream = co_await net::TcpStream::connect(where);
    const std::string told = co_await receive_all(stream);
    co_return told;
}

net::Address address(std::string_view text) { return net::Address::parse(text).value(); }

/// What a server on host "server", listening on `listen`, says to who connects from host `from` to `to`.
std::string seen(const std::string& from, std::string_view listen, std::string_view to, bool v6_only = false) {
    std::string told;
    sim::run(1, quiet(), [&](sim::World& world) -> task<> {
        world.add_host("client", {"10.0.0.1", "fd00::1"});
        world.add_host("server", {"10.0.0.2", "fd00::2"});
        event listening;
        net::ListenOptions options;
        options.v6_only = v6_only;
        task<> telling = world.on("server", tell(address(listen), options, listening));
        task<std::string> asking = world.on(from, ask(address(to)));
        auto visit = [&]() -> task<> {
            co_await listening.wait();
            told = co_await std::move(asking);
        };
        co_await gather(std::move(telling), visit());
    });
    return told;
}

std::error_code bind_failure(const net::Address& where, const net::ListenOptions& options = {}) {
    try {
        static_cast<void>(net::TcpListener::bind(where, options));
    } catch (const Error& error) {
        return error.code();
    }
    return {};
}

task<std::error_code> look_up_failure(std::string name) {
    const auto found = co_await as_result(net::Resolver::of(Executor::here()).resolve(name, 80));
    co_return found ? std::error_code{} : found.error().code();
}

task<std::string> look_up(std::string name) {
    const std::vector<net::Address> found = co_await net::Resolver::of(Executor::here()).resolve(name, 80);
    std::string text;
    for (const net::Address& each : found) text += (text.empty() ? "" : " ") + each.to_string();
    co_return text;
}

std::string refusal(const std::function<void()>& work) {
    try {
        work();
    } catch (const Error& error) {
        return error.what();
    }
    return {};
}

}  // namespace

TEST_SUITE("sim: hosts") {
    TEST_CASE("a listener is reached at its address, and each end knows both") {
        CHECK(seen("client", "10.0.0.2:80", "10.0.0.2:80") == "10.0.0.1 > 10.0.0.2:80");
        CHECK(seen("client", "[fd00::2]:80", "[fd00::2]:80") == "fd00::1 > [fd00::2]:80");
    }

    TEST_CASE("a listener on any address is reached at every one of its host's") {
        CHECK(seen("client", "0.0.0.0:80", "10.0.0.2:80") == "10.0.0.1 > 10.0.0.2:80");
        CHECK(seen("client", "[::]:80", "[fd00::2]:80") == "fd00::1 > [fd00::2]:80");
        CHECK(seen("server", "0.0.0.0:80", "127.0.0.1:80") == "127.0.0.1 > 127.0.0.1:80");
        CHECK(seen("server", "0.0.0.0:80", "10.0.0.2:80") == "10.0.0.2 > 10.0.0.2:80");
        CHECK(seen("server", "[::]:80", "[::1]:80") == "::1 > [::1]:80");
    }

    TEST_CASE("a listener on any IPv6 address takes IPv4, mapped, unless it is told not to") {
        CHECK(seen("client", "[::]:80", "10.0.0.2:80") == "::ffff:10.0.0.1 > [::ffff:10.0.0.2]:80");
        CHECK_THROWS_AS(seen("client", "[::]:80", "10.0.0.2:80", true), Error);
    }

    TEST_CASE("connecting to no address in particular reaches the own host") {
        CHECK(seen("server", "0.0.0.0:80", "0.0.0.0:80") == "127.0.0.1 > 127.0.0.1:80");
    }

    TEST_CASE("127.0.0.1 is each host itself, and two hosts have two sets of ports") {
        sim::run(1, {}, [](sim::World& world) -> task<> {
            add_two_hosts(world);
            event both;
            auto listen = [](event& go) -> task<> {
                const net::TcpListener listener = net::TcpListener::bind(net::Address::any(80));
                co_await go.wait();
            };
            task<> first = world.on("client", listen(both));
            task<> second = world.on("server", listen(both));
            auto checks = [&]() -> task<> {
                const auto from_outside = co_await as_result(net::TcpStream::connect(net::Address::loopback(80)));
                REQUIRE_FALSE(from_outside);
                CHECK(from_outside.error().code() == std::errc::connection_refused);
                CHECK(from_outside.error().where() == phase::connect);
                task<net::TcpStream> inside = world.on("server", net::TcpStream::connect(net::Address::loopback(80)));
                const net::TcpStream stream = co_await std::move(inside);
                CHECK(stream.local().is_loopback());
                both.set();
            };
            co_await gather(std::move(first), std::move(second), checks());
        });
    }

    TEST_CASE("where nobody listens a connect is refused after a way there and back; nobody's address is unreachable") {
        sim::run(1, plain(), [](sim::World& world) -> task<> {
            add_two_hosts(world);
            Clock::time_point began = world.now();
            CHECK(co_await failure_of(net::TcpStream::connect(address("10.0.0.2:80"))) ==
                  std::errc::connection_refused);
            CHECK(world.now() - began >= 20ms);
            CHECK(world.now() - began < 21ms);
            began = world.now();
            CHECK(co_await failure_of(net::TcpStream::connect(address("10.9.9.9:80"))) == std::errc::host_unreachable);
            CHECK(world.now() - began < 21ms);
        });
    }

    TEST_CASE("a host runs what it was given, and all that this starts, also hosts within hosts") {
        sim::run(1, {}, [](sim::World& world) -> task<> {
            add_two_hosts(world);
            auto own_address = []() -> task<std::string> {
                net::TcpListener listener = net::TcpListener::bind(net::Address::any(0));
                const net::Address here = net::Address::loopback(listener.local().port());
                net::TcpStream stream = co_await net::TcpStream::connect(here);
                net::TcpStream accepted = co_await listener.accept();
                net::UdpSocket probe = net::UdpSocket::bind(net::Address::any(0));
                net::UdpSocket target = net::UdpSocket::bind(net::Address::any(0));
                // Only a host's own address can be bound there.
                for (const char* const own : {"10.0.0.1", "10.0.0.2", "10.255.0.1"}) {
                    if (!bind_failure(net::Address::parse_ip(own, 0).value())) co_return own;
                }
                co_return "none";
            };
            CHECK(co_await own_address() == "10.255.0.1");
            task<std::string> direct = world.on("client", own_address());
            CHECK(co_await std::move(direct) == "10.0.0.1");
            // Children of a scope and of a gather, and what is put elsewhere from there.
            auto deep = [&]() -> task<> {
                std::string child;
                auto look = [&]() -> task<> { child = co_await own_address(); };
                co_await with_scope([&](scope& here) -> task<> {
                    here.spawn(look());
                    co_return;
                });
                CHECK(child == "10.0.0.2");
                task<std::string> elsewhere = world.on("client", own_address());
                const auto [here, there] = co_await gather(own_address(), std::move(elsewhere));
                CHECK(here == "10.0.0.2");
                CHECK(there == "10.0.0.1");
                CHECK(co_await own_address() == "10.0.0.2");
            };
            task<> on_server = world.on("server", deep());
            co_await std::move(on_server);
            CHECK(co_await own_address() == "10.255.0.1");
        });
    }

    TEST_CASE("the world is at hand where it was not passed") {
        sim::run(7, {}, []() -> task<> {
            CHECK(sim::World::here().seed() == 7);
            add_two_hosts(*std::make_unique<sim::World>(sim::World::here()));
            // The world that makes this task is gone before it runs.
            task<std::string> later = sim::World::here().on("client", look_up("server"));
            CHECK(co_await std::move(later) == "10.0.0.2:80");
        });
    }

    TEST_CASE("work on a host that does not exist is an error in words") {
        sim::run(1, {}, [](sim::World& world) -> task<> {
            bool ran = false;
            auto work = [&]() -> task<> {
                ran = true;
                co_return;
            };
            task<> nowhere = world.on("atlantis", work());
            const auto settled = co_await as_result(std::move(nowhere));
            REQUIRE_FALSE(settled);
            CHECK(settled.error().code() == errc::not_found);
            CHECK(std::string_view{settled.error().what()}.find("atlantis") != std::string_view::npos);
            CHECK_FALSE(ran);
            CHECK_THROWS_AS(world.crash("atlantis"), Error);
            CHECK_THROWS_AS(world.partition("local", "atlantis"), Error);
        });
    }

    TEST_CASE("what can be no host is refused in words") {
        sim::run(1, {}, [](sim::World& world) -> task<> {
            world.add_host("a", {"10.0.0.1"});
            const auto says = [&](const std::string& name, const std::string& text) {
                return refusal([&] { world.add_host(name, {text}); });
            };
            CHECK(says("b", "10.0.0.300").find("\"10.0.0.300\" is no IP address") != std::string::npos);
            CHECK(says("b", "10.0.0.1").find("10.0.0.1 belongs to host a") != std::string::npos);
            CHECK(says("b", "127.0.0.1").find("127.0.0.1 is every host's own") != std::string::npos);
            CHECK(says("a", "10.0.0.5").find("there is a host a already") != std::string::npos);
            CHECK(refusal([&] { world.add_name("n", {"nonsense"}); }).find("is no IP address") != std::string::npos);
            world.add_host("b", {});  // one without an address reaches itself
            co_return;
        });
    }
}

TEST_SUITE("sim: names") {
    TEST_CASE("a host has a name from the beginning, others are added, any may be made to fail") {
        sim::run(1, plain(), [](sim::World& world) -> task<> {
            world.add_host("server", {"10.0.0.2", "fd00::2"});
            world.add_name("www.Example.Test", {"10.0.0.2", "10.7.7.7"});
            CHECK(co_await look_up("server") == "10.0.0.2:80 [fd00::2]:80");
            CHECK(co_await look_up("SERVER.") == "10.0.0.2:80 [fd00::2]:80");
            CHECK(co_await look_up("WWW.example.test") == "10.0.0.2:80 10.7.7.7:80");
            CHECK(co_await look_up("localhost") == "[::1]:80 127.0.0.1:80");
            CHECK(co_await look_up("10.1.2.3") == "10.1.2.3:80");
            CHECK(co_await look_up_failure("nobody.test") == errc::not_found);
            world.fail_name("server", make_error_code(errc::resolver_failed));
            CHECK(co_await look_up_failure("server") == errc::resolver_failed);
            world.add_name("server", {"10.0.0.9"});
            CHECK(co_await look_up("server") == "10.0.0.9:80");
        });
    }

    TEST_CASE("look-ups fail and dawdle as often as they are told to") {
        sim::Options options = plain();
        options.name_failure = 0.5;
        int failed = 0;
        sim::run(1, options, [&]() -> task<> {
            for (int count = 0; count < 100; ++count) {
                if (co_await look_up_failure("local")) ++failed;
            }
        });
        // It takes both families to fail, each with an even chance.
        CHECK(failed > 10);
        CHECK(failed < 40);
        options.name_failure = 0;
        options.name_delay = 1;
        const sim::Report slow = sim::run(1, options, []() -> task<> {
            for (int count = 0; count < 100; ++count) static_cast<void>(co_await look_up("local"));
        });
        CHECK(slow.took > 100s);
        CHECK(slow.took < 1000s);
    }

    TEST_CASE("a name with several addresses is connected to at the first that answers") {
        sim::run(1, plain(), [](sim::World& world) -> task<> {
            add_two_hosts(world);
            world.add_name("site", {"10.7.7.7", "10.0.0.2"});
            task<net::TcpStream> accepting = world.on("server", accept_one());
            auto [server, client] = co_await gather(std::move(accepting), net::TcpStream::connect("site", 80));
            CHECK(client.peer().to_string() == "10.0.0.2:80");
        });
    }
}

TEST_SUITE("sim: listeners") {
    TEST_CASE("a port is taken once, on each host, and for each protocol") {
        sim::run(1, {}, [](sim::World& world) -> task<> {
            world.add_host("other", {"10.0.0.2"});
            const net::TcpListener first = net::TcpListener::bind(net::Address::any(80));
            CHECK(bind_failure(net::Address::any(80)) == std::errc::address_in_use);
            CHECK(bind_failure(net::Address::loopback(80)) == std::errc::address_in_use);
            CHECK_FALSE(bind_failure(net::Address::any(81)));
            const net::UdpSocket datagrams = net::UdpSocket::bind(net::Address::any(80));
            auto elsewhere = []() -> task<std::error_code> { co_return bind_failure(net::Address::any(80)); };
            task<std::error_code> other = world.on("other", elsewhere());
            CHECK_FALSE(co_await std::move(other));
        });
    }

    TEST_CASE("two addresses of a host are two places to listen, and not those of another") {
        sim::run(1, {}, [](sim::World& world) -> task<> {
            world.add_host("two", {"10.0.0.2", "10.0.0.3"});
            auto work = []() -> task<> {
                const net::TcpListener one = net::TcpListener::bind(address("10.0.0.2:80"));
                const net::TcpListener other = net::TcpListener::bind(address("10.0.0.3:80"));
                CHECK(bind_failure(address("10.255.0.1:80")) == std::errc::address_not_available);
                CHECK(bind_failure(address("10.9.9.9:80")) == std::errc::address_not_available);
                co_return;
            };
            task<> there = world.on("two", work());
            co_await std::move(there);
        });
    }

    TEST_CASE("listeners that share a port share the connections, and each gets some") {
        int first = 0;
        int second = 0;
        sim::run(1, {}, [&]() -> task<> {
            net::ListenOptions shared;
            shared.reuse_port = true;
            net::TcpListener one = net::TcpListener::bind(net::Address::any(80), shared);
            net::TcpListener other = net::TcpListener::bind(net::Address::any(80), shared);
            CHECK(bind_failure(net::Address::any(80)) == std::errc::address_in_use);
            auto accept = [](net::TcpListener& from, int& count) -> task<> {
                for (;;) {
                    const net::TcpStream taken = co_await from.accept();
                    ++count;
                }
            };
            co_await with_scope([&](scope& here) -> task<> {
                here.spawn(accept(one, first));
                here.spawn(accept(other, second));
                for (int count = 0; count < 40; ++count) {
                    net::TcpStream stream = co_await net::TcpStream::connect(net::Address::loopback(80));
                    CHECK((co_await receive_all(stream)).empty());
                }
                here.cancel();
            });
        });
        CHECK(first + second == 40);
        CHECK(first > 5);
        CHECK(second > 5);
    }

    TEST_CASE("a full backlog keeps later connects waiting until there is room, as long as they are patient") {
        sim::Options options = plain();
        options.connect_patience = 20s;
        sim::run(1, options, [](sim::World& world) -> task<> {
            net::ListenOptions small;
            small.backlog = 2;
            net::TcpListener listener = net::TcpListener::bind(net::Address::any(80), small);
            const net::Address where = net::Address::loopback(listener.local().port());
            net::ConnectOptions patient;
            patient.timeout = 1h;
            std::vector<net::TcpStream> streams;
            // Linux has room for one more than it was told.
            for (int count = 0; count < 3; ++count) streams.push_back(co_await net::TcpStream::connect(where));
            const Clock::time_point began = world.now();
            const auto late = co_await as_result(net::TcpStream::connect(where, patient));
            REQUIRE_FALSE(late);
            CHECK(late.error().code() == std::errc::timed_out);
            CHECK(world.now() - began >= 20s);
            CHECK(world.now() - began < 20s + 1ms);
            auto take = [&]() -> task<> {
                co_await sleep_for(5s);
                const net::TcpStream taken = co_await listener.accept();
            };
            const auto [connected, none] = co_await gather(net::TcpStream::connect(where, patient), take());
            CHECK(connected.is_open());
            // The try after that moment: one second, two and four after the one before.
            CHECK(world.now() - began > 27s);
            CHECK(world.now() - began < 27s + 10ms);
        });
    }

    TEST_CASE("unix sockets are files of their host: they outlive who listens, and other hosts do not see them") {
        sim::run(1, {}, [](sim::World& world) -> task<> {
            world.add_host("other", {"10.0.0.2"});
            const net::Address path = net::Address::unix_socket("/run/service");
            CHECK(co_await failure_of(net::UnixStream::connect(path)) == std::errc::no_such_file_or_directory);
            {
                net::TcpListener listener = net::TcpListener::bind(path);
                CHECK(bind_failure(path) == std::errc::address_in_use);
                net::UnixStream client = co_await net::UnixStream::connect(path);
                net::TcpStream server = co_await listener.accept();
                co_await client.send("hello");
                CHECK(co_await receive_exactly(server, 5) == "hello");
                task<net::UnixStream> elsewhere = world.on("other", net::UnixStream::connect(path));
                CHECK(co_await failure_of(std::move(elsewhere)) == std::errc::no_such_file_or_directory);
                co_await listener.close();
            }
            CHECK(co_await failure_of(net::UnixStream::connect(path)) == std::errc::connection_refused);
            CHECK(bind_failure(path) == std::errc::address_in_use);
            net::ListenOptions again;
            again.unlink_first = true;
            CHECK_FALSE(bind_failure(path, again));
            const net::Address name = net::Address::unix_socket("@service");
            const net::TcpListener listener = net::TcpListener::bind(name);
            CHECK(bind_failure(name) == std::errc::address_in_use);
            const net::UnixStream client = co_await net::UnixStream::connect(name);
            CHECK(client.is_open());
        });
    }
}
