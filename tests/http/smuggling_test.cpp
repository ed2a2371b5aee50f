#include <doctest/doctest.h>

#include <string>
#include <string_view>
#include <vector>

#include "malformed.hpp"
#include "transcript.hpp"

// Goal: no message is accepted that two readers could cut at different places. Method: each malformed message is
// followed by a complete second one, which must never be seen; each is tried at every cut, as a request and mirrored as
// a response, and so is the nearest message that is in order. What servers and sessions do with them is in
// server_smuggling_test.cpp and session_smuggling_test.cpp.

using torc::http::errc;
using torc::http::Parser;
using torc::testing::everything_malformed;
using torc::testing::hidden_request;
using torc::testing::hidden_response;
using torc::testing::Malformed;

namespace {

Reading reading_of(Parser::role side) {
    Reading how;
    how.side = side;
    how.options.limits = torc::testing::malformed_limits();
    how.stop_at_upgrade = false;  // nobody has agreed to it
    return how;
}

/// What all ways to cut `bytes` lead to, which has to be one and the same.
Transcript read_alike(const std::string& bytes, Parser::role side) {
    const Reading how = reading_of(side);
    const auto ways = read_every_way(bytes, how);
    CHECK(ways.size() == 1);
    if (ways.size() > 1) CHECK(ways[0] == ways[1]);
    Transcript whole = read_whole(bytes, how);
    CHECK(whole.text.find("STUCK") == std::string::npos);
    return whole;
}

Transcript must_be_refused(const std::string& bytes, Parser::role side) {
    CAPTURE(bytes);
    Transcript refused = read_alike(bytes, side);
    CHECK(refused.refused());
    CHECK(refused.messages == 0);
    CHECK(refused.text.find("hidden") == std::string::npos);
    // It is the guard that refuses, not llhttp, whose releases differ.
    CHECK(refused.error.find("the message is malformed") == std::string::npos);
    return refused;
}

void check_table(Parser::role side) {
    const bool request = side == Parser::role::request;
    const std::string hidden{request ? hidden_request : hidden_response};
    for (const Malformed& row : everything_malformed(request)) {
        CAPTURE(row.what);
        CHECK(must_be_refused(row.bad + hidden, side).code == row.code);
        CAPTURE(row.good);
        const Transcript read = read_alike(row.good + hidden, side);
        CHECK(read.error == "");
        CHECK(read.messages == 2);
        CHECK(read.text.find("hidden") != std::string::npos);
        const std::string body = row.seen.substr(row.seen.rfind(' ') + 1);
        CHECK(read.text.find("\nbody=" + body + "\n") != std::string::npos);
    }
}

}  // namespace

TEST_SUITE("smuggling") {
    TEST_CASE("a malformed request is refused, what follows it is never seen, and its neighbour is read") {
        check_table(Parser::role::request);
    }

    TEST_CASE("a malformed response is refused, what follows it is never seen, and its neighbour is read") {
        check_table(Parser::role::response);
    }

    TEST_CASE("a CONNECT request names a host and a port, and can not bring a body") {
        const std::string next{hidden_request};
        for (const std::string target : {"/", "h", "h:x", "http://h/"}) {
            must_be_refused("CONNECT " + target + " HTTP/1.1\r\nHost: h\r\n\r\n" + next, Parser::role::request);
        }
        const std::string head = "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n";
        must_be_refused(head + "Content-Length: 5\r\n\r\nhello" + next, Parser::role::request);
        must_be_refused(head + "Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + next, Parser::role::request);
        // What follows is the other protocol's.
        const Transcript tunnel = read_whole(head + "\r\n" + next, {});
        CHECK_FALSE(tunnel.refused());
        CHECK(tunnel.messages == 1);
        CHECK(tunnel.consumed_bytes == head.size() + 2);
    }
}
