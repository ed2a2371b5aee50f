#pragma once

#include <string>

#include <torc/http/message.hpp>

#include "bytes.hpp"

// Heads that are written in steps, into the string of whoever sends them. Private.
namespace torc::http {

/// Whether the two can stand in the first line of a request.
/// Errors: as `append_head`.
result<void> check_request_line(std::string_view method, std::string_view target);

/// The reason that stands in the first line of the response, if the line can be written.
/// Errors: as `append_head`.
result<std::string_view> checked_reason(const ResponseHead& head);

constexpr std::string_view version_text(int minor) noexcept { return minor == 0 ? "HTTP/1.0" : "HTTP/1.1"; }

template <class String>
void append_fields(String& out, const Headers& headers) {
    for (const auto& [name, value] : headers) append_all(out, name, ": ", value, "\r\n");
}

/// Appends a head without the line that ends it, so that more fields may follow.
/// Errors: as `append_head`.
template <class String>
result<void> append_open_head(String& out, const ResponseHead& head) {
    const result<std::string_view> reason = checked_reason(head);
    if (!reason) return std::unexpected{reason.error()};
    append_all(out, version_text(head.minor_version), " ", std::to_string(head.status), " ", *reason, "\r\n");
    append_fields(out, head.headers);
    return {};
}

}  // namespace torc::http
