#include <doctest/doctest.h>

#include <algorithm>
#include <cctype>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <torc/http/headers.hpp>
#include <torc/http/method.hpp>
#include <torc/http/status.hpp>

using torc::http::Headers;

namespace {

std::string text_of(const Headers& headers) {
    std::string text;
    for (const auto& [name, value] : headers) text.append(name).append("=").append(value).append(";");
    return text;
}

std::string error_of(std::string_view name, std::string_view value) {
    Headers headers;
    try {
        headers.add(name, value);
    } catch (const torc::Error& error) {
        CHECK(error.code() == torc::http::errc::bad_header);
        CHECK(headers.empty());
        return std::string{error.message()};
    }
    return "no error";
}

}  // namespace

TEST_SUITE("headers") {
    TEST_CASE("keep order and repetition, and are found without regard to case") {
        Headers headers{{"Host", "a"}, {"Set-Cookie", "x=1"}, {"set-cookie", "y=2"}};
        CHECK(headers.size() == 3);
        CHECK(headers.get("HOST") == "a");
        CHECK(headers.get("SET-cookie") == "x=1");
        CHECK(headers.get_all("Set-Cookie") == std::vector<std::string_view>{"x=1", "y=2"});
        CHECK(headers.count("set-COOKIE") == 2);
        CHECK_FALSE(headers.get("Cookie"));
        CHECK(headers.get_or("Cookie", "none") == "none");
        CHECK(text_of(headers) == "Host=a;Set-Cookie=x=1;set-cookie=y=2;");
    }

    TEST_CASE("set replaces the first and removes the others") {
        Headers headers{{"A", "1"}, {"B", "2"}, {"a", "3"}};
        headers.set("a", "4");
        CHECK(text_of(headers) == "a=4;B=2;");
        headers.set("C", "5");
        CHECK(text_of(headers) == "a=4;B=2;C=5;");
    }

    TEST_CASE("remove says how many there were") {
        Headers headers{{"A", "1"}, {"B", "2"}, {"a", "3"}};
        CHECK(headers.remove("A") == 2);
        CHECK(headers.remove("A") == 0);
        CHECK(text_of(headers) == "B=2;");
        headers.clear();
        CHECK(headers.empty());
    }

    TEST_CASE("a value may be set from itself") {
        Headers headers{{"A", "some value that is not short enough for any small buffer"}};
        for (int i = 0; i < 100; ++i) headers.set("B" + std::to_string(i % 3), *headers.get("A"));
        for (int i = 0; i < 100; ++i) headers.set("A", *headers.get("A"));
        CHECK(headers.get("A") == "some value that is not short enough for any small buffer");
        CHECK(headers.size() == 4);
    }

    TEST_CASE("values are trimmed, and may be empty or hold any text") {
        Headers headers{{"A", " \t x y \t"}, {"B", ""}, {"C", "\xc3\xa9"}};
        CHECK(headers.get("A") == "x y");
        CHECK(headers.get("B") == "");
        CHECK(headers.get("C") == "\xc3\xa9");
    }

    TEST_CASE("refuse what would break out of its line") {
        CHECK(error_of("", "x") == "a header's name is empty");
        CHECK(error_of("A b", "x") == "the header name \"A b\" contains a character that is not allowed in names");
        CHECK(error_of("A:", "x") == "the header name \"A:\" contains a character that is not allowed in names");
        CHECK(error_of("A\r\nB", "x") ==
              "the header name \"A\\x0d\\x0aB\" contains a character that is not allowed in names");
        CHECK(error_of("A", "x\r\nB: y") == "the value of the header \"A\" contains a line break");
        CHECK(error_of("A", "x\ny") == "the value of the header \"A\" contains a line break");
        CHECK(error_of("A", std::string_view{"x\0y", 3}) == "the value of the header \"A\" contains a NUL byte");
        CHECK(error_of("A", "x\x7f") == "the value of the header \"A\" contains a control character");
    }

    TEST_CASE("refuse each control byte but the tab, wherever it stands") {
        for (const std::size_t size : {3u, 8u, 11u, 19u}) {
            for (std::size_t at = 1; at + 1 < size; ++at) {
                for (int byte = 0; byte < 256; ++byte) {
                    std::string value(size, '\xff');
                    value[at] = static_cast<char>(byte);
                    const bool allowed = byte == '\t' || (byte >= 0x20 && byte != 0x7f);
                    INFO("byte " << byte << " at " << at << " of " << size);
                    CHECK((error_of("A", value) == "no error") == allowed);
                }
            }
        }
    }

    TEST_CASE("find a member of a comma-separated list") {
        Headers headers{{"Connection", "foo, Close ,bar"}, {"Connection", "keep-alive"}, {"TE", "trailers;q=0.5"}};
        CHECK(headers.has_token("connection", "close"));
        CHECK(headers.has_token("connection", "KEEP-ALIVE"));
        CHECK(headers.has_token("te", "trailers"));
        CHECK_FALSE(headers.has_token("connection", "clos"));
        CHECK_FALSE(headers.has_token("connection", "foo, Close"));
        CHECK_FALSE(headers.has_token("upgrade", "close"));
    }

    TEST_CASE("methods are known, safe and idempotent as the registry says") {
        using namespace torc::http;
        CHECK(is_known_method("GET"));
        CHECK_FALSE(is_known_method("get"));
        CHECK_FALSE(is_known_method("PRI"));
        CHECK_FALSE(is_known_method("ANNOUNCE"));
        CHECK(is_safe_method("HEAD"));
        CHECK_FALSE(is_safe_method("DELETE"));
        CHECK(is_idempotent_method("DELETE"));
        CHECK_FALSE(is_idempotent_method("POST"));
        CHECK_FALSE(is_idempotent_method("FOO"));
        CHECK(reason_phrase(404) == "Not Found");
        CHECK(reason_phrase(299) == "");
        std::set<std::string_view> phrases;
        int known = 0;
        for (int status = 0; status < 1000; ++status) {
            const std::string_view phrase = reason_phrase(status);
            if (phrase.empty()) continue;
            ++known;
            phrases.insert(phrase);
            CHECK((status >= 100 && status < 512));
            CHECK(std::ranges::all_of(phrase, [](char c) { return c == ' ' || c == '-' || std::isalpha(c) != 0; }));
        }
        CHECK(known == 60);
        CHECK(phrases.size() == 60);
        CHECK(is_redirect(308));
        CHECK_FALSE(is_redirect(304));
        CHECK(is_bodiless(199));
        CHECK(is_bodiless(204));
        CHECK_FALSE(is_bodiless(200));
    }
}
