#pragma once

#include <cstddef>
#include <string>

#include <torc/http/error.hpp>
#include <torc/http/headers.hpp>
#include <torc/http/url.hpp>

namespace torc::http {

/// How redirects are followed.
struct RedirectPolicy {
    bool follow = true;
    std::size_t max_redirects = 10;  ///< beyond it `too_many_redirects`
    /// A redirect from https to http takes what was protected into the open; by default it is an error.
    bool allow_https_to_http = false;
};

/// What a redirect asks for.
struct Redirection {
    Url url;
    std::string method;
    bool keep_body = true;    ///< false: the request goes on without its body and the headers that describe it
    bool same_origin = true;  ///< false: credentials must not go along
};

/// Works out the next request from a redirect's status and Location.
/// 301 and 302 turn POST into GET, as everybody does; 303 turns everything but HEAD into GET; 307 and 308 change
/// nothing. The new URL inherits the old one's fragment unless it has its own, and never its credentials unless the
/// origin is the same.
/// Shape:    `followed` counts the redirects before this one.
/// Requires: `is_redirect(status)`.
/// Errors:   `too_many_redirects`, `bad_redirect` (no or unusable Location), `insecure_redirect`.
result<Redirection> follow_redirect(std::string_view method, const Url& url, int status, const Headers& response,
                                    std::size_t followed, const RedirectPolicy& policy = {});

/// Takes out of a request's headers what must not reach where it is redirected to: Host always; Authorization, Cookie
/// and Proxy-Authorization when the origin changes; Content-... and Transfer-Encoding when the body is dropped.
void strip_headers(Headers& request, const Redirection& redirection);

}  // namespace torc::http
