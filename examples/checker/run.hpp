#pragma once

#include <torc/runtime/task.hpp>

#include "console.hpp"
#include "input.hpp"

namespace checker {

/// Lets the process have as many descriptors as it may, and makes `concurrency` fit into them.
/// Shape: gives what fits; says so on standard error if that is less than was asked for.
std::size_t fit_descriptors(std::size_t concurrency);

/// Checks all that `input` names and reports it.
/// Returns: the exit status: 0 if all were good, else 1.
torc::task<int> check_all(Options options, Input& input, Console& console);

/// Starts two sites and checks them.
torc::task<int> check_demo(Options options, Console& console);

}  // namespace checker
