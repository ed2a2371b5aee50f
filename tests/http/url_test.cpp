#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include <torc/http/url.hpp>

using torc::http::errc;
using torc::http::Url;

namespace {

Url url(std::string_view text) {
    auto parsed = Url::parse(text);
    REQUIRE_MESSAGE(parsed, std::string{text});
    return *parsed;
}

std::string error_of(std::string_view text) {
    auto parsed = Url::parse(text);
    return parsed ? "no error: " + std::string{parsed->href()} : std::string{parsed.error().message()};
}

std::string resolved(std::string_view base, std::string_view reference) {
    auto result = url(base).resolve(reference);
    return result ? std::string{result->href()} : "error: " + std::string{result.error().message()};
}

}  // namespace

TEST_SUITE("url") {
    TEST_CASE("takes a URL apart") {
        const Url u = url("https://ann:s%20cret@Example.COM:8443/a/b?x=1&y=2#top");
        CHECK(u.scheme() == "https");
        CHECK(u.secure());
        CHECK(u.host() == "example.com");
        CHECK(u.port() == 8443);
        CHECK(u.has_explicit_port());
        CHECK(u.path() == "/a/b");
        CHECK(u.query() == "x=1&y=2");
        CHECK(u.fragment() == "top");
        CHECK(u.has_credentials());
        CHECK(u.user() == "ann");
        CHECK(u.password() == "s cret");
        CHECK(u.target() == "/a/b?x=1&y=2");
        CHECK(u.authority() == "example.com:8443");
        CHECK(u.origin() == "https://example.com:8443");
        CHECK(u.href() == "https://ann:s%20cret@example.com:8443/a/b?x=1&y=2#top");
    }

    TEST_CASE("fills in what people leave out") {
        CHECK(url("http://example.com").target() == "/");
        CHECK(url("http://example.com?q").target() == "/?q");
        CHECK(url("  http://example.com/ \n").href() == "http://example.com/");
        CHECK(url("http://example.com:/").port() == 80);
        CHECK(url("HTTPS://EXAMPLE.com").href() == "https://example.com/");
        CHECK(url("wss://example.com/chat").port() == 443);
        CHECK_FALSE(url("https://example.com:443/").has_explicit_port());
        CHECK(url("https://example.com:443/").authority() == "example.com");
    }

    TEST_CASE("encodes what may not stand in a request line") {
        CHECK(url("http://h/a b?c d#e f").href() == "http://h/a%20b?c%20d#e%20f");
        CHECK(url("http://h/\xc3\xa9").target() == "/%C3%A9");
        CHECK(url("http://h/already%20done").target() == "/already%20done");
        CHECK(url("http://h/x\r\nSet-Cookie: a").target() == "/xSet-Cookie:%20a");
    }

    TEST_CASE("resolves dot segments and back slashes") {
        CHECK(url("http://h/a/./b/../../c").path() == "/c");
        CHECK(url("http://h/../..").path() == "/");
        CHECK(url("http:\\\\h\\a\\b").href() == "http://h/a/b");
        CHECK(url("http://h/%2e%2E/x").path() == "/x");
    }

    TEST_CASE("an IPv6 address has brackets where they are needed and none where they are not") {
        const Url u = url("http://[2001:DB8:0:0::1]:8080/");
        CHECK(u.is_ipv6());
        CHECK(u.host() == "2001:db8::1");
        CHECK(u.bracketed_host() == "[2001:db8::1]");
        CHECK(u.authority() == "[2001:db8::1]:8080");
        CHECK(url("http://[::ffff:1.2.3.4]/").host() == "::ffff:102:304");
        CHECK(url("http://[::]/").host() == "::");
        CHECK(url("http://[1::]/").host() == "1::");
    }

    TEST_CASE("numbers that mean an IPv4 address become that address") {
        CHECK(url("http://0x7f.1/").host() == "127.0.0.1");
        CHECK(url("http://017700000001/").host() == "127.0.0.1");
        CHECK(url("http://2130706433/").is_ipv4());
        CHECK_FALSE(url("http://1.2.3.4.com/").is_ipv4());
    }

    TEST_CASE("an international name becomes ASCII") {
        CHECK(url("https://b\xc3\xbc"
                  "cher.example/")
                  .host() == "xn--bcher-kva.example");
        CHECK(url("https://B\xc3\x9c"
                  "CHER.example/")
                  .host() == "xn--bcher-kva.example");
    }

    TEST_CASE("says in words what is wrong") {
        CHECK(error_of("") == "the URL is empty");
        CHECK(error_of("example.com") == "\"example.com\" is not a full URL; write \"https://example.com\"");
        CHECK(error_of("localhost:8080/x") ==
              "\"localhost:8080/x\" is not a full URL; write \"https://localhost:8080/x\"");
        CHECK(error_of("ftp://example.com") == "the scheme \"ftp\" is not one of http, https, ws and wss");
        CHECK(error_of("http://example.com:99999/") == "the port 99999 is larger than 65535");
        CHECK(error_of("http://example.com:http/") == "the port \"http\" is not a number");
        CHECK(error_of("http:///") == "the URL has no host");
        CHECK(error_of("http://a b/") == "the host \"a b\" contains \" \", which no host name may contain");
        CHECK(error_of("http://[::1/") == "the IPv6 address \"[::1\" has no closing bracket");
        CHECK(error_of("http://[1:2]/") == "\"[1:2]\" is not an IPv6 address");
        CHECK(error_of("http://1.2.3.400/") ==
              "the host \"1.2.3.400\" ends in a number but is not an IPv4 address: the part \"400\" is too large");
        CHECK(error_of("http://\xff\xfe/").find("is not a valid international name") != std::string::npos);
        CHECK(Url::parse("gopher://x").error().code() == errc::unknown_scheme);
        CHECK(Url::parse("http://x:1:2").error().code() == errc::bad_url);
        CHECK(error_of("http://x/" + std::string(1 << 20, 'a')) == "the URL is longer than 1 MiB");
    }

    TEST_CASE("resolves the examples of RFC 3986 section 5.4") {
        const std::string base = "http://a/b/c/d;p?q";
        CHECK(resolved(base, "g") == "http://a/b/c/g");
        CHECK(resolved(base, "./g/") == "http://a/b/c/g/");
        CHECK(resolved(base, "/g") == "http://a/g");
        CHECK(resolved(base, "//g") == "http://g/");
        CHECK(resolved(base, "?y") == "http://a/b/c/d;p?y");
        CHECK(resolved(base, "#s") == "http://a/b/c/d;p?q#s");
        CHECK(resolved(base, "") == "http://a/b/c/d;p?q");
        CHECK(resolved(base, "../../../g") == "http://a/g");
        CHECK(resolved(base, "g;x=1/../y") == "http://a/b/c/y");
        CHECK(resolved(base, "https://other/") == "https://other/");
        CHECK(resolved(base, "mailto:x@y") == "error: the scheme \"mailto\" is not one of http, https, ws and wss");
    }

    TEST_CASE("an origin is scheme, host and port") {
        CHECK(url("http://a/x").same_origin(url("http://A:80/y")));
        CHECK_FALSE(url("http://a/").same_origin(url("https://a/")));
        CHECK_FALSE(url("http://a/").same_origin(url("http://a:81/")));
        CHECK_FALSE(url("http://a/").same_origin(url("http://b/")));
    }

    TEST_CASE("fragment and credentials can be taken off and put on") {
        const Url u = url("http://me:pw@h:1/p?q#f");
        CHECK(u.without_fragment().href() == "http://me:pw@h:1/p?q");
        CHECK(u.without_credentials().href() == "http://h:1/p?q#f");
        CHECK(u.with_fragment("a b").href() == "http://me:pw@h:1/p?q#a%20b");
        CHECK(url("http://h/?").without_fragment().href() == "http://h/?");
    }
}
