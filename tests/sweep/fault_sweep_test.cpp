#include <doctest/doctest.h>

#include <cstdio>

#include "run.hpp"

// Goal: whichever operation fails, and however, the program ends with success or with an error in words. Method: play
// each scenario once to count its operations, then once for each of them and each error that one of its kind can have.

namespace torc::sweep {
namespace {

struct Counts {
    std::uint64_t operations = 0;
    std::uint64_t runs = 0;
    std::uint64_t survived = 0;
};

void sweep(const NamedScenario& scenario, weather network, Counts& counts) {
    Disturbance disturbance;
    disturbance.network = network;
    const Outcome whole = run(scenario, disturbance);
    CHECK_MESSAGE(whole.ending.undisturbed(), std::string{scenario.name}, " ends by itself");
    counts.operations = std::max(counts.operations, whole.operations);
    const std::uint64_t step = std::max<std::uint64_t>(1, whole.operations * thinning / 1000);
    for (std::uint64_t at = 1; at <= whole.operations; at += step) {
        disturbance.fail_at = at;
        disturbance.which_error = 0;
        for (std::size_t errors = 1; disturbance.which_error < errors; ++disturbance.which_error) {
            const Outcome outcome = run(scenario, disturbance);
            errors = outcome.possible_errors;
            if (errors == 0) break;
            ++counts.runs;
            if (outcome.ending.completed()) ++counts.survived;
        }
    }
}

}  // namespace

TEST_CASE("whichever operation fails, the program ends with success or with an error in words") {
    for (const NamedScenario& scenario : scenarios()) {
        SUBCASE(scenario.name) {
            Counts counts;
            sweep(scenario, weather::calm, counts);
            if (on_sim()) sweep(scenario, weather::rough, counts);
            std::printf("%-70s %4llu operations, %5llu failures, %5llu survived\n", scenario.name,
                        static_cast<unsigned long long>(counts.operations),
                        static_cast<unsigned long long>(counts.runs), static_cast<unsigned long long>(counts.survived));
        }
    }
}

}  // namespace torc::sweep
