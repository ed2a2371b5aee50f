#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

#include "transcript.hpp"

// Goal: no message is accepted that two readers could cut at different places. Method: each malformed framing is
// followed by a complete second message, which must never be seen; each is tried at every cut, as a request and
// mirrored as a response.

using torc::http::errc;
using torc::http::Parser;

namespace {

constexpr std::string_view hidden_request = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";
constexpr std::string_view hidden_response = "HTTP/1.1 299 hidden\r\nContent-Length: 0\r\n\r\n";

std::string text(const char* literal) { return literal; }

// Fields that make the framing of a message unclear, with some body.
const std::vector<std::string>& bad_framings() {
    static const std::string nul(1, '\0');
    static const std::vector<std::string> all = {
        // Content-Length against itself
        "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "Content-Length: 5\r\ncontent-length: 0\r\n\r\nhello",
        "Content-Length: 5, 5\r\n\r\nhello",
        "Content-Length: 5, 6\r\n\r\nhello",
        "Content-Length: 5,\r\n\r\nhello",
        // what is not a length
        "Content-Length:\r\n\r\nhello",
        "Content-Length: \t \r\n\r\nhello",
        "Content-Length: +5\r\n\r\nhello",
        "Content-Length: -5\r\n\r\nhello",
        "Content-Length: 5 \t5\r\n\r\nhello",
        "Content-Length: 0x5\r\n\r\nhello",
        "Content-Length: 5a\r\n\r\nhello",
        "Content-Length: 5.0\r\n\r\nhello",
        "Content-Length: 1e1\r\n\r\nhello",
        "Content-Length: \"5\"\r\n\r\nhello",
        "Content-Length: 5;x\r\n\r\nhello",
        "Content-Length: 9223372036854775808\r\n\r\nhello",
        "Content-Length: 18446744073709551621\r\n\r\nhello",
        "Content-Length: 99999999999999999999999\r\n\r\nhello",
        "Content-Length: \xb5\r\n\r\nhello",
        // both
        "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
        "Content-Length: 5\r\nTransfer-Encoding: identity\r\n\r\nhello",
        // transfer codings other than chunked, once
        "Transfer-Encoding: identity\r\n\r\nhello",
        "Transfer-Encoding: gzip\r\n\r\nhello",
        "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: chun ked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding:\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: \x0b"
        "chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding: \xa0"
        "chunked\r\n\r\n0\r\n\r\n",
        // names and lines
        "Content-Length : 5\r\n\r\nhello",
        "Content-Length\t: 5\r\n\r\nhello",
        " Content-Length: 5\r\n\r\nhello",
        "X: y\r\n Content-Length: 5\r\n\r\nhello",
        "X: y\r\n\tz\r\nContent-Length: 5\r\n\r\nhello",
        "Transfer-Encoding: chunked\r\n z\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        ": 5\r\nContent-Length: 5\r\n\r\nhello",
        "Content-Length\r\n\r\nhello",
        "Content Length: 5\r\n\r\nhello",
        "X(: y\r\nContent-Length: 5\r\n\r\nhello",
        // line ends
        "X: y\nContent-Length: 5\r\n\r\nhello",
        "X: y\rContent-Length: 5\r\n\r\nhello",
        "X: y\r\r\nContent-Length: 5\r\n\r\nhello",
        "X: y\n\rContent-Length: 5\r\n\r\nhello",
        "Content-Length: 5\n\nhello",
        "Content-Length: 5\r\n\nhello",
        "Content-Length: 5\n\r\nhello",
        "Content-Length: 5\r\rhello",
        "Content-Length: 5\r\n\rhello",
        // control bytes
        "X: " + nul + "\r\nContent-Length: 5\r\n\r\nhello",
        "X" + nul + ": y\r\nContent-Length: 5\r\n\r\nhello",
        "Content-Length: 5" + nul + "\r\n\r\nhello",
        "X: \x01\r\nContent-Length: 5\r\n\r\nhello",
        "X: \x7f\r\nContent-Length: 5\r\n\r\nhello",
        "X: \x0c\r\nContent-Length: 5\r\n\r\nhello",
    };
    return all;
}

// Chunked bodies that end in more than one way.
const std::vector<std::string>& bad_chunks() {
    static const std::string nul(1, '\0');
    static const std::vector<std::string> all = {
        "\r\n0\r\n\r\n",
        "x\r\n0\r\n\r\n",
        "-1\r\n0\r\n\r\n",
        "+1\r\na\r\n0\r\n\r\n",
        "0x1\r\na\r\n0\r\n\r\n",
        " 1\r\na\r\n0\r\n\r\n",
        "1 \r\na\r\n0\r\n\r\n",
        "1\t\r\na\r\n0\r\n\r\n",
        "1 ;a\r\na\r\n0\r\n\r\n",
        "1g\r\na\r\n0\r\n\r\n",
        "1;\r\na\r\n0\r\n\r\n",
        "1;;a\r\na\r\n0\r\n\r\n",
        "1; a\r\na\r\n0\r\n\r\n",
        "1;a=\r\na\r\n0\r\n\r\n",
        "1;a=\"b\r\na\r\n0\r\n\r\n",
        "1;a=\"b\\\"\r\na\r\n0\r\n\r\n",
        "1;a=\"b\"c\r\na\r\n0\r\n\r\n",
        "1;a\nb\r\na\r\n0\r\n\r\n",
        "1;a" + nul + "\r\na\r\n0\r\n\r\n",
        "1\na\r\n0\r\n\r\n",
        "1\ra\r\n0\r\n\r\n",
        "1\r\r\na\r\n0\r\n\r\n",
        "1\r\na\n0\r\n\r\n",
        "1\r\na\r0\r\n\r\n",
        "1\r\nab\r\n0\r\n\r\n",
        "2\r\na\r\n0\r\n\r\n",
        "1\r\na0\r\n\r\n",
        "1\r\na\r\n\r\n0\r\n\r\n",
        "8000000000000000\r\na\r\n0\r\n\r\n",
        "ffffffffffffffff\r\na\r\n0\r\n\r\n",
        "10000000000000001\r\na\r\n0\r\n\r\n",
        "00000000000000001\r\na\r\n0\r\n\r\n",
        "0\r\n\n",
        "0\n\r\n",
        "0\r\nX: y\n\r\n",
        "0\r\nX : y\r\n\r\n",
        "0\r\n X: y\r\n\r\n",
        "0\r\nX: y\r\n z\r\n\r\n",
        "0\r\nX\r\n\r\n",
        "0\r\n: y\r\n\r\n",
        "0\r\nX: " + nul + "\r\n\r\n",
        "0\r\nContent-Length: 5\r\n\r\n",
        "0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "0\r\nHost: evil\r\n\r\n",
    };
    return all;
}

void must_be_refused(const std::string& bytes, Parser::role side) {
    Reading how;
    how.side = side;
    CAPTURE(bytes);
    const auto ways = read_every_way(bytes, how);
    CHECK(ways.size() == 1);
    if (ways.size() > 1) CHECK(ways[0] == ways[1]);
    const Transcript t = read_whole(bytes, how);
    CHECK(t.refused());
    CHECK(t.messages == 0);
    CHECK(t.text.find("hidden") == std::string::npos);
    CHECK(t.text.find("STUCK") == std::string::npos);
    // It is the guard that refuses, not llhttp, whose releases differ.
    CHECK(t.error.find("the message is malformed") == std::string::npos);
}

}  // namespace

TEST_SUITE("smuggling") {
    TEST_CASE("a request whose framing is unclear is refused and what follows it is never seen") {
        for (const std::string& framing : bad_framings()) {
            must_be_refused("POST / HTTP/1.1\r\nHost: x\r\n" + framing + std::string{hidden_request},
                            Parser::role::request);
        }
    }

    TEST_CASE("a response whose framing is unclear is refused and what follows it is never seen") {
        for (const std::string& framing : bad_framings()) {
            must_be_refused("HTTP/1.1 200 OK\r\n" + framing + std::string{hidden_response}, Parser::role::response);
        }
    }

    TEST_CASE("a chunked body that could end in two places is refused, both ways") {
        for (const std::string& chunks : bad_chunks()) {
            must_be_refused("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks +
                                std::string{hidden_request},
                            Parser::role::request);
            must_be_refused(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + std::string{hidden_response},
                Parser::role::response);
        }
    }

    TEST_CASE("transfer codings are refused in HTTP/1.0") {
        must_be_refused("POST / HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                        Parser::role::request);
        must_be_refused("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", Parser::role::response);
    }

    TEST_CASE("a request line that is not exactly method, target and version is refused") {
        for (const std::string& line : {
                 text("GET /\r\n"),
                 text("GET\r\n"),
                 text("GET / \r\n"),
                 text("GET  / HTTP/1.1\r\n"),
                 text("GET /  HTTP/1.1\r\n"),
                 text("GET / HTTP/1.1 \r\n"),
                 text("GET\t/ HTTP/1.1\r\n"),
                 text(" GET / HTTP/1.1\r\n"),
                 text("GET /a b HTTP/1.1\r\n"),
                 text("get / HTTP/1.1\r\n"),
                 text("G(T / HTTP/1.1\r\n"),
                 text("FOO / HTTP/1.1\r\n"),
                 text("PRI * HTTP/2.0\r\n"),
                 text("GET a HTTP/1.1\r\n"),
                 text("GET /\xc3\xa9 HTTP/1.1\r\n"),
                 text("GET /\x01 HTTP/1.1\r\n"),
                 text("GET / HTTP/0.9\r\n"),
                 text("GET / HTTP/1.2\r\n"),
                 text("GET / HTTP/2.0\r\n"),
                 text("GET / HTTP/1.1x\r\n"),
                 text("GET / http/1.1\r\n"),
                 text("GET / HTTP/11\r\n"),
                 text("GET / HTTP/1.1\n"),
                 text("CONNECT / HTTP/1.1\r\n"),
                 text("CONNECT h HTTP/1.1\r\n"),
                 text("CONNECT h:x HTTP/1.1\r\n"),
                 text("GET ://x HTTP/1.1\r\n"),
             }) {
            must_be_refused(line + "Host: x\r\n\r\n" + std::string{hidden_request}, Parser::role::request);
        }
    }

    TEST_CASE("a status line that is not exactly version, status and reason is refused") {
        for (const std::string& line : {
                 text("HTTP/1.1\r\n"),
                 text("HTTP/1.1 \r\n"),
                 text("HTTP/1.1 20\r\n"),
                 text("HTTP/1.1 2000 OK\r\n"),
                 text("HTTP/1.1 20x OK\r\n"),
                 text("HTTP/1.1 099 OK\r\n"),
                 text("HTTP/1.1  200 OK\r\n"),
                 text("HTTP/1.1\t200 OK\r\n"),
                 text("HTTP/1.1 200\tOK\r\n"),
                 text("HTTP/2 200 OK\r\n"),
                 text("HTTP/1.2 200 OK\r\n"),
                 text("http/1.1 200 OK\r\n"),
                 text("HTTP/1.1 200 O\x01K\r\n"),
                 text("HTTP/1.1 200 OK\n"),
                 text("HTTP/1.1 -20 OK\r\n"),
                 text("SSH-2.0-OpenSSH_9.2\r\n"),
                 text(" HTTP/1.1 200 OK\r\n"),
                 text("ICY 200 OK\r\n"),
             }) {
            must_be_refused(line + "Content-Length: 0\r\n\r\n" + std::string{hidden_response}, Parser::role::response);
        }
    }

    TEST_CASE("an HTTP/1.1 request has one Host header, and it is a host") {
        for (const std::string& host :
             {text(""), text("Host: a\r\nHost: a\r\n"), text("Host: a\r\nHOST: b\r\n"), text("Host: a b\r\n"),
              text("Host: a/b\r\n"), text("Host: u@a\r\n"), text("Host: a?b\r\n"), text("Host: \xc3\xa9\r\n")}) {
            must_be_refused("GET / HTTP/1.1\r\n" + host + "\r\n" + std::string{hidden_request}, Parser::role::request);
        }
        CHECK_FALSE(read_whole("GET / HTTP/1.1\r\nHost:\r\n\r\n", {}).refused());
        CHECK_FALSE(read_whole("GET / HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", {}).refused());
        CHECK_FALSE(read_whole("GET / HTTP/1.0\r\n\r\n", {}).refused());
    }

    TEST_CASE("a CONNECT request can not bring a body") {
        must_be_refused(
            "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\nContent-Length: 5\r\n\r\nhello" + std::string{hidden_request},
            Parser::role::request);
        must_be_refused("CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" +
                            std::string{hidden_request},
                        Parser::role::request);
    }

    TEST_CASE("blank lines instead of a message end") {
        std::string blank;
        for (int i = 0; i < 9; ++i) blank += "\r\n";
        must_be_refused(blank + std::string{hidden_request}, Parser::role::request);
    }

    TEST_CASE("each kind of refusal has its code") {
        const auto code = [](std::string_view bytes) { return read_whole(bytes, {}).code; };
        CHECK(code("GET / HTTP/2.0\r\n") == errc::unsupported_version);
        CHECK(code("FOO / HTTP/1.1\r\n") == errc::unknown_method);
        CHECK(code("GET / HTTP/1.1\n") == errc::bad_message);
        CHECK(code("GET / HTTP/1.1\r\nHost: x\r\nContent-Length: x\r\n\r\n") == errc::bad_framing);
        CHECK(code("\x16\x03\x01\x02") == errc::bad_message);
    }
}
