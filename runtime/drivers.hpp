#pragma once

#include <memory>
#include <string>

#include <torc/runtime/driver.hpp>

/// The drivers behind the seam.
namespace torc::detail {

/// Null, with the reason, where io_uring can not be used.
std::unique_ptr<Driver> make_uring_driver(const DriverOptions& options, std::string& why_not);
std::unique_ptr<Driver> make_epoll_driver(const DriverOptions& options);
/// One simulated machine without faults; TORC_SIM_SEED gives the seed.
std::unique_ptr<Driver> make_sim_driver(const DriverOptions& options);

}  // namespace torc::detail
