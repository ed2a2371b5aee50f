#include "simulated.hpp"

#include <optional>
#include <vector>

#include <torc/http.hpp>

// Goal: deadlines, to the nanosecond. The clock stands still while tasks run and jumps to the next deadline when all of
// them wait, so on a virtual clock it can be said when something happens, not only that it happens.

using namespace torc;
using namespace torc::test;

namespace {

/// When it is cancelled.
task<> until_cancelled(Clock::time_point& when) {
    try {
        co_await sleep_for(24h);
    } catch (const cancelled&) {
        when = Clock::now();
        throw;
    }
}

/// Waits until it is cancelled, and then as long as it may.
task<> cleans_up(Clock::duration grace, Clock::duration needed, std::optional<Clock::time_point>& done) {
    bool cut = false;
    try {
        co_await sleep_for(24h);
    } catch (const cancelled&) {
        cut = true;
    }
    CHECK(cut);
    co_await shield(grace, sleep_for(needed));
    done = Clock::now();
}

}  // namespace

TEST_SUITE("sim: deadlines") {
    TEST_CASE("a sleep ends at its deadline") {
        sim::run(1, {}, []() -> task<> {
            for (const Clock::duration wait : {Clock::duration{1h}, Clock::duration{1ms}, Clock::duration{8000h}}) {
                const Clock::time_point until = Clock::now() + wait;
                co_await sleep_for(wait);
                CHECK(Clock::now() == until);
            }
            const Clock::time_point until = Clock::now() + 7min;
            co_await sleep_until(until);
            CHECK(Clock::now() == until);
            co_await sleep_until(until - 1min);
            CHECK(Clock::now() - until < 10us);
        });
    }

    TEST_CASE("a thousand sleeps one after the other take their sum, at once the longest of them") {
        sim::run(1, {}, []() -> task<> {
            const Clock::time_point began = Clock::now();
            for (int count = 0; count < 1000; ++count) co_await sleep_for(1ms);
            CHECK(Clock::now() == began + 1s);
            std::vector<task<>> all;
            const auto sleep = [](Clock::time_point until) -> task<> {
                co_await sleep_until(until);
                CHECK(Clock::now() == until);
            };
            for (int count = 1; count <= 1000; ++count) all.push_back(sleep(began + 1s + count * 1ms));
            co_await gather(std::move(all));
            CHECK(Clock::now() == began + 2s);
        });
    }

    TEST_CASE("an hour that thousands of tasks wait takes a few turns") {
        const sim::Report report = sim::run(1, {}, []() -> task<> {
            std::vector<task<>> all;
            const auto sleep = []() -> task<> { co_await sleep_for(1h); };
            for (int count = 0; count < 5000; ++count) all.push_back(sleep());
            co_await gather(std::move(all));
        });
        CHECK(report.took >= 1h);
        CHECK(report.took < 1h + 1ms);
        CHECK(report.statistics.turns < 10);
    }

    TEST_CASE("a limit cuts at its moment, and what ends before it is not touched") {
        sim::run(1, {}, []() -> task<> {
            const Clock::time_point began = Clock::now();
            Clock::time_point cut;
            CHECK(co_await failure_of(with_timeout(90s, until_cancelled(cut))) == errc::timed_out);
            CHECK(cut == began + 90s);
            CHECK(Clock::now() == began + 90s);
            CHECK(co_await failure_of(with_deadline(began + 5min, until_cancelled(cut))) == errc::timed_out);
            CHECK(cut == began + 5min);
            CHECK_FALSE(co_await failure_of(with_timeout(1min, sleep_for(1min - 1ns))));
            CHECK(Clock::now() == began + 6min - 1ns);
        });
    }

    TEST_CASE("of nested limits the nearest cuts, whichever it is") {
        sim::run(1, {}, []() -> task<> {
            Clock::time_point cut;
            Clock::time_point began = Clock::now();
            CHECK(co_await failure_of(with_timeout(10s, with_timeout(3s, until_cancelled(cut)))) == errc::timed_out);
            CHECK(cut == began + 3s);
            began = Clock::now();
            CHECK(co_await failure_of(with_timeout(3s, with_timeout(10s, until_cancelled(cut)))) == errc::timed_out);
            CHECK(cut == began + 3s);
            began = Clock::now();
            auto inside = [&]() -> task<> {
                CHECK(current_deadline() == began + 3s);
                co_await yield();
            };
            co_await with_timeout(10s, with_timeout(3s, inside()));
        });
    }

    TEST_CASE("a shield lasts its grace from the cancellation, not from its own beginning") {
        sim::run(1, {}, []() -> task<> {
            std::optional<Clock::time_point> done;
            Clock::time_point began = Clock::now();
            CHECK_FALSE(co_await failure_of(with_timeout(10s, cleans_up(5s, 4s, done))));
            CHECK(done == began + 14s);
            done.reset();
            began = Clock::now();
            CHECK(co_await failure_of(with_timeout(10s, cleans_up(5s, 1h, done))) == errc::timed_out);
            CHECK_FALSE(done);
            CHECK(Clock::now() == began + 15s);
            began = Clock::now();
            auto shielded = []() -> task<> { co_await shield(5s, sleep_for(1h)); };
            CHECK(co_await failure_of(with_timeout(10s, shielded())) == errc::timed_out);
            CHECK(Clock::now() == began + 15s);
        });
    }

    TEST_CASE("a session's limits pass at their moments, for a server that goes silent where it likes") {
        struct Row {
            const char* says;
            Clock::duration after;
            phase where;
        };
        const Row rows[] = {
            {"", 30s, phase::head},
            {"HTTP/1.1 200 OK\r\nContent-Le", 30s, phase::head},
            {"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf", 20s, phase::body},
        };
        for (const Row& row : rows) {
            CAPTURE(row.says);
            sim::run(1, plain(), [&](sim::World& world) -> task<> {
                add_two_hosts(world);
                auto silent = [&]() -> task<> {
                    net::TcpStream stream = co_await accept_one();
                    static_cast<void>(co_await stream.receive());
                    co_await stream.send(row.says);
                    while (!(co_await stream.receive()).empty()) {
                    }
                };
                auto visit = [&]() -> task<> {
                    http::SessionOptions options;
                    options.timeouts.head = 30s;
                    options.timeouts.idle = 20s;
                    http::AsyncSession session{"http://10.0.0.2/", options};
                    const Clock::time_point began = world.now();
                    auto fetch = [&]() -> task<> {
                        http::Response& response = co_await session;
                        static_cast<void>(co_await response.text());
                    };
                    const auto fetched = co_await as_result(fetch());
                    REQUIRE_FALSE(fetched);
                    CHECK(fetched.error().code() == errc::timed_out);
                    CHECK(fetched.error().where() == row.where);
                    // A way there and back for the connect, another one for the request and what came of the answer.
                    CHECK(world.now() - began >= row.after + 20ms);
                    CHECK(world.now() - began < row.after + 41ms);
                };
                task<> serving = world.on("server", silent());
                co_await gather(std::move(serving), visit());
            });
        }
    }

    TEST_CASE("a session says how long each part of a request took, and leaves out what its user did meanwhile") {
        sim::run(1, plain(), [](sim::World& world) -> task<> {
            add_two_hosts(world);
            auto slow = []() -> task<> {
                net::TcpStream stream = co_await accept_one();
                static_cast<void>(co_await stream.receive());
                co_await sleep_for(3s);
                co_await stream.send("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\none");
                co_await sleep_for(7s);
                co_await stream.send("two");
            };
            auto visit = []() -> task<> {
                http::AsyncSession session{"http://10.0.0.2/"};
                http::Response& response = co_await session;
                co_await sleep_for(1s);
                CHECK((co_await response.read_some()).size() == 3);
                CHECK(session.timings().body == 0s);
                co_await sleep_for(2s);
                CHECK((co_await response.read_some()).size() == 3);
                const auto rounded = [](Clock::duration part) {
                    return std::chrono::round<std::chrono::milliseconds>(part);
                };
                const http::Timings& timings = session.timings();
                CHECK(timings.resolve == 0s);
                CHECK(rounded(timings.connect) == 20ms);
                CHECK(timings.tls == 0s);
                CHECK(rounded(timings.send) == 0ms);
                CHECK(rounded(timings.wait) == 3020ms);
                CHECK(rounded(timings.body) == 4s);
                CHECK(rounded(timings.total()) == 7040ms);
            };
            task<> serving = world.on("server", slow());
            co_await gather(std::move(serving), visit());
        });
    }

    TEST_CASE("the date is the first of 2026 as a run begins, and goes on with its clock") {
        sim::run(1, {}, []() -> task<> {
            const auto began = Clock::wall_now();
            const Clock::time_point then = Clock::now();
            CHECK(std::chrono::floor<std::chrono::days>(began) ==
                  std::chrono::sys_days{std::chrono::year{2026} / 1 / 1});
            co_await sleep_for(36h);
            CHECK(Clock::wall_now() - began == Clock::now() - then);
        });
    }

    TEST_CASE("for a program that does not know that it is simulated the date begins with the machine's") {
        ExecutorOptions options;
        options.kind = driver_kind::sim;
        const auto before = std::chrono::system_clock::now();
        Executor executor{options};
        const auto after = std::chrono::system_clock::now();
        executor.run([](auto earliest, auto latest) -> task<> {
            const Clock::duration passed = Clock::now().time_since_epoch();
            CHECK(Clock::wall_now() >= earliest + passed);
            CHECK(Clock::wall_now() <= latest + passed);
            co_await sleep_for(1h);
            CHECK(Clock::wall_now() >= earliest + passed + 1h);
        }(before, after));
    }
}
