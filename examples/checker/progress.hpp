#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <torc/runtime/driver.hpp>

namespace checker {

/// How far the checks are: "120/1000 checked, 3 failed, 60/s".
class Progress {
   public:
    explicit Progress(torc::Clock::time_point began) noexcept : began_(began) {}

    void count(bool good) noexcept {
        ++done_;
        if (!good) ++failed_;
    }
    [[nodiscard]] std::uint64_t done() const noexcept { return done_; }
    [[nodiscard]] std::uint64_t failed() const noexcept { return failed_; }

    /// The status line; without `total` it says how many there are so far. Failures are red with `colour`.
    [[nodiscard]] std::string line(torc::Clock::time_point now, std::optional<std::uint64_t> total, bool colour) const;

   private:
    torc::Clock::time_point began_;
    std::uint64_t done_ = 0;
    std::uint64_t failed_ = 0;
};

}  // namespace checker
