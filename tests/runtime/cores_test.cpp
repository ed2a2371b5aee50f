#include <doctest/doctest.h>

#include <atomic>
#include <csignal>
#include <set>
#include <steps.hpp>

#include <torc/runtime.hpp>

// Ends by error are printed to standard error; that is part of what they do.

using namespace torc;
using namespace std::chrono_literals;

TEST_SUITE("cores") {
    TEST_CASE("every core runs the root once, on an executor of its own") {
        std::mutex mutex;
        std::set<unsigned> cores;
        std::set<Executor*> executors;
        const int status = run_on_cores(3, [&](unsigned core) -> task<> {
            return [](std::mutex& lock, std::set<unsigned>& seen, std::set<Executor*>& on, unsigned mine) -> task<> {
                co_await yield();
                const std::lock_guard guard{lock};
                seen.insert(mine);
                on.insert(Executor::current());
            }(mutex, cores, executors, core);
        });
        CHECK(status == 0);
        CHECK(cores == std::set<unsigned>{0, 1, 2});
    }

    TEST_CASE("a core that fails cancels the others, and the whole gives 1") {
        for (const unsigned failing : {0U, 1U}) {
            CAPTURE(failing);
            std::atomic<int> cancelled_cores = 0;
            const int status = run_on_cores(2, [&](unsigned core) -> task<> {
                return [](unsigned mine, unsigned bad, std::atomic<int>& count) -> task<> {
                    if (mine == bad) throw std::runtime_error{"planted"};
                    try {
                        co_await test::forever();
                    } catch (const cancelled&) {
                        ++count;
                        throw;
                    }
                }(core, failing, cancelled_cores);
            });
            CHECK(status == 1);
            CHECK(cancelled_cores == 1);
        }
    }

    TEST_CASE("a signal cancels every core") {
        std::atomic<int> waiting = 0;
        const int status = run_on_cores(2, [&](unsigned) -> task<> {
            return [](std::atomic<int>& count) -> task<> {
                if (++count == 2) std::raise(SIGTERM);
                co_await test::forever();
            }(waiting);
        });
        CHECK(status == 128 + SIGTERM);
    }

    TEST_CASE("one core posts to another and back") {
        std::atomic<Executor*> other = nullptr;
        std::atomic<int> rounds = 0;
        const int status = run_on_cores(2, [&](unsigned core) -> task<> {
            return [](unsigned mine, std::atomic<Executor*>& second, std::atomic<int>& count) -> task<> {
                event done;
                if (mine == 1) {
                    second = Executor::current();
                    while (count < 100) co_await yield();
                    co_return;
                }
                while (second == nullptr) co_await yield();
                Executor& here = Executor::here();
                for (int round = 0; round < 100; ++round) {
                    done.reset();
                    second.load()->post([&] {
                        ++count;
                        here.post([&] { done.set(); });
                    });
                    co_await done.wait();
                }
            }(core, other, rounds);
        });
        CHECK(status == 0);
        CHECK(rounds == 100);
    }
}
