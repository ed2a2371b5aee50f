// The same steps on Boost.Asio, where it has them: awaitable<T>, post, its operators, its channel and timer.

#include <benchmark/benchmark.h>

#include <atomic>
#include <boost/asio.hpp>
#include <boost/asio/experimental/awaitable_operators.hpp>
#include <boost/asio/experimental/channel.hpp>
#include <thread>

namespace asio = boost::asio;
using namespace asio::experimental::awaitable_operators;
using asio::awaitable;
using asio::use_awaitable;

#include "allocations.hpp"

namespace {

constexpr int warm_up = 64;

template <class Body>
void run_loop(benchmark::State& state, Body body) {
    asio::io_context context{1};
    asio::co_spawn(
        context,
        [](benchmark::State& loop, Body& work) -> awaitable<void> {
            for (int i = 0; i < warm_up; ++i) co_await work();
            const std::uint64_t before = bench::allocations.load(std::memory_order_relaxed);
            for ([[maybe_unused]] auto each : loop) co_await work();
            bench::report_allocations(loop, before);
        }(state, body),
        asio::detached);
    context.run();
}

awaitable<int> one() { co_return 1; }

void spawn_and_await(benchmark::State& state) {
    run_loop(state, []() -> awaitable<void> { benchmark::DoNotOptimize(co_await one()); });
}
BENCHMARK(spawn_and_await);

void switch_between_two(benchmark::State& state) {
    asio::io_context context{1};
    bool done = false;
    auto other = [&]() -> awaitable<void> {
        while (!done) co_await asio::post(use_awaitable);
    };
    auto measured = [&]() -> awaitable<void> {
        for ([[maybe_unused]] auto each : state) co_await asio::post(use_awaitable);
        done = true;
    };
    asio::co_spawn(context, other(), asio::detached);
    asio::co_spawn(context, measured(), asio::detached);
    context.run();
    state.SetItemsProcessed(state.iterations() * 2);
}
BENCHMARK(switch_between_two);

void gather_two(benchmark::State& state) {
    run_loop(state, []() -> awaitable<void> { benchmark::DoNotOptimize(co_await (one() && one())); });
}
BENCHMARK(gather_two);

void channel_send_receive(benchmark::State& state) {
    asio::io_context context{1};
    asio::experimental::channel<void(boost::system::error_code, int)> items{context, 16};
    auto produce = [&]() -> awaitable<void> {
        for ([[maybe_unused]] auto each : state) co_await items.async_send({}, 1, use_awaitable);
        items.close();
    };
    auto consume = [&]() -> awaitable<void> {
        for (;;) {
            const auto [ended, item] = co_await items.async_receive(asio::as_tuple(use_awaitable));
            if (ended) co_return;
            benchmark::DoNotOptimize(item);
        }
    };
    asio::co_spawn(context, consume(), asio::detached);
    asio::co_spawn(context, produce(), asio::detached);
    context.run();
}
BENCHMARK(channel_send_receive);

void timer_start_cancel(benchmark::State& state) {
    run_loop(state, []() -> awaitable<void> {
        asio::steady_timer timer{co_await asio::this_coro::executor, std::chrono::hours{1}};
        co_await (timer.async_wait(use_awaitable) || one());
    });
}
BENCHMARK(timer_start_cancel);

void post_round_trip(benchmark::State& state) {
    asio::io_context near{1};
    asio::io_context far{1};
    auto work = asio::make_work_guard(far);
    std::thread thread{[&far] { far.run(); }};
    asio::co_spawn(
        near,
        [](benchmark::State& loop, asio::io_context& there, asio::io_context& here) -> awaitable<void> {
            for ([[maybe_unused]] auto each : loop) {
                co_await asio::post(there, asio::bind_executor(there, use_awaitable));
                co_await asio::post(here, use_awaitable);
            }
        }(state, far, near),
        asio::detached);
    near.run();
    work.reset();
    thread.join();
}
BENCHMARK(post_round_trip)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
