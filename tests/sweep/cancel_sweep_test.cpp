#include <doctest/doctest.h>

#include <cstdio>

#include "run.hpp"

// Goal: wherever a program is cancelled, nothing is left behind and nothing is lost. Method: play each scenario once to
// count its suspensions. Then once for each of them with everything cancelled there, before the kernel has seen the
// operation and after; once for each with a part cancelled there; and for each of these once more for every later
// suspension, at which the rest is cancelled too. Where there are too many pairs, each so many-th is taken.

namespace torc::sweep {
namespace {

// Of one scenario in one manner: all of them up to some sixty suspensions.
constexpr std::uint64_t most_pairs_simulated = 2000;
constexpr std::uint64_t most_pairs_real = 600;

struct Counts {
    std::uint64_t suspensions = 0;
    std::uint64_t runs = 0;
    std::uint64_t cancelled = 0;  ///< of these
    std::uint64_t pairs = 0;
    std::uint64_t pairs_run = 0;
};

struct Manner {
    weather network;
    bool late;
};

void sweep(const NamedScenario& scenario, Manner manner, Counts& counts) {
    Disturbance disturbance;
    disturbance.network = manner.network;
    const Outcome whole = run(scenario, disturbance);
    CHECK_MESSAGE(whole.ending.undisturbed(), std::string{scenario.name}, " ends by itself");
    disturbance.late = manner.late;
    const std::uint64_t count = whole.suspensions;
    const std::uint64_t most_pairs = on_sim() ? most_pairs_simulated : most_pairs_real;
    const std::uint64_t stride = count * count / 2 * thinning / most_pairs + 1;
    const std::uint64_t step = std::max<std::uint64_t>(1, count * thinning / 1000);
    counts.suspensions = std::max(counts.suspensions, count);
    for (std::uint64_t at = 1; at <= count; at += step) {
        disturbance.cancel_client_at = 0;
        disturbance.cancel_all_at = at;
        if (run(scenario, disturbance).ending.cancelled) ++counts.cancelled;
        disturbance.cancel_client_at = at;
        disturbance.cancel_all_at = 0;
        const Outcome cut = run(scenario, disturbance);
        if (cut.ending.client_cancelled) ++counts.cancelled;
        counts.runs += 2;
        for (std::uint64_t then = at + 1; then <= cut.suspensions; ++then) {
            if (counts.pairs++ % stride != 0) continue;
            disturbance.cancel_all_at = then;
            run(scenario, disturbance);
            ++counts.pairs_run;
        }
    }
}

}  // namespace

TEST_CASE("wherever a program is cancelled, nothing is left behind and nothing is lost") {
    for (const NamedScenario& scenario : scenarios()) {
        SUBCASE(scenario.name) {
            Counts counts;
            for (const bool late : {false, true}) {
                sweep(scenario, {weather::calm, late}, counts);
                if (on_sim()) sweep(scenario, {weather::rough, late}, counts);
            }
            CHECK_MESSAGE(counts.cancelled > counts.runs / 4, "most points are inside what is cancelled");
            std::printf("%-70s %4llu suspensions, %4llu of %4llu runs cancelled, %5llu of %6llu pairs\n", scenario.name,
                        static_cast<unsigned long long>(counts.suspensions),
                        static_cast<unsigned long long>(counts.cancelled), static_cast<unsigned long long>(counts.runs),
                        static_cast<unsigned long long>(counts.pairs_run),
                        static_cast<unsigned long long>(counts.pairs));
        }
    }
}

}  // namespace torc::sweep
