#include <torc/runtime/time.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <leak_check.hpp>
#include <memory>
#include <random>
#include <semaphore>
#include <stdexcept>
#include <thread>
#include <vector>

#include <torc/runtime/event.hpp>
#include <torc/runtime/gather.hpp>
#include <torc/runtime/offload.hpp>
#include <torc/runtime/scope.hpp>
#include <torc/runtime/timeout.hpp>

// Time, giving way, and what comes from other threads. Waits here are there because waiting is what is tested; no test
// says how late something may be.

namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using torc::Clock;
using torc::scope;
using torc::task;
using torc::test::run_clean;

}  // namespace

TEST_CASE("sleepers wake in the order of their deadlines, not of their coming, and never early") {
    std::vector<int> order;
    run_clean([&]() -> task<> {
        auto sleep = [&](int name, Clock::duration wait) -> task<> {
            const auto began = Clock::now();
            co_await torc::sleep_for(wait);
            CHECK(Clock::now() - began >= wait);
            order.push_back(name);
        };
        co_await torc::gather(sleep(3, milliseconds{3}), sleep(1, milliseconds{1}), sleep(2, milliseconds{2}));
    });
    CHECK(order == std::vector<int>{1, 2, 3});
}

TEST_CASE("those with the same deadline wake in the order in which they came") {
    std::vector<int> order;
    run_clean([&]() -> task<> {
        const auto deadline = Clock::now() + milliseconds{1};
        auto sleep = [&](int name) -> task<> {
            co_await torc::sleep_until(deadline);
            order.push_back(name);
        };
        std::vector<task<>> all;
        for (int name = 0; name < 100; ++name) all.push_back(sleep(name));
        co_await torc::gather(std::move(all));
    });
    REQUIRE(order.size() == 100);
    CHECK(std::is_sorted(order.begin(), order.end()));
}

TEST_CASE("a deadline in the past, a wait of zero or less, give way once and go on") {
    run_clean([]() -> task<> {
        int others = 0;
        auto other = [&]() -> task<> {
            ++others;
            co_return;
        };
        auto sleeper = [&]() -> task<> {
            co_await torc::sleep_until(Clock::now() - hours{1});
            CHECK(others == 1);
            co_await torc::sleep_for(Clock::duration::zero());
            co_await torc::sleep_for(-hours{1});
            co_await torc::sleep_until(Clock::time_point::min());
        };
        co_await torc::gather(sleeper(), other());
    });
}

TEST_CASE("a sleep until long before the clock began ends at once") {
    run_clean([]() -> task<> {
        co_await torc::sleep_until(Clock::time_point::min());
        co_await torc::sleep_until(Clock::time_point::min() + Clock::duration{1});
    });
}

TEST_CASE("the longest wait there is can be asked for, and cancelled") {
    run_clean([]() -> task<> {
        auto forever = []() -> task<> { co_await torc::sleep_for(Clock::duration::max()); };
        auto never = []() -> task<> { co_await torc::sleep_until(Clock::never); };
        co_await torc::with_scope([&](scope& here) -> task<> {
            here.spawn(forever());
            here.spawn(never());
            co_await torc::yield();
            CHECK(torc::Executor::here().statistics().timers == 2);
            here.cancel();
        });
        CHECK(torc::Executor::here().statistics().timers == 0);
    });
}

TEST_CASE("a million timers wait at once, fire in order, and can be disarmed in any order") {
    struct Sleeper : torc::detail::Timer {
        explicit Sleeper() : Timer(fired) {}
        static void fired(Timer& timer) noexcept {
            auto& self = static_cast<Sleeper&>(timer);
            *self.in_order = *self.in_order && *self.last <= self.deadline();
            *self.last = self.deadline();
            ++*self.count;
        }
        Clock::time_point* last = nullptr;
        bool* in_order = nullptr;
        int* count = nullptr;
    };
    constexpr int all = 1'000'000;
    Clock::time_point last{};
    bool in_order = true;
    int count = 0;
    torc::detail::TimerQueue queue;
    const std::unique_ptr<Sleeper[]> sleepers{new Sleeper[all]};
    std::mt19937 random{42};
    for (int index = 0; index < all; ++index) {
        sleepers[index].last = &last;
        sleepers[index].in_order = &in_order;
        sleepers[index].count = &count;
        queue.arm(sleepers[index], Clock::time_point{Clock::duration{random() % 1'000'000 + 1}});
    }
    CHECK(queue.size() == all);
    std::vector<int> victims(all);
    for (int index = 0; index < all; ++index) victims[static_cast<std::size_t>(index)] = index;
    std::shuffle(victims.begin(), victims.end(), random);
    victims.resize(all / 2);
    for (const int index : victims) queue.disarm(sleepers[index]);
    CHECK(queue.size() == all / 2);
    queue.fire(Clock::time_point{Clock::duration{500'000}});
    CHECK(queue.next() > Clock::time_point{Clock::duration{500'000}});
    CHECK(count + static_cast<int>(queue.size()) == all / 2);
    queue.fire(Clock::never);
    CHECK(count == all / 2);
    CHECK(in_order);
    CHECK(queue.size() == 0);
}

TEST_CASE("a hundred thousand sleeping tasks are cancelled without trouble") {
    constexpr std::size_t all = 100'000;
    std::size_t unwound = 0;
    run_clean([&]() -> task<> {
        auto sleep = [&]() -> task<> {
            try {
                co_await torc::sleep_for(hours{24});
            } catch (const torc::cancelled&) {
                ++unwound;
                throw;
            }
        };
        co_await torc::with_scope([&](scope& here) -> task<> {
            for (std::size_t index = 0; index < all; ++index) here.spawn(sleep());
            CHECK(torc::Executor::here().statistics().timers == all);
            here.cancel();
            co_return;
        });
    });
    CHECK(unwound == all);
}

TEST_CASE("tasks that give way take turns") {
    std::vector<int> order;
    run_clean([&]() -> task<> {
        auto worker = [&](int name) -> task<> {
            for (int round = 0; round < 3; ++round) {
                order.push_back(name);
                co_await torc::yield();
            }
        };
        co_await torc::gather(worker(1), worker(2), worker(3));
    });
    CHECK(order == std::vector<int>{1, 2, 3, 1, 2, 3, 1, 2, 3});
}

TEST_CASE("a task that only ever gives way does not keep timers, nor what was posted, from their turn") {
    run_clean([]() -> task<> {
        bool slept = false;
        bool posted = false;
        auto sleeper = [&]() -> task<> {
            co_await torc::sleep_for(milliseconds{1});
            slept = true;
        };
        auto busy = [&]() -> task<> {
            torc::Executor::here().post([&] { posted = true; });
            while (!slept || !posted) co_await torc::yield();
        };
        co_await torc::gather(busy(), sleeper());
    });
}

TEST_CASE("giving way in a cancelled scope ends") {
    bool refused = false;
    run_clean([&]() -> task<> {
        co_await torc::with_scope([&](scope& here) -> task<> {
            here.cancel();
            try {
                co_await torc::yield();
            } catch (const torc::cancelled&) {
                refused = true;
                throw;
            }
        });
    });
    CHECK(refused);
}

TEST_CASE("work posted from other threads runs on the executor's, each thread's in its order") {
    constexpr int threads = 4;
    constexpr int each = 2'000;
    int received[threads] = {};
    bool in_order = true;
    run_clean([&]() -> task<> {
        torc::Executor& executor = torc::Executor::here();
        const auto home = std::this_thread::get_id();
        torc::event done;
        int missing = threads * each;
        std::vector<std::thread> posters;
        for (int name = 0; name < threads; ++name) {
            posters.emplace_back([&, name] {
                for (int index = 0; index < each; ++index) {
                    executor.post([&, name, index] {
                        in_order = in_order && received[name]++ == index && std::this_thread::get_id() == home;
                        if (--missing == 0) done.set();
                    });
                }
            });
        }
        co_await done.wait();
        for (std::thread& poster : posters) poster.join();
    });
    CHECK(in_order);
    for (const int count : received) CHECK(count == each);
}

TEST_CASE("an executor that waits for nothing else is woken by a post") {
    // One after the other, so that each finds the executor asleep in its driver or on the way there.
    run_clean([]() -> task<> {
        torc::Executor& executor = torc::Executor::here();
        std::counting_semaphore<> wanted{0};
        torc::event arrived;
        std::thread poster{[&] {
            for (int index = 0; index < 200; ++index) {
                wanted.acquire();
                executor.post([&] { arrived.set(); });
            }
        }};
        for (int index = 0; index < 200; ++index) {
            wanted.release();
            co_await arrived.wait();
            arrived.reset();
        }
        poster.join();
    });
}

TEST_CASE("posted work that nobody came to run is destroyed with the executor") {
    const torc::test::leak_check leaks;
    auto held = std::make_shared<int>(1);
    bool ran = false;
    {
        torc::Executor executor;
        executor.post([held, &ran] { ran = true; });
        CHECK(held.use_count() == 2);
    }
    CHECK(held.use_count() == 1);
    CHECK_FALSE(ran);
}

TEST_CASE("offloaded work runs on another thread and gives its result, or what it threw") {
    run_clean([]() -> task<> {
        const auto home = std::this_thread::get_id();
        std::thread::id there;
        const auto value = co_await torc::offload([&] {
            there = std::this_thread::get_id();
            return std::make_unique<int>(7);
        });
        CHECK(*value == 7);
        CHECK(there != std::thread::id{});
        CHECK(there != home);
        CHECK(std::this_thread::get_id() == home);
        bool ran = false;
        co_await torc::offload([&] { ran = true; });
        CHECK(ran);
        std::string what;
        try {
            co_await torc::offload([]() -> int { throw std::runtime_error("on the other side"); });
        } catch (const std::runtime_error& error) {
            what = error.what();
        }
        CHECK(what == "on the other side");
    });
}

TEST_CASE("offloaded work is bounded by the pool, and all of it is done") {
    std::atomic<int> inside = 0;
    std::atomic<int> most = 0;
    std::atomic<int> done = 0;
    run_clean(
        [&]() -> task<> {
            std::vector<task<>> all;
            auto work = [&]() -> task<> {
                co_await torc::offload([&] {
                    const int now = ++inside;
                    for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {
                    }
                    std::this_thread::yield();
                    --inside;
                    ++done;
                });
            };
            for (int index = 0; index < 200; ++index) all.push_back(work());
            co_await torc::gather(std::move(all));
        },
        {.offload_threads = 3});
    CHECK(done == 200);
    CHECK(most >= 1);
    CHECK(most <= 3);
}

TEST_CASE("offloaded work is cancelled while it is queued; once begun it is awaited and its result delivered") {
    std::atomic<bool> second_ran = false;
    int delivered = 0;
    bool unwound = false;
    run_clean(
        [&]() -> task<> {
            std::binary_semaphore began{0};
            std::binary_semaphore let_go{0};
            auto first = [&]() -> task<> {
                delivered = co_await torc::offload([&] {
                    began.release();
                    let_go.acquire();
                    return 5;
                });
            };
            auto second = [&]() -> task<> {
                try {
                    co_await torc::offload([&] { second_ran = true; });
                } catch (const torc::cancelled&) {
                    unwound = true;
                    let_go.release();  // so this came while the first was still at work
                    throw;
                }
            };
            co_await torc::with_scope([&](scope& here) -> task<> {
                here.spawn(first());
                began.acquire();
                here.spawn(second());
                here.cancel();
                co_return;
            });
        },
        {.offload_threads = 1});
    CHECK(delivered == 5);
    CHECK(unwound);
    CHECK_FALSE(second_ran);
}

TEST_CASE("a limit of time takes offloaded work out of the queue") {
    run_clean(
        []() -> task<> {
            std::binary_semaphore let_go{0};
            auto block = [&]() -> task<> { co_await torc::offload([&] { let_go.acquire(); }); };
            auto give_up = [&]() -> task<> {
                std::error_code why;
                try {
                    co_await torc::with_timeout(milliseconds{1}, torc::offload([] { FAIL("it was still queued"); }));
                } catch (const torc::Error& error) {
                    why = error.code();
                }
                CHECK(why == torc::errc::timed_out);
                let_go.release();
            };
            co_await torc::gather(block(), give_up());
        },
        {.offload_threads = 1});
}
