#pragma once

#include <string>
#include <string_view>
#include <system_error>

#include "check.hpp"

/// Outcomes as text.
namespace checker {

/// "URL: status -> 200" and "URL: type -> <!doctype html>", each with its line end.
std::string answer_lines(const Outcome& outcome);

/// "URL: error -> connect: 127.0.0.1:443: connection refused", with its line end.
std::string error_line(const Outcome& outcome);

/// One JSON object, with its line end.
std::string json_line(const Outcome& outcome);

/// A short name for what went wrong that stays the same in every language and version: "certificate_expired".
std::string kind_of(const std::error_code& code);

}  // namespace checker
