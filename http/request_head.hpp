#pragma once

#include <string>

#include <torc/http/session.hpp>
#include <torc/runtime/pool_allocator.hpp>

/// How a session words its requests.
namespace torc::http {

/// Appends the head of `request` for `target`: what the request says, then what the session's options say, then what
/// every request needs. The session's headers that carry credentials stay away when `with_credentials` is not set.
result<void> append_request(torc::detail::pooled_string& out, const Url& target, const Request& request,
                            const SessionOptions& options, bool with_credentials);

/// Whether the peer, or the way to it, was gone: what a kept connection that was closed meanwhile answers with.
bool is_gone(const Error& error) noexcept;

}  // namespace torc::http
