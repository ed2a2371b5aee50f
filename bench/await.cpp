// Theory of operation: each case runs on a fresh executor, a fixed number of times, in five rounds; the fastest round
// is the one least disturbed by the machine, and is what is printed. Numbers of different machines or runs mean little.

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <limits>
#include <string>

#include <torc/runtime/run.hpp>
#include <torc/runtime/time.hpp>

namespace {

constexpr int times = 200'000;
constexpr int rounds = 5;

torc::task<int> one() { co_return 1; }

torc::task<int> await_at_once() {
    int sum = 0;
    for (int i = 0; i < times; ++i) sum += co_await one();
    co_return sum;
}

torc::task<int> yield_each_time() {
    for (int i = 0; i < times; ++i) co_await torc::yield();
    co_return times;
}

torc::task<int> sleep_each_time() {
    for (int i = 0; i < times; ++i) co_await torc::sleep_for(torc::Clock::duration::zero());
    co_return times;
}

void measure(const char* what, torc::driver_kind kind, torc::task<int> (*body)()) {
    double best_ns = std::numeric_limits<double>::max();
    std::string driver;
    for (int round = 0; round < rounds; ++round) {
        torc::ExecutorOptions options;
        options.kind = kind;
        torc::Executor executor{options};
        driver = executor.driver().name();
        const auto began = std::chrono::steady_clock::now();
        const int done = executor.run(body());
        const std::chrono::duration<double, std::nano> took = std::chrono::steady_clock::now() - began;
        if (done != times) std::abort();
        best_ns = std::min(best_ns, took.count() / times);
    }
    std::printf("%-44s %-6s %8.1f ns\n", what, driver.c_str(), best_ns);
}

}  // namespace

int main() {
    for (const torc::driver_kind kind : {torc::driver_kind::uring, torc::driver_kind::epoll}) {
        measure("awaiting a task that completes at once", kind, await_at_once);
        measure("giving way, with nothing else to run", kind, yield_each_time);
        measure("a timer that is due at once", kind, sleep_each_time);
    }
}
