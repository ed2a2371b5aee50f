#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <optional>

#include <torc/runtime/frame_pool.hpp>

#include "memory_watch.hpp"

/// For tests of what is allocated once a program does the same again and again.
namespace torc::test {

/// Rounds of a loop, of which the later ones are watched; fails if the process allocates anything in them.
///
///     for (Rounds rounds; rounds.go_on();) ...
///
/// Requires: as `memory_watch`.
class Rounds {
   public:
    [[nodiscard]] bool go_on() {
        if (++round_ == first_watched) watch_.emplace();
        if (round_ < first_watched + watched) return true;
        const std::size_t allocations = watch_->allocations();
        CHECK_MESSAGE(allocations == 0, "nothing is allocated any more");
        return false;
    }

   private:
    static constexpr int first_watched = 200;
    static constexpr int watched = 1000;
    int round_ = 0;
    std::optional<memory_watch> watch_;
};

/// Frames come from a pool, except under the address sanitizer, which has to see each of them; then it says so.
inline bool frames_are_pooled() {
    constexpr std::size_t any_bytes = 256;
    detail::free_frame(detail::allocate_frame(any_bytes), any_bytes);
    const memory_watch watch;
    detail::free_frame(detail::allocate_frame(any_bytes), any_bytes);
    const bool pooled = watch.allocations() == 0;
    if (!pooled) MESSAGE("skipped: under this sanitizer frames come from the heap");
    return pooled;
}

}  // namespace torc::test
