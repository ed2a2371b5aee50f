#include "simulated.hpp"

#include <chrono>
#include <cstdio>
#include <forked.hpp>
#include <functional>
#include <memory>
#include <set>
#include <thread>
#include <vector>

#include <torc/http.hpp>
#include <torc/net/tls_selfsigned.hpp>

// Goal: what `sim::run` promises about a run that ends well: time that costs nothing, the same run for the same seed.

using namespace torc;
using namespace torc::test;

namespace {

task<> server_and_client(sim::World& world) {
    Pair pair = co_await connected_pair(world);
    const std::string text = pattern(5000);
    auto echo = [&]() -> task<> {
        const std::string all = co_await receive_all(pair.server);
        co_await pair.server.send(all);
        co_await pair.server.shutdown_write();
    };
    auto ask = [&]() -> task<> {
        co_await pair.client.send(text);
        co_await pair.client.shutdown_write();
        CHECK(co_await receive_all(pair.client) == text);
    };
    co_await gather(echo(), ask());
}

/// A certificate made on the spot, an HTTPS server that has it, and a session that trusts it.
task<> https_site(sim::World& world) {
    world.add_host("site.test", {"10.0.0.2"});
    const net::ThrowawayAuthority authority;
    net::CertificateRequest request;
    request.common_name = "site.test";
    request.names = {"site.test"};
    net::TlsServerOptions server_options;
    server_options.identities = {authority.issue(request)};
    net::TlsClientOptions client_options;
    client_options.trust.ca_pem = authority.certificate_pem();
    event listening;
    http::Server* running = nullptr;
    auto serve = [&]() -> task<> {
        http::ServerOptions options;
        options.tls = net::TlsContext::server(server_options);
        auto answer = [](http::ServerRequest&, http::Responder& response) -> task<> {
            const std::string body = pattern(20'000);
            co_await response.send(200, body);
        };
        http::Server server{net::TcpListener::bind(net::Address::any(443)), answer, std::move(options)};
        running = &server;
        listening.set();
        co_await server.serve();
    };
    auto visit = [&]() -> task<> {
        co_await listening.wait();
        http::SessionOptions options;
        options.tls = net::TlsContext::client(client_options);
        for (int count = 0; count < 2; ++count) {
            http::AsyncSession session{"https://site.test/", options};
            http::Response& response = co_await session;
            CHECK(response.status() == 200);
            CHECK(co_await response.text() == pattern(20'000));
        }
        running->stop();
    };
    task<> serving = world.on("site.test", serve());
    co_await gather(std::move(serving), visit());
}

std::string failure_text(const std::function<void()>& work) {
    try {
        work();
    } catch (const sim::Failure& failure) {
        return failure.what();
    }
    return {};
}

bool has(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_SUITE("sim: time") {
    TEST_CASE("an hour of virtual time takes no time, a year neither") {
        const auto began = std::chrono::steady_clock::now();
        const sim::Report report = sim::run(1, {}, []() -> task<> { co_await sleep_for(1h); });
        CHECK(report.took >= 1h);
        CHECK(report.took < 1h + 1ms);
        CHECK(report.statistics.turns < 10);
        CHECK(sim::run(1, {}, []() -> task<> { co_await sleep_for(8000h); }).took >= 8000h);
        CHECK(std::chrono::steady_clock::now() - began < 60s);
    }

    TEST_CASE("running tasks takes a moment, so that one who only polls gets somewhere") {
        const sim::Report report = sim::run(1, {}, []() -> task<> {
            const Clock::time_point until = Clock::now() + 1ms;
            while (Clock::now() < until) co_await yield();
        });
        CHECK(report.took >= 1ms);
        CHECK(report.took < 2ms);
    }
}

TEST_SUITE("sim: runs") {
    TEST_CASE("a task, a function without a parameter and one with the world are all a program") {
        int runs = 0;
        auto program = [](int& count) -> task<> {
            ++count;
            co_await yield();
        };
        sim::run(1, {}, program(runs));
        sim::run(1, {}, [&] { return program(runs); });
        sim::run(1, {}, [&](sim::World&) { return program(runs); });
        CHECK(runs == 3);
        auto all = [&]() -> task<> { co_await gather(program(runs), program(runs)); };
        sim::run(1, {}, all());
        CHECK(runs == 5);
    }

    TEST_CASE("what a run did is reported") {
        const sim::Report report = sim::run(5, {}, server_and_client);
        CHECK(report.seed == 5);
        CHECK(report.events > 10);
        CHECK(report.trace_hash != 0);
        CHECK(report.took > 400us);
        CHECK(report.statistics.submitted > 5);
        CHECK(report.statistics.in_flight == 0);
    }

    TEST_CASE("what the program throws comes out of the run") {
        const auto fail = []() -> task<> {
            co_await yield();
            throw std::runtime_error{"the program's own"};
        };
        CHECK_THROWS_WITH_AS(sim::run(1, quiet(), fail), "the program's own", std::runtime_error);
        const auto give_up = []() -> task<> {
            co_await yield();
            throw cancelled{};
        };
        CHECK_THROWS_AS(sim::run(1, quiet(), give_up), cancelled);
    }

    TEST_CASE("a run may hold another one, each with a clock of its own") {
        sim::run(1, {}, []() -> task<> {
            co_await sleep_for(1h);
            const Clock::time_point before = Clock::now();
            sim::run(2, {}, []() -> task<> { co_await sleep_for(48h); });
            CHECK(Clock::now() - before < 1ms);
        });
    }

    TEST_CASE("work given to offload is done in place, and its result and errors come back") {
        sim::run(1, {}, []() -> task<> {
            const auto here = std::this_thread::get_id();
            CHECK(co_await offload([] { return std::this_thread::get_id(); }) == here);
            bool thrown = false;
            try {
                co_await offload([] { throw std::runtime_error{"from the work"}; });
            } catch (const std::runtime_error&) {
                thrown = true;
            }
            CHECK(thrown);
        });
    }

    TEST_CASE("the world's random numbers are the seed's, and drawing them does not change what the network does") {
        std::vector<std::uint64_t> first;
        std::vector<std::uint64_t> again;
        std::vector<std::uint64_t> other;
        const auto draw = [](std::vector<std::uint64_t>& numbers) {
            return [&numbers](sim::World& world) -> task<> {
                for (int count = 0; count < 10; ++count) numbers.push_back(world.random()());
                co_await server_and_client(world);
            };
        };
        const sim::Report drawn = sim::run(1, {}, draw(first));
        sim::run(1, {}, draw(again));
        sim::run(2, {}, draw(other));
        CHECK(first == again);
        CHECK(first != other);
        CHECK(sim::run(1, {}, server_and_client).took == drawn.took);
    }
}

TEST_SUITE("sim: the same run again") {
    TEST_CASE("the same seed gives the same run and another one another") {
        const sim::Report first = sim::run_twice(1, {}, server_and_client);
        const sim::Report other = sim::run(2, {}, server_and_client);
        CHECK(first.trace_hash != other.trace_hash);
        CHECK(first.trace_hash == sim::run(1, {}, server_and_client).trace_hash);
    }

    TEST_CASE("also with everything on that can go wrong") {
        std::set<std::uint64_t> hashes;
        for (std::uint64_t seed = 1; seed <= 40; ++seed) {
            sim::Options options = sim::swarm(seed);
            options.report = false;
            hashes.insert(sim::run_twice(seed, options, [](sim::World& world) -> task<> {
                              add_two_hosts(world);
                              auto work = [&]() -> task<> {
                                  Pair pair = co_await connect_hosts(world);
                                  co_await pair.client.send("x");
                                  static_cast<void>(co_await receive_exactly(pair.server, 1));
                              };
                              static_cast<void>(co_await as_result(with_timeout(1min, work())));
                          }).trace_hash);
        }
        CHECK(hashes.size() == 40);
    }

    TEST_CASE("TLS and HTTP run unchanged, and the same way twice") {
        const sim::Report first = sim::run_twice(1, {}, https_site);
        CHECK(first.took < 1s);
        CHECK(sim::run(2, {}, https_site).trace_hash != first.trace_hash);
    }

    TEST_CASE("and in another process") {
        // Where memory lies and what was run before differs there.
        const sim::Report here = sim::run(3, {}, https_site);
        for (int process = 0; process < 2; ++process) {
            Forked child{[&] {
                std::vector<std::unique_ptr<std::string>> clutter;
                for (int count = 0; count < 1000 * process; ++count) {
                    clutter.push_back(std::make_unique<std::string>(pattern(static_cast<std::size_t>(count))));
                }
                if (process == 1) sim::run(9, {}, server_and_client);
                const sim::Report there = sim::run(3, {}, https_site);
                std::printf("%llu %llu\n", static_cast<unsigned long long>(there.trace_hash),
                            static_cast<unsigned long long>(there.events));
                return 0;
            }};
            CHECK(child.wait() == 0);
            CHECK(child.output() == std::to_string(here.trace_hash) + " " + std::to_string(here.events) + "\n");
        }
    }

    TEST_CASE("a program that asks the machine's clock is found out") {
        const std::string said = failure_text([] {
            sim::run_twice(4, quiet(), [](sim::World&) -> task<> {
                const auto now = std::chrono::steady_clock::now().time_since_epoch();
                co_await sleep_for(std::chrono::duration_cast<Clock::duration>(now) % 1'000'000'007);
            });
        });
        CHECK(has(said, "two runs of seed 4 differ"));
        CHECK(has(said, "a clock or a file of the machine"));
    }

    TEST_CASE("so is one that depends on what came before") {
        int runs = 0;
        const std::string said = failure_text([&] {
            sim::run_twice(4, quiet(), [&](sim::World&) -> task<> {
                for (int count = ++runs; count > 0; --count) co_await yield();
            });
        });
        CHECK(has(said, "two runs of seed 4 differ"));
    }

    TEST_CASE("a note of the program's own is part of the trace") {
        const auto noting = [](std::int64_t value) {
            return sim::run(1, {},
                            [value](sim::World& world) -> task<> {
                                world.note("here", value);
                                co_return;
                            })
                .trace_hash;
        };
        CHECK(noting(1) == noting(1));
        CHECK(noting(1) != noting(2));
    }
}

TEST_SUITE("sim: swarm") {
    TEST_CASE("the options of a seed are its own, and over many seeds each fault is on and off") {
        constexpr double sim::Options::* faults[] = {
            &sim::Options::spike,         &sim::Options::refuse,        &sim::Options::black_hole,
            &sim::Options::reset,         &sim::Options::stall,         &sim::Options::datagram_loss,
            &sim::Options::datagram_copy, &sim::Options::name_failure,  &sim::Options::name_delay,
            &sim::Options::short_read,    &sim::Options::short_write,   &sim::Options::failure,
            &sim::Options::no_buffers,    &sim::Options::multishot_end, &sim::Options::full_queue,
            &sim::Options::spurious_wake,
        };
        std::set<std::size_t> windows;
        std::set<std::size_t> buffers;
        std::vector<int> on(std::size(faults));
        int shuffled = 0;
        int chained = 0;
        int delayed = 0;
        for (std::uint64_t seed = 0; seed < 200; ++seed) {
            const sim::Options one = sim::swarm(seed);
            const sim::Options same = sim::swarm(seed);
            for (std::size_t which = 0; which < std::size(faults); ++which) {
                CHECK(one.*faults[which] == same.*faults[which]);
                CHECK(one.*faults[which] >= 0);
                CHECK(one.*faults[which] <= 1);
                on[which] += one.*faults[which] > 0 ? 1 : 0;
            }
            CHECK(one.latency == same.latency);
            CHECK(one.latency > Clock::duration::zero());
            CHECK(one.window_bytes == same.window_bytes);
            windows.insert(one.window_bytes);
            buffers.insert(one.executor.buffer_count);
            shuffled += one.shuffle ? 1 : 0;
            chained += one.chains_open ? 1 : 0;
            delayed += one.completion_delay > Clock::duration::zero() ? 1 : 0;
        }
        for (const int count : on) {
            CHECK(count > 50);
            CHECK(count < 150);
        }
        CHECK(windows.size() > 5);
        CHECK(buffers.size() > 5);
        for (const int count : {shuffled, chained, delayed}) {
            CHECK(count > 50);
            CHECK(count < 180);
        }
    }
}
