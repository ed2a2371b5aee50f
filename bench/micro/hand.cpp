// The least that a switch between two tasks can cost: bare coroutines in a queue, which can not be cancelled, have no
// result and are known to nobody.

#include <benchmark/benchmark.h>

#include <coroutine>
#include <exception>
#include <utility>

namespace {

struct Task {
    struct promise_type {
        promise_type* next = nullptr;

        Task get_return_object() noexcept { return {this}; }
        std::suspend_always initial_suspend() noexcept { return {}; }
        std::suspend_always final_suspend() noexcept { return {}; }
        void return_void() noexcept {}
        void unhandled_exception() noexcept { std::terminate(); }
    };
    promise_type* promise;

    void destroy() { std::coroutine_handle<promise_type>::from_promise(*promise).destroy(); }
};

struct Queue {
    Task::promise_type* first = nullptr;
    Task::promise_type* last = nullptr;

    void add(Task::promise_type& task) noexcept {
        task.next = nullptr;
        (first != nullptr ? last->next : first) = &task;
        last = &task;
    }
    void run() {
        while (first != nullptr) {
            for (Task::promise_type* next = std::exchange(first, nullptr); next != nullptr;) {
                Task::promise_type& task = *std::exchange(next, next->next);
                std::coroutine_handle<Task::promise_type>::from_promise(task).resume();
            }
        }
    }
};
Queue queue;

struct give_way {
    bool await_ready() const noexcept { return false; }
    void await_suspend(std::coroutine_handle<Task::promise_type> self) noexcept { queue.add(self.promise()); }
    void await_resume() const noexcept {}
};

Task other(const bool& done) {
    while (!done) co_await give_way{};
}

Task measured(benchmark::State& state, bool& done) {
    for ([[maybe_unused]] auto each : state) co_await give_way{};
    done = true;
}

/// Two switches for each turn.
void switch_between_two(benchmark::State& state) {
    bool done = false;
    Task first = other(done);
    Task second = measured(state, done);
    queue.add(*first.promise);
    queue.add(*second.promise);
    queue.run();
    first.destroy();
    second.destroy();
}
BENCHMARK(switch_between_two);

}  // namespace

BENCHMARK_MAIN();
