#pragma once

#include <string_view>

/// Methods are plain text; these say what a method means. Methods are case-sensitive (RFC 9110, 9.1).
namespace torc::http {

/// True for one or more token characters (RFC 9110, 5.6.2): what methods and header names are made of.
bool is_token(std::string_view text) noexcept;

/// True for the methods of the IANA registry and a few that are in wide use (PURGE, SUBSCRIBE, M-SEARCH, ...).
/// A parser refuses all others; PRI, the preface of HTTP/2, is one of these.
bool is_known_method(std::string_view method) noexcept;

/// The request asks for nothing but an answer: GET, HEAD, OPTIONS, TRACE, and those of the registry that are like them.
bool is_safe_method(std::string_view method) noexcept;

/// Sending the request twice has the effect of sending it once, so that it may be repeated on a new connection.
bool is_idempotent_method(std::string_view method) noexcept;

}  // namespace torc::http
