#pragma once

#include <exception>
#include <string>

#include <torc/runtime/executor.hpp>

namespace torc::detail {

/// What nobody caught, for people.
struct Uncaught {
    std::string what;
    std::string trace;  ///< the chain of awaits that it began in, a line each; may be empty
};

/// `executor`, if there was one, is what it ended.
Uncaught uncaught(const std::exception_ptr& error, const Executor* executor);

}  // namespace torc::detail
