// What the runtime's own steps cost: tasks, groups, channels, locks, timers, scopes, and a thread's message to another.
//
// Theory of operation. A benchmark is a task that Google Benchmark's loop runs inside, on an executor of its own, so
// that what is measured is what a program pays between two turns of the driver. Every benchmark counts the calls of
// operator new in its loop; `allocs` is how many there were for each iteration, after the first ones.

#include <benchmark/benchmark.h>

#include <atomic>
#include <optional>
#include <thread>
#include <torc/runtime.hpp>
#include <vector>

#include "allocations.hpp"

using namespace torc;

namespace {

constexpr int warm_up = 64;

/// Runs `body` on an executor; it gives a task that does `state.range` units of work for each turn of the loop.
template <class Body>
void run_loop(benchmark::State& state, Body body) {
    ExecutorOptions options;
    options.kind = driver_kind::uring;
    Executor executor{options};
    executor.run([](benchmark::State& loop, Body& work) -> task<> {
        for (int i = 0; i < warm_up; ++i) co_await work();
        const std::uint64_t before = bench::allocations.load(std::memory_order_relaxed);
        for ([[maybe_unused]] auto each : loop) co_await work();
        bench::report_allocations(loop, before);
    }(state, body));
}

task<int> one() { co_return 1; }

void spawn_and_await(benchmark::State& state) {
    run_loop(state, []() -> task<> { benchmark::DoNotOptimize(co_await one()); });
}
BENCHMARK(spawn_and_await);

/// Two tasks that give way to each other: two switches for each turn.
void switch_between_two(benchmark::State& state) {
    ExecutorOptions options;
    options.kind = driver_kind::uring;
    Executor executor{options};
    bool done = false;
    auto other = [&done]() -> task<> {
        while (!done) co_await yield();
    };
    auto measured = [&done, &state]() -> task<> {
        for ([[maybe_unused]] auto each : state) co_await yield();
        done = true;
    };
    executor.run([](auto& first, auto& second) -> task<> { co_await gather(first(), second()); }(other, measured));
    state.SetItemsProcessed(state.iterations() * 2);
}
BENCHMARK(switch_between_two);

void gather_two(benchmark::State& state) {
    run_loop(state, []() -> task<> {
        const auto both = co_await gather(one(), one());
        benchmark::DoNotOptimize(std::get<0>(both));
    });
}
BENCHMARK(gather_two);

void gather_many(benchmark::State& state) {
    const auto count = static_cast<std::size_t>(state.range(0));
    run_loop(state, [count]() -> task<> {
        std::vector<task<int>> tasks;
        tasks.reserve(count);
        for (std::size_t i = 0; i < count; ++i) tasks.push_back(one());
        const std::vector<int> all = co_await gather(std::move(tasks));
        benchmark::DoNotOptimize(all.data());
    });
    state.SetItemsProcessed(state.iterations() * state.range(0));
}
BENCHMARK(gather_many)->Arg(100)->Arg(10'000);

/// An item through a channel, from one task to another.
void channel_send_receive(benchmark::State& state) {
    ExecutorOptions options;
    options.kind = driver_kind::uring;
    Executor executor{options};
    channel<int> items{16};
    auto produce = [&]() -> task<> {
        for ([[maybe_unused]] auto each : state) co_await items.send(1);
        items.close();
    };
    auto consume = [&]() -> task<> {
        while (const auto item = co_await items.receive()) benchmark::DoNotOptimize(*item);
    };
    executor.run([](auto& first, auto& second) -> task<> { co_await gather(first(), second()); }(produce, consume));
}
BENCHMARK(channel_send_receive);

/// A lock that two tasks want all the time.
void mutex_hand_over(benchmark::State& state) {
    ExecutorOptions options;
    options.kind = driver_kind::uring;
    Executor executor{options};
    mutex lock;
    bool done = false;
    auto other = [&]() -> task<> {
        while (!done) {
            const auto held = co_await lock.lock();
            co_await yield();
        }
    };
    auto measured = [&]() -> task<> {
        for ([[maybe_unused]] auto each : state) {
            const auto held = co_await lock.lock();
            co_await yield();
        }
        done = true;
    };
    executor.run([](auto& first, auto& second) -> task<> { co_await gather(first(), second()); }(other, measured));
    state.SetItemsProcessed(state.iterations() * 2);
}
BENCHMARK(mutex_hand_over);

/// A timer that is armed and taken back, among others that stay.
void timer_start_cancel(benchmark::State& state) {
    run_loop(state, []() -> task<> {
        // What awaits the timer loses the race at once.
        co_await race(sleep_for(std::chrono::hours{1}), one());
    });
}
BENCHMARK(timer_start_cancel);

/// A limit of time over something that ends in time.
void with_timeout_in_time(benchmark::State& state) {
    run_loop(state, []() -> task<> { benchmark::DoNotOptimize(co_await with_timeout(std::chrono::hours{1}, one())); });
}
BENCHMARK(with_timeout_in_time);

/// A scope with a child that waits, cancelled at its end.
void scope_with_cancellation(benchmark::State& state) {
    event never;
    auto wait = [&never]() -> task<> { co_await never.wait(); };
    auto body = [&wait](scope& here) -> task<> {
        here.spawn(wait());
        here.cancel();
        co_return;
    };
    run_loop(state, [&body]() -> task<> { co_await with_scope(body); });
}
BENCHMARK(scope_with_cancellation);

/// To an executor on another thread and back.
void post_round_trip(benchmark::State& state) {
    std::atomic<Executor*> other{nullptr};
    std::optional<event> stop;
    std::thread thread{[&] {
        Executor far;
        far.run([](std::atomic<Executor*>& published, std::optional<event>& end) -> task<> {
            end.emplace();
            published = &Executor::here();
            co_await end->wait();
        }(other, stop));
    }};
    while (other.load() == nullptr) std::this_thread::yield();
    Executor near;
    near.run([](benchmark::State& loop, Executor& far) -> task<> {
        Executor& here = Executor::here();
        for ([[maybe_unused]] auto each : loop) {
            event back;
            far.post([&] { here.post([&] { back.set(); }); });
            co_await back.wait();
        }
    }(state, *other.load()));
    other.load()->post([&] { stop->set(); });
    thread.join();
}
BENCHMARK(post_round_trip)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
