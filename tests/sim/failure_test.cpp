#include "simulated.hpp"

#include <cstdlib>
#include <forked.hpp>
#include <functional>
#include <thread>
#include <vector>

#include <sys/socket.h>

#include <torc/runtime/io.hpp>

// Goal: runs that fail: each has an end, and what a person needs to understand and repeat it is told.

using namespace torc;
using namespace torc::test;

namespace {

task<> yield_once() { co_await yield(); }

/// Opens a socket, which nobody owns.
struct opening final : torc::detail::io_awaitable<opening> {
    explicit opening(descriptor& into) : io_awaitable(op_kind::socket, &into) {
        flags = AF_INET;
        length = SOCK_STREAM;
    }
    torc::result<int> take() { return outcome(); }
};

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

TEST_SUITE("sim: runs that fail") {
    TEST_CASE("a deadlock is found, and shows who waits for what") {
        bool unwound = false;
        const std::string said = failure_text([&] {
            sim::run(11, quiet(), [&](sim::World& world) -> task<> {
                world.note("before the wait", 42);
                event never;
                auto waits_for_ever = [&]() -> task<> {
                    try {
                        co_await never.wait();
                    } catch (const cancelled&) {
                        unwound = true;
                        throw;
                    }
                };
                co_await gather(waits_for_ever(), sleep_for(1s));
            });
        });
        CHECK(unwound);
        CHECK(has(said, "simulation of seed 11 failed\n"));
        CHECK(has(said, "deadlock: every task waits, and nothing is going to happen\n"));
        CHECK(has(said, "torc tasks (sim, "));
        CHECK(has(said, ": event for "));
        CHECK(has(said, "failure_test.cpp:"));
        CHECK(has(said, "before the wait: 42\n"));
    }

    TEST_CASE("a peer that never speaks is a deadlock as well: no event is to come") {
        const std::string said = failure_text([] {
            sim::run(1, quiet(), [](sim::World& world) -> task<> {
                Pair pair = co_await connected_pair(world);
                static_cast<void>(co_await receive_exactly(pair.client, 1));
            });
        });
        CHECK(has(said, "deadlock"));
        CHECK(has(said, ": receive"));
    }

    TEST_CASE("a deadlock of which the program cleans up slowly is still told") {
        const std::string said = failure_text([] {
            sim::run(1, quiet(), []() -> task<> {
                event never;
                bool cut = false;
                try {
                    co_await never.wait();
                } catch (const cancelled&) {
                    cut = true;
                }
                co_await shield(1min, sleep_for(30s));
                CHECK(cut);
            });
        });
        CHECK(has(said, "deadlock"));
    }

    TEST_CASE("a run that only goes in circles is ended after so many turns") {
        sim::Options options = quiet();
        options.most_turns = 1000;
        const std::string said = failure_text([&] {
            sim::run(1, options, []() -> task<> {
                for (;;) co_await yield();
            });
        });
        CHECK(has(said, "the run goes in circles: too many turns\n"));
        CHECK(has(said, "torc tasks (sim, "));
    }

    TEST_CASE("a run that takes too much virtual time is ended") {
        sim::Options options = quiet();
        options.longest = 24h;
        const std::string said = failure_text([&] {
            sim::run(1, options, []() -> task<> {
                for (;;) co_await sleep_for(1h);
            });
        });
        CHECK(has(said, "the run takes too much virtual time\n"));
        CHECK_NOTHROW(sim::run(1, options, []() -> task<> { co_await sleep_for(23h); }));
    }

    TEST_CASE("what is left behind fails a run that seemed to end well") {
        CHECK(has(failure_text([] {
                      sim::run(1, quiet(), []() -> task<> {
                          descriptor forgotten;
                          opening open{forgotten};
                          static_cast<void>(co_await open);
                      });
                  }),
                  "left behind: 1 open descriptors, 1 open sockets"));
        std::vector<task<>> kept;
        CHECK(has(failure_text([&] {
                      sim::run(1, quiet(), [&]() -> task<> {
                          kept.push_back(yield_once());
                          co_return;
                      });
                  }),
                  "left behind: 1 coroutine frames"));
        kept.clear();
    }

    TEST_CASE("other threads of the program are waited for as long as was said") {
        sim::Options options;
        options.threads_patience = 60s;
        std::thread helper;
        sim::run(1, options, [&]() -> task<> {
            event done;
            Executor& executor = Executor::here();
            helper = std::thread{[&executor, &done] { executor.post([&done] { done.set(); }); }};
            co_await done.wait();
        });
        helper.join();
    }
}

TEST_SUITE("sim: the report") {
    TEST_CASE("a failed run tells its seed, how to repeat it, and the last events") {
        Forked child{[] {
            sim::Options options;
            options.replay = "./program --seed 12";
            sim::run(12, options, [](sim::World& world) -> task<> {
                Pair pair = co_await connected_pair(world);
                world.note("about to fail", 7);
                throw std::runtime_error{"planted"};
            });
            return 0;
        }};
        CHECK(child.wait() == 99);
        const std::string& said = child.output();
        INFO(said);
        CHECK(has(said, "torc: the program failed: "));
        CHECK(has(said, "simulation of seed 12 failed; to repeat it: ./program --seed 12\n"));
        CHECK(has(said, "the last events:\n"));
        CHECK(has(said, " s  connect "));
        CHECK(has(said, " s  about to fail: 7\n"));
        CHECK(has(said, "uncaught: planted\n"));
        CHECK(said.find("about to fail") > said.find(" s  connect "));
    }

    TEST_CASE("so does a failed assertion") {
        Forked child{[] {
            sim::run(13, {}, [](sim::World& world) -> task<> {
                world.note("the last thing", 1);
                latch small{1};
                small.count_down(2);
                co_return;
            });
            return 0;
        }};
        CHECK(child.wait() == -SIGABRT);
        CHECK(has(child.output(), "torc: a latch was counted down below zero ("));
        CHECK(has(child.output(), "simulation of seed 13 failed\n"));
        CHECK(has(child.output(), " s  the last thing: 1\n"));
    }

    TEST_CASE("a run that may not report says nothing, and a run that ends well neither") {
        Forked child{[] {
            sim::run(1, {}, [](sim::World& world) -> task<> { static_cast<void>(co_await connected_pair(world)); });
            return failure_text([] {
                       sim::run(1, quiet(), []() -> task<> {
                           event never;
                           co_await never.wait();
                       });
                   }).empty()
                       ? 1
                       : 0;
        }};
        CHECK(child.wait() == 0);
        CHECK(child.output() == "");
    }

    TEST_CASE("a program under TORC_DRIVER=sim that blocks for good says so itself") {
        Forked child{[] {
            ::setenv("TORC_DRIVER", "sim", 1);
            ::setenv("TORC_SIM_SEED", "21", 1);
            return torc::run([]() -> task<> {
                event never;
                co_await never.wait();
            }());
        }};
        CHECK(child.wait() != 0);
        CHECK(has(child.output(), "simulation of seed 21 failed; to repeat it: TORC_DRIVER=sim TORC_SIM_SEED=21\n"));
        CHECK(has(child.output(), "deadlock: every task waits, and nothing is going to happen\n"));
        CHECK(has(child.output(), ": event for "));
    }

    TEST_CASE("a program under TORC_DRIVER=sim hears signals, however many") {
        Forked child{[] {
            ::setenv("TORC_DRIVER", "sim", 1);
            std::atomic<int> sent = 0;
            std::thread sender;
            return torc::run([](std::thread& from, std::atomic<int>& count, pthread_t to) -> task<> {
                from = std::thread{[&count, to] {
                    while (count < 300) {
                        ::pthread_kill(to, SIGUSR1);
                        ++count;
                    }
                }};
                while (count < 300) co_await sleep_for(1us);
                from.join();
                co_await sleep_for(1s);
                std::puts("came to its end");
            }(sender, sent, ::pthread_self()));
        }};
        CHECK(child.wait() == 0);
        CHECK(has(child.output(), "torc tasks ("));
        CHECK(has(child.output(), "came to its end\n"));
    }
}
