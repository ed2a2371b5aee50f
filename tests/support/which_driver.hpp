#pragma once

#include <cstdlib>
#include <string_view>

/// For tests that are run on several drivers.
namespace torc::test {

/// Whether this program runs in the simulation (TORC_DRIVER=sim). Cases that are about the machine itself, its network,
/// threads or signals, are left out there:
///
///     TEST_CASE("a second Ctrl-C ends a program at once" * doctest::skip(simulated())) {
inline bool simulated() noexcept {
    const char* const driver = std::getenv("TORC_DRIVER");
    return driver != nullptr && std::string_view{driver} == "sim";
}

}  // namespace torc::test
