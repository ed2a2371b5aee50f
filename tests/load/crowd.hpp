#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include <torc/net/address.hpp>

/// Visitors of a web site: many connections of one process, driven by hand over epoll, so that nothing of what is under
/// test takes part on this side.
namespace torc::load {

/// What the site serves, byte by byte the same: /small and /large.
std::string_view page(bool large);

struct CrowdPlan {
    net::Address site;
    std::size_t visitors = 0;
    std::size_t resets = 0;  ///< of them, those that reset their connection at a moment of the seed's choice
    std::uint64_t seed = 0;
    std::size_t events_to_live = 0;  ///< after so many events the process kills itself; 0: it lives on
};

struct CrowdReport {
    std::size_t answers = 0;  ///< that came whole and as they should be
    std::size_t resets = 0;
    std::size_t faults = 0;
    std::string first_fault;
};

/// Connects all visitors, calls `all_connected`, and then lets each make its requests.
CrowdReport visit(const CrowdPlan& plan, const std::function<void()>& all_connected);

}  // namespace torc::load
