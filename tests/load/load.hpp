#pragma once

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string_view>

#include <sys/resource.h>

/// What the load tests share: their size, and choices that a seed repeats.
namespace torc::load {

/// TORC_LOAD=full asks for the full sizes. Without it they are such that every run of the tests can afford them.
inline bool is_full() {
    const char* const size = std::getenv("TORC_LOAD");
    return size != nullptr && std::string_view{size} == "full";
}
template <class T>
T sized(T full, T usual) {
    return is_full() ? full : usual;
}

/// Choices made by a seed. Different compilers and libraries make the same.
class Chance {
   public:
    explicit Chance(std::uint64_t seed) noexcept : state_(seed) {}
    /// With the seed that TORC_SEED names, else with a new one; says so.
    static Chance announced(std::string_view what) {
        const char* const given = std::getenv("TORC_SEED");
        const std::uint64_t seed = given != nullptr ? std::strtoull(given, nullptr, 10) : std::random_device{}();
        std::printf("%.*s: TORC_SEED=%llu\n", static_cast<int>(what.size()), what.data(),
                    static_cast<unsigned long long>(seed));
        std::fflush(stdout);
        return Chance{seed};
    }

    std::uint64_t next() noexcept {
        // SplitMix64 (Steele, Lea, Flood 2014).
        std::uint64_t mixed = state_ += 0x9e3779b97f4a7c15ULL;
        mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9ULL;
        mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebULL;
        return mixed ^ (mixed >> 31);
    }
    /// In [0, bound). Requires: bound is not 0.
    std::size_t below(std::size_t bound) noexcept { return static_cast<std::size_t>(next() % bound); }
    /// In [least, most].
    std::size_t between(std::size_t least, std::size_t most) noexcept { return least + below(most - least + 1); }
    bool one_in(std::size_t n) noexcept { return below(n) == 0; }

   private:
    std::uint64_t state_;
};

/// Lets this process have as many descriptors as it may. Gives their number.
inline std::size_t allow_all_descriptors() {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
    return static_cast<std::size_t>(limit.rlim_cur);
}

}  // namespace torc::load
