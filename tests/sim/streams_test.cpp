#include "simulated.hpp"

#include <algorithm>
#include <vector>

// Goal: how long bytes take, how many are on the way, in what pieces they come, and how a stream ends. What Linux says
// at the ends of connections is in net/socket_semantics_test.cpp, which runs here too.

using namespace torc;
using namespace torc::test;

namespace {

/// Sends all and ends the stream, while the other side receives it all.
task<std::string> transfer(net::TcpStream& from, net::TcpStream& to, const std::string& text) {
    auto send = [&]() -> task<> {
        co_await from.send(text);
        co_await from.shutdown_write();
    };
    const auto [none, received] = co_await gather(send(), receive_all(to));
    co_return received;
}

sim::Options with_bandwidth(std::uint64_t bytes_per_second) {
    sim::Options options = plain();
    options.bandwidth_bytes_per_second = bytes_per_second;
    return options;
}

}  // namespace

TEST_SUITE("sim: pieces") {
    TEST_CASE("a send of two parts arrives whole and in order, in whatever pieces it leaves") {
        const std::string text = pattern(70'000);
        for (std::uint64_t seed = 1; seed <= 60; ++seed) {
            sim::Options options = plain();
            options.short_write = 0.7;
            sim::run(seed, options, [&](sim::World& world) -> task<> {
                Pair pair = co_await connected_pair(world);
                const std::span<const std::byte> bytes = std::as_bytes(std::span{text});
                const std::size_t first = world.random().below(text.size());
                auto send = [&]() -> task<> {
                    co_await pair.client.send(bytes.first(first), bytes.subspan(first));
                    co_await pair.client.shutdown_write();
                };
                const auto [none, received] = co_await gather(send(), receive_all(pair.server));
                CHECK(received == text);
            });
        }
    }
}

TEST_SUITE("sim: time on the way") {
    TEST_CASE("a way takes the latency, there and back") {
        sim::run(1, plain(), [](sim::World& world) -> task<> {
            add_two_hosts(world);
            Clock::time_point began = world.now();
            Pair pair = co_await connect_hosts(world);
            // A connect is a way there and a way back, the look-up of the name a random time of about one.
            CHECK(world.now() - began >= 20ms);
            began = world.now();
            co_await pair.client.send("ping");
            CHECK(world.now() - began < 1ms);
            CHECK(co_await receive_exactly(pair.server, 4) == "ping");
            CHECK(world.now() - began >= 10ms);
            CHECK(world.now() - began < 11ms);
            co_await pair.server.send("pong");
            CHECK(co_await receive_exactly(pair.client, 4) == "pong");
            CHECK(world.now() - began >= 20ms);
            CHECK(world.now() - began < 21ms);
        });
    }

    TEST_CASE("jitter and spikes come on top") {
        const auto took = [](const sim::Options& options) {
            return sim::run(1, options,
                            [](sim::World& world) -> task<> {
                                Pair pair = co_await connected_pair(world);
                                for (int count = 0; count < 100; ++count) {
                                    co_await pair.client.send("x");
                                    CHECK(co_await receive_exactly(pair.server, 1) == "x");
                                }
                            })
                .took;
        };
        sim::Options options = plain();
        const Clock::duration calm = took(options);
        CHECK(calm >= 1000ms);
        CHECK(calm < 1200ms);
        options.jitter = 10ms;
        const Clock::duration jittery = took(options);
        CHECK(jittery > calm + 500ms);
        CHECK(jittery < calm + 2000ms);
        options.spike = 0.1;
        CHECK(took(options) > jittery + 3s);
    }

    TEST_CASE("bytes take the time that the bandwidth gives them, each direction for itself") {
        const std::string text = pattern(100'000);
        sim::run(1, with_bandwidth(100'000), [&](sim::World& world) -> task<> {
            Pair pair = co_await connected_pair(world);
            Clock::time_point began = world.now();
            CHECK(co_await transfer(pair.client, pair.server, text) == text);
            CHECK(world.now() - began >= 1s);
            CHECK(world.now() - began < 1100ms);
        });
        sim::run(1, with_bandwidth(100'000), [&](sim::World& world) -> task<> {
            Pair pair = co_await connected_pair(world);
            const Clock::time_point began = world.now();
            const auto [there, back] =
                co_await gather(transfer(pair.client, pair.server, text), transfer(pair.server, pair.client, text));
            CHECK(there == text);
            CHECK(back == text);
            CHECK(world.now() - began < 1100ms);
        });
    }

    TEST_CASE("a window's worth of bytes is on the way at once, and no more") {
        sim::Options options = plain();
        options.window_bytes = 1000;
        const std::string text = pattern(20'000);
        sim::run(1, options, [&](sim::World& world) -> task<> {
            Pair pair = co_await connected_pair(world);
            const Clock::time_point began = world.now();
            CHECK(co_await transfer(pair.client, pair.server, text) == text);
            // Twenty windows, each of which has to be heard of before the next.
            CHECK(world.now() - began > 19 * 20ms);
            CHECK(world.now() - began < 21 * 20ms);
        });
    }

    TEST_CASE("a reader that does not read stops its writer, and lets it go on when it does") {
        sim::Options options = plain();
        options.window_bytes = 1000;
        const std::string text = pattern(3000);
        sim::run(1, options, [&](sim::World& world) -> task<> {
            Pair pair = co_await connected_pair(world);
            bool sent = false;
            auto send = [&]() -> task<> {
                co_await pair.client.send(text);
                sent = true;
            };
            auto read = [&]() -> task<> {
                co_await sleep_for(1h);
                CHECK_FALSE(sent);
                CHECK(co_await receive_exactly(pair.server, 2000) == text.substr(0, 2000));
                co_await sleep_for(1s);
                CHECK(sent);
                CHECK(co_await receive_exactly(pair.server, 1000) == text.substr(2000));
            };
            co_await gather(send(), read());
        });
    }
}

TEST_SUITE("sim: pieces") {
    TEST_CASE("short reads and short writes change the pieces and not the bytes") {
        const std::string text = pattern(30'000);
        const auto pieces = [&](double reads, double writes) {
            sim::Options options = plain();
            options.short_read = reads;
            options.short_write = writes;
            std::size_t count = 0;
            sim::run(3, options, [&](sim::World& world) -> task<> {
                Pair pair = co_await connected_pair(world);
                std::string received;
                auto receive = [&]() -> task<> {
                    for (;;) {
                        const BufferSlice slice = co_await pair.server.receive();
                        if (slice.empty()) break;
                        ++count;
                        received.append(reinterpret_cast<const char*>(slice.bytes().data()), slice.size());
                    }
                };
                auto send = [&]() -> task<> {
                    co_await pair.client.send(text);
                    co_await pair.client.shutdown_write();
                };
                co_await gather(send(), receive());
                CHECK(received == text);
            });
            return count;
        };
        const std::size_t whole = pieces(0, 0);
        CHECK(whole < 5);
        CHECK(pieces(0, 1) > whole);
        CHECK(pieces(0.5, 0) > 2 * whole);
        CHECK(pieces(1, 0) > 4 * whole);
        CHECK(pieces(1, 1) > 4 * whole);
    }

    TEST_CASE("completions overtake each other, but never on one stream") {
        sim::Options options;
        options.completion_delay = 5ms;
        options.short_read = 0.3;
        bool overtaken = false;
        sim::run(1, options, [&]() -> task<> {
            std::vector<int> order;
            const std::string text = pattern(5000);
            auto converse = [&](int number) -> task<> {
                const net::Address where = net::Address::any(static_cast<std::uint16_t>(1000 + number));
                net::TcpListener listener = net::TcpListener::bind(where);
                auto visit = [&]() -> task<> {
                    net::TcpStream stream = co_await net::TcpStream::connect(where);
                    co_await stream.send(text);
                };
                auto serve = [&]() -> task<> {
                    net::TcpStream stream = co_await listener.accept();
                    CHECK(co_await receive_all(stream) == text);
                };
                co_await gather(visit(), serve());
                order.push_back(number);
            };
            std::vector<task<>> all;
            for (int number = 0; number < 20; ++number) all.push_back(converse(number));
            co_await gather(std::move(all));
            overtaken = !std::ranges::is_sorted(order);
        });
        CHECK(overtaken);
    }
}

TEST_SUITE("sim: ends of streams") {
    TEST_CASE("an end takes a way, behind all that was sent") {
        sim::run(1, with_bandwidth(1000), [](sim::World& world) -> task<> {
            Pair pair = co_await connected_pair(world);
            const Clock::time_point began = world.now();
            co_await pair.client.send(pattern(1000));
            co_await pair.client.close();
            CHECK(world.now() - began < 1ms);  // the bytes are the network's now
            CHECK(co_await receive_all(pair.server) == pattern(1000));
            CHECK(world.now() - began >= 1010ms);
            CHECK(world.now() - began < 1011ms);
        });
    }

    TEST_CASE("a reset takes a way as well, and what was sent before it comes before it") {
        sim::run(1, with_bandwidth(1000), [](sim::World& world) -> task<> {
            Pair pair = co_await connected_pair(world);
            co_await pair.client.send("unread");
            co_await sleep_for(1s);
            const Clock::time_point began = world.now();
            co_await pair.server.send(pattern(500));
            co_await pair.server.close();
            CHECK(co_await receive_exactly(pair.client, 500) == pattern(500));
            CHECK(co_await receive_failure(pair.client) == std::errc::connection_reset);
            CHECK(world.now() - began >= 510ms);
            CHECK(world.now() - began < 511ms);
        });
    }

    TEST_CASE("bytes for a socket that is closed come back as a reset after a way there and a way back") {
        sim::run(1, plain(), [](sim::World& world) -> task<> {
            Pair pair = co_await connected_pair(world);
            co_await pair.server.close();
            const Clock::time_point began = world.now();
            CHECK_FALSE(co_await send_failure(pair.client));
            CHECK(co_await receive_all(pair.client) == "");
            co_await sleep_until(began + 19ms);
            CHECK_FALSE(co_await send_failure(pair.client));
            co_await sleep_until(began + 21ms);
            CHECK(co_await send_failure(pair.client) == std::errc::broken_pipe);
        });
    }
}
