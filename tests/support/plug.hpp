#pragma once

#include <doctest/doctest.h>

#include <cstdint>
#include <exception>
#include <utility>

#include <leak_check.hpp>

/// Pulls the plug at every await: the program is run once as it is, to count its suspensions, then once for each of
/// them with the root scope cancelled there, before the kernel has seen the operation and after. Whatever the moment,
/// nothing may be left behind, and the program must end with `cancelled` or as it would have ended undisturbed.
namespace torc::test {

struct plug_options : ExecutorOptions {
    bool errors_allowed = false;  ///< an `Error` is a fair end as well (a peer that lost its partner)
    std::uint64_t most = 400;     ///< suspensions looked at; beyond it they are sampled
};

/// `make` returns a task and is called for every run; `after` is called when a run has ended, with whether it was cut.
/// Returns the number of suspensions of the undisturbed run.
template <class Make, class After>
std::uint64_t pull_the_plug(Make&& make, After&& after, plug_options options = {}) {
    const auto run_once = [&](std::uint64_t at, bool late) -> std::uint64_t {
        options.cancel_at_suspension = at;
        options.cancel_late = late;
        bool cut = false;
        std::uint64_t suspensions = 0;
        {
            const leak_check leaks;
            Executor executor{options};
            try {
                executor.run(make());
            } catch (const cancelled&) {
                cut = true;
            } catch (const Error& error) {
                CHECK_MESSAGE(options.errors_allowed, "the program failed: ", error.what());
                cut = true;
            }
            leak_check::check(executor.statistics());
            suspensions = executor.statistics().suspensions;
        }
        after(cut);
        return suspensions;
    };
    const std::uint64_t count = run_once(0, false);
    const std::uint64_t stride = count / options.most + 1;
    for (std::uint64_t at = 1; at <= count; at += stride) {
        for (const bool late : {false, true}) {
            INFO("the plug was pulled at suspension ", at, " of ", count, std::string{late ? ", late" : ""});
            run_once(at, late);
        }
    }
    return count;
}

template <class Make>
std::uint64_t pull_the_plug(Make&& make, plug_options options = {}) {
    return pull_the_plug(std::forward<Make>(make), [](bool) {}, options);
}

}  // namespace torc::test
