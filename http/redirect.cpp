#include <torc/http/redirect.hpp>

#include <vector>

#include "bytes.hpp"

// Theory of operation. RFC 9110, section 15.4 for methods, 10.2.2 for fragments. Credentials follow the rule of the
// Fetch standard: they belong to an origin and go nowhere else, wherever in the request they are.

namespace torc::http {

result<Redirection> follow_redirect(std::string_view method, const Url& url, int status, const Headers& response,
                                    std::size_t followed, const RedirectPolicy& policy) {
    if (followed >= policy.max_redirects) {
        return fail(errc::too_many_redirects, phase::head,
                    "there are more than " + std::to_string(policy.max_redirects) + " redirects");
    }
    const auto locations = response.get_all("Location");
    if (locations.empty())
        return fail(errc::bad_redirect, phase::head,
                    "a redirect with status " + std::to_string(status) + " has no Location");
    for (const std::string_view other : locations) {
        if (other != locations[0])
            return fail(errc::bad_redirect, phase::head, "a redirect has two different Locations");
    }
    result<Url> next = url.resolve(locations[0]);
    if (!next) {
        return fail(errc::bad_redirect, phase::head,
                    "a redirect leads to " + in_quotes(locations[0]) + ": " + std::string{next.error().message()});
    }
    if (url.secure() && !next->secure() && !policy.allow_https_to_http) {
        return fail(errc::insecure_redirect, phase::head,
                    "a redirect leads from https to " + in_quotes(next->href()) + ", which is not secure");
    }
    Redirection redirection{std::move(*next), std::string{method}};
    redirection.same_origin = redirection.url.same_origin(url);
    const bool to_get =
        status == 303 ? method != "HEAD" && method != "GET" : (status == 301 || status == 302) && method == "POST";
    if (to_get) {
        redirection.method = "GET";
        redirection.keep_body = false;
    }
    // A fragment that is there and empty ends in '#'.
    const bool has_fragment = redirection.url.href().find('#') != std::string_view::npos;
    if (!has_fragment && !url.fragment().empty()) redirection.url = redirection.url.with_fragment(url.fragment());
    return redirection;
}

void strip_headers(Headers& request, const Redirection& redirection) {
    request.remove("Host");
    if (!redirection.same_origin) {
        for (const std::string_view name : {"Authorization", "Cookie", "Proxy-Authorization", "Origin"})
            request.remove(name);
    }
    if (redirection.keep_body) return;
    std::vector<std::string> described{"Transfer-Encoding", "Expect", "Trailer"};
    for (const auto& [name, value] : request) {
        constexpr std::string_view prefix = "Content-";
        if (equals_ignoring_case(name.substr(0, prefix.size()), prefix)) described.emplace_back(name);
    }
    for (const std::string& name : described) request.remove(name);
}

}  // namespace torc::http
