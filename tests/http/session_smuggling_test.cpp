#include <doctest/doctest.h>

#include <torc/http/session.hpp>

#include "malformed.hpp"
#include "session_site.hpp"
#include "which_driver.hpp"

// Goal: a session refuses malformed responses with the right error and drops the connection, and nothing that a server
// sends without being asked is ever taken for the answer to the next request. Method: every row of the table, with a
// second response behind it, at once and byte by byte, from a server on the same executor; then another request of the
// same session, which has to get its own answer, over a connection of its own. The neighbour of each row is read, and
// its connection serves again.

using namespace torc;
using namespace torc::testing;
using http::AsyncSession;
using http::Response;
using http::SessionOptions;

namespace {

/// Status and body of the answer.
task<std::string> fetch(AsyncSession& session, std::string target, std::string method = "GET") {
    http::Request request;
    request.method = std::move(method);
    request.url = std::move(target);
    Response& response = co_await session.request(std::move(request));
    const std::string status = std::to_string(response.status());
    const std::string body = co_await response.text();
    co_return status + " " + body;
}

SessionOptions with_small_limits() {
    SessionOptions options;
    options.limits = malformed_limits();
    return options;
}

/// The session gets its own answer, over `connections` in all.
task<> expect_fresh(AsyncSession& session, Site& site, int connections) {
    const std::string fresh = co_await fetch(session, "/fresh");
    CHECK(fresh == "200 fresh");
    CHECK(site.accepted == connections);
}

task<> expect_refusal(Site& site, const Malformed& row) {
    site.answer = row.bad + std::string{hidden_response};
    site.accepted = 0;
    AsyncSession session{site.url(), with_small_limits()};
    task<std::string> fetching = fetch(session, "");
    const result<std::string> refused = co_await as_result(std::move(fetching));
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().code() == row.code);
    CHECK(refused.error().message().size() > 20);
    CHECK((refused.error().where() == phase::head || refused.error().where() == phase::body));
    CHECK_FALSE(session.connected());
    co_await expect_fresh(session, site, 2);
}

task<> expect_answer(Site& site, const Malformed& row) {
    site.answer = row.good;
    site.accepted = 0;
    AsyncSession session{site.url(), with_small_limits()};
    const std::string seen = co_await fetch(session, "");
    CHECK(seen == row.seen);
    CHECK(session.connected());
    co_await expect_fresh(session, site, 1);
}

struct Unasked {
    std::string what;
    std::string answer;
    std::string more;  ///< behind it; nothing for the neighbour, whose connection serves again
    std::string seen = "200 ";
    std::string method = "GET";
    bool keeps = true;  ///< the connection, if there were nothing more
};

const std::string plain = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

std::vector<Unasked> unasked() {
    const std::string hidden{hidden_response};
    const std::string as_long = "Content-Length: " + std::to_string(hidden.size()) + "\r\n\r\n";
    return {
        {"a second response", plain, hidden},
        {"a second response behind chunks", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", hidden},
        {"an interim response behind the final one", plain, "HTTP/1.1 100 Continue\r\n\r\n"},
        {"a line break", plain, "\r\n"},
        {"a single byte", plain, "H"},
        {"a body behind an answer to HEAD", "HTTP/1.1 200 OK\r\n" + as_long, hidden, "200 ", "HEAD"},
        {"a body behind 304", "HTTP/1.1 304 Not Modified\r\n" + as_long, hidden, "304 "},
        {"a body behind 204", "HTTP/1.1 204 No Content\r\n\r\n", hidden, "204 "},
        {"a body behind 204 that says so", "HTTP/1.1 204 No Content\r\n" + as_long, hidden, "204 ", "GET", false},
        {"chunks behind 204 that says so", "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n",
         "0\r\n\r\n" + hidden, "204 ", "GET", false},
        {"a response behind a change of protocols that nobody asked for",
         "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n", hidden, "101 ", "GET", false},
        {"a response behind the last one", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", hidden,
         "200 ", "GET", false},
        {"a response behind the only one of HTTP/1.0", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", hidden, "200 ",
         "GET", false},
    };
}

}  // namespace

TEST_SUITE("session: smuggling") {
    TEST_CASE("a malformed response is refused, its connection is dropped, and its neighbour is read") {
        const std::vector<Malformed> table = everything_malformed(false);
        with_site([&](Site& site) -> task<> {
            for (const Malformed& row : table) {
                CAPTURE(row.what);
                for (const bool one_by_one : {false, true}) {
                    CAPTURE(one_by_one);
                    site.one_by_one = one_by_one;
                    co_await expect_refusal(site, row);
                    co_await expect_answer(site, row);
                }
            }
        });
    }

    TEST_CASE("what a server sends behind its answer is not taken for the next one") {
        with_site([&](Site& site) -> task<> {
            for (const Unasked& row : unasked()) {
                CAPTURE(row.what);
                for (const bool one_by_one : {false, true}) {
                    CAPTURE(one_by_one);
                    site.one_by_one = one_by_one;
                    for (const bool more : {true, false}) {
                        CAPTURE(more);
                        site.answer = row.answer + (more ? row.more : "");
                        site.accepted = 0;
                        site.sent.reset();
                        AsyncSession session{site.url(), with_small_limits()};
                        const std::string seen = co_await fetch(session, "", row.method);
                        CHECK(seen == row.seen);
                        co_await site.sent.wait();
                        if (test::simulated()) co_await sleep_for(1ms);  // it is on its way there
                        co_await expect_fresh(session, site, more || !row.keeps ? 2 : 1);
                    }
                }
            }
        });
    }

    TEST_CASE("nor is it when the answer is a redirect") {
        with_site([](Site& site) -> task<> {
            const std::string redirect = "HTTP/1.1 302 Found\r\nLocation: /there\r\nContent-Length: 0\r\n\r\n";
            for (const bool more : {true, false}) {
                site.answer = redirect + (more ? std::string{hidden_response} : "");
                site.accepted = 0;
                AsyncSession session{site.url(), with_small_limits()};
                const std::string seen = co_await fetch(session, "");
                CHECK(seen == "200 there");
                CHECK(site.accepted == (more ? 2 : 1));
            }
        });
    }

    TEST_CASE("a response that looks like two is one if it lasts until the end of the connection") {
        with_site([](Site& site) -> task<> {
            site.end_after = true;
            site.answer = "HTTP/1.1 200 OK\r\n\r\n" + std::string{hidden_response};
            AsyncSession session{site.url(), with_small_limits()};
            const std::string seen = co_await fetch(session, "");
            CHECK(seen == "200 " + std::string{hidden_response});
            CHECK_FALSE(session.connected());
            co_await expect_fresh(session, site, 2);
        });
    }
}
