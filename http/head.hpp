#pragma once

#include <torc/http/message.hpp>

// Heads that are written in two steps. Private.
namespace torc::http {

/// Appends a head without the line that ends it, so that more fields may follow.
/// Errors: as `append_head`.
result<void> append_open_head(std::string& out, const ResponseHead& head);

/// Appends the first line of a request, to which fields are to be added.
/// Errors: as `append_head`.
result<void> append_request_line(std::string& out, std::string_view method, std::string_view target, int minor_version);

}  // namespace torc::http
