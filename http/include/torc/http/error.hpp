#pragma once

#include <string>
#include <system_error>

#include <torc/runtime/error.hpp>

/// What can be wrong with HTTP itself: with what was asked for, or with what a peer sent. Every bound has its own code,
/// so that a server can choose the right status and a user the right limit.
namespace torc::http {

enum class errc : int {
    bad_url = 1,          ///< a URL that can not be understood
    unknown_scheme,       ///< not http, https, ws or wss, or none at all
    bad_header,           ///< a name, value, method or target that may not stand in a message (given by our own side)
    bad_message,          ///< a head or trailer that breaks the grammar
    bad_framing,          ///< where the body ends is ambiguous, contradictory or malformed
    unsupported_version,  ///< neither HTTP/1.0 nor HTTP/1.1
    unknown_method,       ///< a method this implementation does not know
    line_too_long,        ///< a start line, header line or chunk line beyond its limit
    head_too_large,       ///< the whole head is beyond its limit
    too_many_headers,     ///< more header lines than allowed
    trailers_too_large,   ///< the trailers are beyond their limit
    body_too_large,       ///< the body is beyond its limit
    too_many_interim,     ///< more 1xx responses than allowed
    bad_coding,           ///< a content coding that is unknown, corrupt, truncated or followed by more bytes
    expansion_too_large,  ///< a compressed body that grows beyond reason
    too_many_redirects,   ///< the redirect limit was reached
    bad_redirect,         ///< a redirect that leads nowhere
    insecure_redirect,    ///< a redirect from https to http that was not allowed
    unexpected_eof,       ///< the connection ended inside a message
    after_close,          ///< bytes after the message that announced the end of the connection
};

const std::error_category& http_category() noexcept;
std::error_code make_error_code(errc code) noexcept;

}  // namespace torc::http

template <>
struct std::is_error_code_enum<torc::http::errc> : std::true_type {};
