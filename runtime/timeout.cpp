#include <torc/runtime/timeout.hpp>

#include <fmt/format.h>

#include <algorithm>

// Theory of operation. A limit is worded when it has been reached, and only by a duration: when a point in time was
// set, and how far it was away then, nobody knows here.

namespace torc::detail {

std::string in_seconds(Clock::duration wait) {
    return fmt::format("{:.3g} s", std::chrono::duration<double>(wait).count());
}

Error time_limit::exceeded() const {
    if (!relative) return Error{errc::timed_out, phase::none};
    return Error{errc::timed_out, phase::none, {}, "timed out after " + in_seconds(std::max(wait, Clock::duration{}))};
}

}  // namespace torc::detail
