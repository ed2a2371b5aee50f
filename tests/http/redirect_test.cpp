#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include <torc/http/redirect.hpp>

using torc::http::errc;
using torc::http::follow_redirect;
using torc::http::Headers;
using torc::http::RedirectPolicy;
using torc::http::Url;

namespace {

Url url(std::string_view text) { return Url::parse(text).value(); }

// "GET https://next/" and what is dropped on the way, or the error.
std::string outcome(std::string_view method, std::string_view from, int status, std::string_view location,
                    RedirectPolicy policy = {}, std::size_t followed = 0) {
    const auto next = follow_redirect(method, url(from), status, Headers{{"Location", location}}, followed, policy);
    if (!next) return "error: " + std::string{next.error().message()};
    return next->method + " " + std::string{next->url.href()} + (next->keep_body ? "" : ", no body") +
           (next->same_origin ? "" : ", other origin");
}

std::string names_of(const Headers& headers) {
    std::string names;
    for (const auto& [name, value] : headers) names.append(name).append(" ");
    return names;
}

}  // namespace

TEST_SUITE("redirect") {
    TEST_CASE("methods change as everybody changes them") {
        const auto method = [](std::string_view before, int status) {
            return outcome(before, "http://a/", status, "/b");
        };
        for (const int status : {301, 302}) {
            CHECK(method("GET", status) == "GET http://a/b");
            CHECK(method("HEAD", status) == "HEAD http://a/b");
            CHECK(method("POST", status) == "GET http://a/b, no body");
            CHECK(method("PUT", status) == "PUT http://a/b");
        }
        CHECK(method("GET", 303) == "GET http://a/b");
        CHECK(method("HEAD", 303) == "HEAD http://a/b");
        CHECK(method("POST", 303) == "GET http://a/b, no body");
        CHECK(method("DELETE", 303) == "GET http://a/b, no body");
        for (const int status : {307, 308}) {
            CHECK(method("POST", status) == "POST http://a/b");
            CHECK(method("DELETE", status) == "DELETE http://a/b");
        }
    }

    TEST_CASE("a Location may be relative, and inherits the fragment unless it has one") {
        CHECK(outcome("GET", "http://a/x/y?q#f", 302, "z") == "GET http://a/x/z#f");
        CHECK(outcome("GET", "http://a/x#f", 302, "/z#g") == "GET http://a/z#g");
        CHECK(outcome("GET", "http://a/x#f", 302, "/z#") == "GET http://a/z#");
        CHECK(outcome("GET", "http://a/x", 302, "//b/z") == "GET http://b/z, other origin");
    }

    TEST_CASE("another scheme, host or port is another origin") {
        CHECK(outcome("GET", "http://a/", 302, "https://a/") == "GET https://a/, other origin");
        CHECK(outcome("GET", "http://a/", 302, "http://a:81/") == "GET http://a:81/, other origin");
        CHECK(outcome("GET", "http://a/", 302, "http://A:80/b") == "GET http://a/b");
    }

    TEST_CASE("credentials of a URL stay with its origin") {
        CHECK(outcome("GET", "http://u:p@a/", 302, "/b") == "GET http://u:p@a/b");
        CHECK(outcome("GET", "http://u:p@a/", 302, "//b/") == "GET http://b/, other origin");
    }

    TEST_CASE("https does not lead to http unless that is allowed") {
        CHECK(outcome("GET", "https://a/", 302, "http://a/") ==
              "error: a redirect leads from https to \"http://a/\", which is not secure");
        RedirectPolicy policy;
        policy.allow_https_to_http = true;
        CHECK(outcome("GET", "https://a/", 302, "http://a/", policy) == "GET http://a/, other origin");
    }

    TEST_CASE("what leads nowhere says so") {
        CHECK(outcome("GET", "http://a/", 302, "ftp://a/") ==
              "error: a redirect leads to \"ftp://a/\": the scheme \"ftp\" is not one of http, https, ws and wss");
        CHECK(outcome("GET", "http://a/", 302, "http://[") ==
              "error: a redirect leads to \"http://[\": the IPv6 address \"[\" has no closing bracket");
        const auto none = follow_redirect("GET", url("http://a/"), 302, Headers{}, 0);
        REQUIRE_FALSE(none);
        CHECK(none.error().code() == errc::bad_redirect);
        CHECK(none.error().message() == "a redirect with status 302 has no Location");
        const auto two =
            follow_redirect("GET", url("http://a/"), 302, Headers{{"Location", "/b"}, {"Location", "/c"}}, 0);
        REQUIRE_FALSE(two);
        CHECK(two.error().message() == "a redirect has two different Locations");
    }

    TEST_CASE("the limit is a limit") {
        CHECK(outcome("GET", "http://a/", 302, "/b", {}, 9) == "GET http://a/b");
        CHECK(outcome("GET", "http://a/", 302, "/b", {}, 10) == "error: there are more than 10 redirects");
        CHECK(follow_redirect("GET", url("http://a/"), 302, Headers{{"Location", "/b"}}, 10).error().code() ==
              errc::too_many_redirects);
    }

    TEST_CASE("headers that must not go along are taken out") {
        const Headers request{{"Host", "a"},     {"authorization", "Basic x"},   {"Cookie", "y"},
                              {"Accept", "*/*"}, {"Content-Type", "text/plain"}, {"content-length", "3"}};
        Headers same = request;
        strip_headers(same, *follow_redirect("PUT", url("http://a/"), 307, Headers{{"Location", "/b"}}, 0));
        CHECK(names_of(same) == "authorization Cookie Accept Content-Type content-length ");
        Headers other = request;
        strip_headers(other, *follow_redirect("PUT", url("http://a/"), 307, Headers{{"Location", "//b/"}}, 0));
        CHECK(names_of(other) == "Accept Content-Type content-length ");
        Headers get = request;
        strip_headers(get, *follow_redirect("POST", url("http://a/"), 303, Headers{{"Location", "//b/"}}, 0));
        CHECK(names_of(get) == "Accept ");
    }
}
