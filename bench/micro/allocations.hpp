#pragma once

#include <benchmark/benchmark.h>

#include <atomic>
#include <cstdint>
#include <cstdlib>
#include <new>

/// Counts the program's calls of operator new; included by the one source of a program.
namespace bench {

inline std::atomic<std::uint64_t> allocations{0};

/// `allocs` of a benchmark: how many there were for each iteration since there were `before`.
inline void report_allocations(benchmark::State& state, std::uint64_t before) {
    state.counters["allocs"] = benchmark::Counter(
        static_cast<double>(allocations.load(std::memory_order_relaxed) - before), benchmark::Counter::kAvgIterations);
}

}  // namespace bench

// Not inlined, or compilers see a mismatch of malloc with operator delete.
[[gnu::noinline]] void* operator new(std::size_t size) {
    bench::allocations.fetch_add(1, std::memory_order_relaxed);
    if (void* const memory = std::malloc(size)) return memory;
    throw std::bad_alloc{};
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
