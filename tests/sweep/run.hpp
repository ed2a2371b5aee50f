#pragma once

#include <cstdint>
#include <functional>

#include "scenario.hpp"

/// One run of a scenario, disturbed in one way, on the driver that TORC_DRIVER names.
namespace torc::sweep {

/// How the simulated network behaves: at its best, or with operations that come in pieces and out of order and
/// cancellations that come too late.
enum class weather : std::uint8_t { calm, rough };

struct Disturbance {
    /// Suspensions at which the client's part, and then everything, is cancelled; 0 never.
    std::uint64_t cancel_client_at = 0;
    std::uint64_t cancel_all_at = 0;
    bool late = false;  ///< after the kernel has seen what was suspended on, not before
    /// The operation that fails, and with which of the errors it can have; 0 none does.
    std::uint64_t fail_at = 0;
    std::size_t which_error = 0;
    weather network = weather::calm;

    [[nodiscard]] std::string describe() const;
};

struct Outcome {
    Ending ending;
    std::uint64_t suspensions = 0;
    std::uint64_t operations = 0;
    std::size_t possible_errors = 0;  ///< of the operation at `fail_at`
    std::string failing;              ///< what it was, and the error, in words
    bool hung = false;                ///< it had to be ended by force
};

/// Whether TORC_DRIVER is "sim".
[[nodiscard]] bool on_sim();

/// Plays it, and checks that it ended in time, left nothing behind, and lost nothing.
Outcome run(const NamedScenario& scenario, const Disturbance& disturbance);

/// How many times fewer runs to make: sanitizers make each one slow.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr std::uint64_t thinning = 100;
#elif defined(__has_feature)
inline constexpr std::uint64_t thinning = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) ? 100 : 1;
#else
inline constexpr std::uint64_t thinning = 1;
#endif

}  // namespace torc::sweep
