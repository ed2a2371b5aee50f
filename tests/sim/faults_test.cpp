#include "simulated.hpp"

#include <vector>

// Goal: what the network does to those who did nothing wrong: cuts, crashes, silence, resets. When they hear of it is
// as much a part of it as what they hear.

using namespace torc;
using namespace torc::test;

namespace {

net::ConnectOptions patient() {
    net::ConnectOptions options;
    options.timeout = 24h;
    return options;
}

/// How a send of more than the window ends: with the error itself if nothing of it had been taken, as a broken pipe if
/// that had to be told first.
bool is_end_of(std::error_code sending, std::errc error) {
    return sending == error || sending == std::errc::broken_pipe;
}

}  // namespace

TEST_SUITE("sim: cuts") {
    TEST_CASE("what is sent in a cut arrives when it heals, once and in order") {
        sim::run(1, plain(), [](sim::World& world) -> task<> {
            Pair pair = co_await connected_pair(world);
            co_await pair.client.send("before ");
            world.partition("client", "server");  // with bytes on the way
            co_await sleep_for(1min);
            co_await pair.client.send("during ");
            co_await sleep_for(1min);
            const auto nothing = co_await as_result(with_timeout(1s, receive_exactly(pair.server, 1)));
            CHECK_FALSE(nothing);
            world.heal("server", "client");
            const Clock::time_point healed = world.now();
            co_await pair.client.send("after");
            CHECK(co_await receive_exactly(pair.server, 19) == "before during after");
            CHECK(world.now() - healed < 11ms);
            co_await pair.client.close();
            CHECK(co_await receive_all(pair.server) == "");
        });
    }

    TEST_CASE("a cut that heals between any two moments of a transfer loses and doubles nothing") {
        for (std::uint64_t seed = 1; seed <= 30; ++seed) {
            sim::Options options = plain();
            options.jitter = 10ms;
            options.short_read = 0.5;
            options.window_bytes = 4000;
            sim::run(seed, options, [](sim::World& world) -> task<> {
                Pair pair = co_await connected_pair(world);
                const std::string there = pattern(30'000);
                const std::string back = pattern(20'000);
                auto send = [](net::TcpStream& stream, const std::string& text) -> task<> {
                    co_await stream.send(text);
                    co_await stream.shutdown_write();
                };
                auto receive = [](net::TcpStream& stream, const std::string& text) -> task<> {
                    const std::string all = co_await receive_all(stream);
                    CHECK(all == text);
                };
                auto trouble = [&]() -> task<> {
                    for (int count = 0; count < 10; ++count) {
                        co_await sleep_for(world.random().around(30ms));
                        world.partition("client", "server");
                        co_await sleep_for(world.random().around(100ms));
                        world.heal("client", "server");
                    }
                };
                co_await gather(send(pair.client, there), receive(pair.server, there), send(pair.server, back),
                                receive(pair.client, back), trouble());
            });
        }
    }

    TEST_CASE("a cut is between two; isolation is from all, and leaves the host itself") {
        sim::run(1, plain(), [](sim::World& world) -> task<> {
            world.add_host("third", {"10.0.0.3"});
            Pair pair = co_await connected_pair(world);
            const net::Address server = net::Address::parse("10.0.0.2:80").value();
            net::ConnectOptions short_time;
            short_time.timeout = 500ms;
            const auto reachable_from = [&](const std::string& host) -> task<bool> {
                task<net::TcpStream> connecting = world.on(host, net::TcpStream::connect(server, short_time));
                const std::error_code failure = co_await failure_of(std::move(connecting));
                if (failure) CHECK(failure == errc::timed_out);
                co_return !failure;
            };
            auto probes = [&](event& done) -> task<> {
                const std::string hosts[] = {"client", "third", "server"};
                const auto expect = [&](bool client, bool third) -> task<> {
                    const bool wanted[] = {client, third, true};
                    for (int which = 0; which < 3; ++which)
                        CHECK(co_await reachable_from(hosts[which]) == wanted[which]);
                };
                co_await expect(true, true);
                world.partition("server", "client");
                co_await expect(false, true);
                world.isolate("server");
                co_await expect(false, false);
                world.heal("server", "client");
                co_await expect(false, false);
                world.rejoin("server");
                co_await expect(true, true);
                world.isolate("client");
                co_await expect(false, true);
                world.rejoin("client");
                done.set();
            };
            auto listen = [](event& done) -> task<> {
                const net::TcpListener listener = net::TcpListener::bind(net::Address::any(80));
                co_await done.wait();
            };
            event done;
            task<> listening = world.on("server", listen(done));
            co_await gather(std::move(listening), probes(done));
        });
    }

    TEST_CASE("a connect in a cut is tried again after one second, two, four; whoever loses patience is told when") {
        sim::run(1, plain(), [](sim::World& world) -> task<> {
            add_two_hosts(world);
            event done;
            auto listen = [](event& until) -> task<> {
                const net::TcpListener listener = net::TcpListener::bind(net::Address::any(80));
                co_await until.wait();
            };
            auto connect = [&]() -> task<> {
                const net::Address server = net::Address::parse("10.0.0.2:80").value();
                const auto from_client = [&](net::ConnectOptions options) {
                    return world.on("client", net::TcpStream::connect(server, options));
                };
                world.partition("client", "server");
                Clock::time_point began = world.now();
                CHECK(co_await failure_of(from_client(patient())) == std::errc::timed_out);
                CHECK(world.now() - began >= 127s);
                CHECK(world.now() - began < 127s + 20ms);
                began = world.now();
                net::ConnectOptions hasty;
                hasty.timeout = 3s;
                CHECK(co_await failure_of(from_client(hasty)) == errc::timed_out);
                CHECK(world.now() - began >= 3s);
                CHECK(world.now() - began < 3s + 1ms);
                began = world.now();
                auto heal = [&]() -> task<> {
                    co_await sleep_for(5s);
                    world.heal("client", "server");
                };
                task<net::TcpStream> last = from_client(patient());
                const auto [stream, none] = co_await gather(std::move(last), heal());
                CHECK(world.now() - began >= 7s);  // after one second, three, seven
                CHECK(world.now() - began < 7s + 30ms);
                done.set();
            };
            task<> listening = world.on("server", listen(done));
            co_await gather(std::move(listening), connect());
        });
    }

    TEST_CASE("a cut between a connect's question and its answer delays it, too") {
        sim::run(1, plain(), [](sim::World& world) -> task<> {
            add_two_hosts(world);
            const Clock::time_point began = world.now();
            auto cut = [&]() -> task<> {
                co_await sleep_until(began + 15ms);  // the answer is on its way
                world.partition("client", "server");
                co_await sleep_for(2s);
                world.heal("client", "server");
            };
            const net::Address server = net::Address::parse("10.0.0.2:80").value();
            task<net::TcpStream> accepting = world.on("server", accept_one());
            task<net::TcpStream> connecting = world.on("client", net::TcpStream::connect(server));
            auto [accepted, connected, none] = co_await gather(std::move(accepting), std::move(connecting), cut());
            CHECK(world.now() - began > 3s);
            CHECK(world.now() - began < 4s);
            co_await connected.send("x");
            CHECK(co_await receive_exactly(accepted, 1) == "x");
        });
    }

    TEST_CASE("sends that nobody acknowledges fail when their patience is over, and not because an older cut lasted") {
        sim::Options options = plain();
        options.send_patience = 10min;
        sim::run(1, options, [](sim::World& world) -> task<> {
            Pair pair = co_await connected_pair(world);
            world.partition("client", "server");
            co_await pair.client.send("a");
            co_await sleep_for(8min);
            world.heal("client", "server");
            CHECK(co_await receive_exactly(pair.server, 1) == "a");
            world.partition("client", "server");
            const Clock::time_point cut = world.now();
            co_await pair.client.send("b");
            CHECK(co_await receive_failure(pair.client) == std::errc::timed_out);
            CHECK(world.now() - cut >= 10min);
            CHECK(world.now() - cut < 10min + 1s);
            CHECK(co_await send_failure(pair.client) == std::errc::broken_pipe);
            // What it gave up is not sent after all; the other end hears of it when it speaks.
            world.heal("client", "server");
            const auto quiet_now = co_await as_result(with_timeout(1h, receive_exactly(pair.server, 1)));
            CHECK_FALSE(quiet_now);
            CHECK_FALSE(co_await send_failure(pair.server));
            CHECK(co_await receive_failure(pair.server) == std::errc::connection_reset);
        });
    }

    TEST_CASE("a cut that heals while another one lasts changes nothing") {
        sim::Options options = plain();
        options.send_patience = 10min;
        sim::run(1, options, [](sim::World& world) -> task<> {
            Pair pair = co_await connected_pair(world);
            world.partition("client", "server");
            world.isolate("server");
            const Clock::time_point cut = world.now();
            co_await pair.client.send("x");
            co_await sleep_for(8min);
            world.heal("client", "server");
            CHECK(co_await receive_failure(pair.client) == std::errc::timed_out);
            CHECK(world.now() - cut >= 10min);
            CHECK(world.now() - cut < 10min + 1s);
        });
    }

    TEST_CASE("who waits for bytes in a cut waits for ever: only its own timeout ends that") {
        sim::run(1, plain(), [](sim::World& world) -> task<> {
            Pair pair = co_await connected_pair(world);
            world.partition("client", "server");
            const Clock::time_point began = world.now();
            const auto waited = co_await as_result(with_timeout(48h, receive_exactly(pair.client, 1)));
            REQUIRE_FALSE(waited);
            CHECK(waited.error().code() == errc::timed_out);
            CHECK(world.now() - began >= 48h);
            CHECK(world.now() - began < 48h + 1ms);
        });
    }

    TEST_CASE("what was sent behind something that is lost for good is never read") {
        sim::run(1, plain(), [](sim::World& world) -> task<> {
            Pair pair = co_await connected_pair(world);
            co_await pair.server.send("unread, so that the client's close is a reset");
            co_await sleep_for(1s);
            world.partition("client", "server");
            co_await pair.client.send("held up, and lost with its sender, ");
            co_await sleep_for(5ms);
            co_await pair.client.send("this too, ");
            co_await sleep_for(6ms);
            co_await pair.client.send("but not this: it is on its way when the cut heals");
            co_await sleep_for(1ms);
            co_await pair.client.close();
            co_await sleep_for(4ms);
            world.heal("client", "server");
            CHECK(co_await receive_failure(pair.server) == std::errc::connection_reset);
        });
    }

    TEST_CASE("a close in a cut is heard of when it heals; a reset is not, until the other end sends") {
        sim::run(1, plain(), [](sim::World& world) -> task<> {
            add_two_hosts(world);
            Pair orderly = co_await connect_hosts(world);
            Pair abrupt = co_await connect_hosts(world);
            co_await abrupt.client.send("unread");
            co_await sleep_for(1s);
            world.partition("client", "server");
            co_await orderly.server.send("bye");
            co_await orderly.server.close();
            co_await abrupt.server.close();
            co_await sleep_for(1min);
            world.heal("client", "server");
            CHECK(co_await receive_all(orderly.client) == "bye");
            const auto nothing = co_await as_result(with_timeout(1h, receive_exactly(abrupt.client, 1)));
            CHECK_FALSE(nothing);
            CHECK_FALSE(co_await send_failure(abrupt.client));
            CHECK(co_await receive_failure(abrupt.client) == std::errc::connection_reset);
        });
    }
}

TEST_SUITE("sim: crashes") {
    TEST_CASE("a crash fails what the host had; its peers hear nothing until they send, and are reset then") {
        sim::run(1, plain(), [](sim::World& world) -> task<> {
            Pair pair = co_await connected_pair(world);
            net::TcpStream& client = pair.client;
            auto server_waits = [&]() -> task<> {
                CHECK(co_await receive_failure(pair.server) == std::errc::network_down);
                CHECK(co_await send_failure(pair.server) == std::errc::network_down);
            };
            auto crash = [&]() -> task<> {
                co_await sleep_for(1s);
                world.crash("server");
            };
            co_await gather(server_waits(), crash());
            const auto nothing = co_await as_result(with_timeout(1h, receive_exactly(client, 1)));
            REQUIRE_FALSE(nothing);
            CHECK(nothing.error().code() == errc::timed_out);
            const Clock::time_point began = world.now();
            CHECK_FALSE(co_await send_failure(client));
            CHECK(co_await receive_failure(client) == std::errc::connection_reset);
            CHECK(world.now() - began >= 20ms);
            CHECK(world.now() - began < 21ms);
        });
    }

    TEST_CASE("what was on the way to a host that crashes is answered with a reset") {
        sim::run(1, plain(), [](sim::World& world) -> task<> {
            Pair pair = co_await connected_pair(world);
            co_await pair.client.send("question");
            world.crash("server");
            CHECK(co_await receive_failure(pair.client) == std::errc::connection_reset);
        });
    }

    TEST_CASE("a crash ends listeners, connects and datagram sockets of the host, and new ones work at once") {
        sim::run(1, plain(), [](sim::World& world) -> task<> {
            add_two_hosts(world);
            std::error_code accepting;
            std::error_code connecting;
            std::error_code datagram;
            auto accept = [&]() -> task<> {
                net::TcpListener listener = net::TcpListener::bind(net::Address::any(80));
                const auto taken = co_await as_result(listener.accept());
                if (!taken) accepting = taken.error().code();
                // The port is free again although this listener is still there.
                net::TcpListener again = net::TcpListener::bind(net::Address::any(80));
                net::TcpStream stream = co_await again.accept();
                co_await stream.send("up again");
            };
            auto connect = [&]() -> task<> {
                const net::Address nobody = net::Address::parse("10.0.0.1:81").value();
                connecting = co_await failure_of(net::TcpStream::connect(nobody));
            };
            auto receive = [&]() -> task<> {
                net::UdpSocket socket = net::UdpSocket::bind(net::Address::any(53));
                std::array<std::byte, 8> buffer{};
                const auto received = co_await as_result(socket.receive_from(buffer));
                if (!received) datagram = received.error().code();
            };
            auto on_client = [&]() -> task<> {
                co_await sleep_for(5ms);
                world.crash("server");
                co_await sleep_for(1s);
                net::TcpStream stream = co_await net::TcpStream::connect("server", 80);
                CHECK(co_await receive_all(stream) == "up again");
            };
            task<> accepts = world.on("server", accept());
            task<> connects = world.on("server", connect());
            task<> receives = world.on("server", receive());
            task<> visits = world.on("client", on_client());
            co_await gather(std::move(accepts), std::move(connects), std::move(receives), std::move(visits));
            CHECK(accepting == std::errc::network_down);
            CHECK(connecting == std::errc::network_down);
            CHECK(datagram == std::errc::network_down);
        });
    }

    TEST_CASE("a host that crashes in a cut resets who sends when the cut heals") {
        sim::run(1, plain(), [](sim::World& world) -> task<> {
            Pair pair = co_await connected_pair(world);
            world.partition("client", "server");
            co_await pair.server.send("lost with its host");
            co_await pair.client.send("x");
            world.crash("server");
            co_await sleep_for(1min);
            world.heal("client", "server");
            CHECK(co_await receive_failure(pair.client) == std::errc::connection_reset);
        });
    }
}

TEST_SUITE("sim: faults of the network") {
    TEST_CASE("connects are refused as often as they are told to") {
        sim::Options options = plain();
        options.refuse = 0.5;
        int refused = 0;
        sim::run(1, options, [&](sim::World&) -> task<> {
            const net::TcpListener listener = net::TcpListener::bind(net::Address::any(80));
            for (int count = 0; count < 100; ++count) {
                const std::error_code failure =
                    co_await failure_of(net::TcpStream::connect(net::Address::loopback(80)));
                if (!failure) continue;
                CHECK(failure == std::errc::connection_refused);
                ++refused;
            }
        });
        CHECK(refused > 25);
        CHECK(refused < 75);
    }

    TEST_CASE("a black hole swallows a connect until the caller, or in the end the kernel, gives up") {
        sim::Options options = plain();
        options.black_hole = 1;
        sim::run(1, options, [](sim::World& world) -> task<> {
            const net::TcpListener listener = net::TcpListener::bind(net::Address::any(80));
            Clock::time_point began = world.now();
            net::ConnectOptions limited;
            limited.timeout = 4s;
            CHECK(co_await failure_of(net::TcpStream::connect(net::Address::loopback(80), limited)) == errc::timed_out);
            CHECK(world.now() - began >= 4s);
            CHECK(world.now() - began < 4s + 1ms);
            began = world.now();
            CHECK(co_await failure_of(net::TcpStream::connect(net::Address::loopback(80), patient())) ==
                  std::errc::timed_out);
            CHECK(world.now() - began >= 127s);
            CHECK(world.now() - began < 127s + 1ms);
        });
    }

    TEST_CASE("a reset meets both ends in the middle of a transfer") {
        sim::Options options = plain();
        options.reset = 1;
        options.short_read = 0.01;  // and with it segments of any size
        int early = 0;
        for (std::uint64_t seed = 1; seed <= 20; ++seed) {
            sim::run(seed, options, [&](sim::World& world) -> task<> {
                Pair pair = co_await connected_pair(world);
                auto send = [&]() -> task<std::error_code> {
                    const std::string text = pattern(200'000);
                    const auto sent = co_await as_result(pair.client.send(text));
                    co_return sent ? std::error_code{} : sent.error().code();
                };
                std::size_t received = 0;
                auto receive = [&]() -> task<std::error_code> {
                    for (;;) {
                        const auto slice = co_await as_result(pair.server.receive());
                        if (!slice) co_return slice.error().code();
                        REQUIRE_FALSE(slice->empty());
                        CHECK(std::string_view{reinterpret_cast<const char*>(slice->bytes().data()), slice->size()} ==
                              pattern(received + slice->size()).substr(received));
                        received += slice->size();
                    }
                };
                const auto [sending, receiving] = co_await gather(send(), receive());
                CHECK(is_end_of(sending, std::errc::connection_reset));
                CHECK(receiving == std::errc::connection_reset);
                CHECK(received <= 20'000);
                early += received < 10'000 ? 1 : 0;
            });
        }
        CHECK(early > 2);
        CHECK(early < 18);
    }

    TEST_CASE("a stall silences both directions: a reader hears nothing, a writer loses patience") {
        sim::Options options = plain();
        options.stall = 1;
        options.send_patience = 5min;
        sim::run(1, options, [](sim::World& world) -> task<> {
            Pair pair = co_await connected_pair(world);
            const Clock::time_point began = world.now();
            auto send = [&]() -> task<> {
                const std::string text = pattern(200'000);
                const auto sent = co_await as_result(pair.client.send(text));
                REQUIRE_FALSE(sent);
                CHECK(is_end_of(sent.error().code(), std::errc::timed_out));
                CHECK(world.now() - began >= 5min);
                CHECK(world.now() - began < 5min + 1s);
            };
            auto receive = [&]() -> task<> {
                const auto all = co_await as_result(with_timeout(1h, receive_exactly(pair.server, 200'000)));
                REQUIRE_FALSE(all);
                CHECK(all.error().code() == errc::timed_out);
            };
            co_await gather(send(), receive());
        });
    }

    TEST_CASE("other connections do not share a connection's fate") {
        sim::Options options = plain();
        options.reset = 0.5;
        int good = 0;
        int bad = 0;
        sim::run(1, options, [&](sim::World& world) -> task<> {
            add_two_hosts(world);
            for (int count = 0; count < 40; ++count) {
                Pair pair = co_await connect_hosts(world);
                const std::string text = pattern(20'000);
                co_await pair.client.send(text);
                const auto all = co_await as_result(receive_exactly(pair.server, text.size()));
                if (all) CHECK(*all == text);
                ++(all ? good : bad);
            }
        });
        CHECK(good > 8);
        CHECK(bad > 8);
    }
}
