#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

/// Runs a program as people run it: arguments and standard input in; two streams and an exit status out.
namespace torc::testing {

struct Ended {
    int status = -1;  ///< of the exit; 128 and the signal's number if one ended it
    std::string out;
    std::string err;
    long peak_kib = 0;  ///< of its memory
};

/// Runs it to its end and collects everything. It is killed if it takes far too long; the exception
/// has what it said.
/// Errors: std::runtime_error.
Ended run_program(std::vector<std::string> arguments, std::string_view input = {});

/// The checker, `arguments` behind its name.
Ended run_checker(std::vector<std::string> arguments, std::string_view input = {});
/// The checker's path, for those who start it in another way.
std::string checker_path();

/// The lines of `text`, sorted: answers come in any order.
std::vector<std::string> sorted_lines(const std::string& text);

}  // namespace torc::testing
