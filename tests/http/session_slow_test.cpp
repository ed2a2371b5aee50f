#include <torc/http/session.hpp>

#include "session_site.hpp"

// Goal: a session ends with each slow server within the limit that is meant for it, says which one it was, and tells a
// connection that broke from one that ended. Method: what is sent a little at a time, faster than any one wait may last
// and for longer than all of them together; connections that are reset in every phase of an exchange. Limits of time
// are a few milliseconds; nothing depends on how few.

using namespace torc;
using namespace torc::testing;
using http::AsyncSession;
using http::Response;
using http::SessionOptions;

namespace {

const std::string ok = "HTTP/1.1 200 OK\r\n";
const std::string chunked = ok + "Transfer-Encoding: chunked\r\n\r\n";

/// Of a whole exchange: the body, or how it ended.
task<result<std::string>> exchange(AsyncSession& session, std::string target, std::string method = "GET") {
    auto fetch = [&]() -> task<std::string> {
        http::Request request;
        request.method = method;
        request.url = target;
        Response& response = co_await session.request(std::move(request));
        std::string body = co_await response.text();
        co_return body;
    };
    co_return co_await as_result(fetch());
}

struct Slow {
    std::string what;
    std::string start;
    std::string drop;  ///< sent every few milliseconds
    phase where;
    std::string words;
};

struct Reset {
    std::string what;
    std::string sent;  ///< before the reset
    phase where = phase::none;
    std::string body = {};  ///< where there is no error
};

}  // namespace

TEST_SUITE("session: slow servers") {
    TEST_CASE("who sends a little at a time has as much time as everybody else") {
        const std::string head = "timed out after 0.15 s";
        const std::string total = "timed out after 0.2 s in all";
        const std::vector<Slow> table = {
            {"a status line", "HTTP/1.1 200 ", "a", phase::head, head},
            {"headers", ok, "X: y\r\n", phase::head, head},
            {"interim responses", "", "HTTP/1.1 100 Continue\r\n\r\n", phase::head, head},
            {"blank lines", "", "\r\n", phase::head, head},
            {"a body of known length", ok + "Content-Length: 100000\r\n\r\n", "a", phase::body, total},
            {"a body until the end of the connection", ok + "\r\n", "a", phase::body, total},
            {"chunks", chunked, "1\r\na\r\n", phase::body, total},
            {"the inside of a chunk", chunked + "ffff\r\n", "a", phase::body, total},
            {"a chunk's extension", chunked + "1;", "a", phase::body, total},
            {"trailers", chunked + "0\r\n", "X: y\r\n", phase::body, total},
            {"a compressed body that gives nothing", ok + "Content-Encoding: deflate\r\n\r\n\x78\x9c",
             std::string("\0\0\0\xff\xff", 5), phase::body, total},
        };
        with_site([&](Site& site) -> task<> {
            site.pause = 20ms;
            for (const Slow& row : table) {
                CAPTURE(row.what);
                site.answer = row.start;
                site.piece = row.drop;
                SessionOptions options;
                options.timeouts.head = row.where == phase::head ? 150ms : 10s;
                options.timeouts.total = row.where == phase::head ? 10s : 200ms;
                AsyncSession session{site.url(), options};
                const result<std::string> late = co_await exchange(session, "");
                REQUIRE_FALSE(late.has_value());
                CHECK(late.error().code() == errc::timed_out);
                CHECK(late.error().where() == row.where);
                CHECK(late.error().message() == row.words);
                CHECK_FALSE(session.connected());
            }
        });
    }

    TEST_CASE("redirects that each take their time share one limit") {
        with_site([](Site& site) -> task<> {
            site.answer = "HTTP/1.1 302 Found\r\nLocation: /row\r\nContent-Length: 1\r\n\r\n";
            site.piece = "a";
            site.pause = 60ms;
            site.end_after = true;
            SessionOptions options;
            options.redirects.max_redirects = 1000;
            options.timeouts.total = 150ms;
            AsyncSession session{site.url(), options};
            const result<std::string> late = co_await exchange(session, "");
            REQUIRE_FALSE(late.has_value());
            CHECK(late.error().code() == errc::timed_out);
            CHECK(late.error().message() == "timed out after 0.15 s in all");
        });
    }

    TEST_CASE("the rest of a body that comes slowly does not hold up the next request") {
        with_site([](Site& site) -> task<> {
            const std::vector<std::string> starts = {ok + "Content-Length: 1000\r\n\r\n", chunked + "3e8\r\n"};
            for (const std::string& start : starts) {
                site.answer = start;
                site.piece = "a";
                site.pause = 20ms;
                site.accepted = 0;
                SessionOptions options;
                options.timeouts.total = 5s;
                AsyncSession session{site.url(), options};
                Response& first = co_await session;
                CHECK(first.status() == 200);
                const Clock::time_point since = Clock::now();
                const result<std::string> second = co_await exchange(session, "/fresh");
                REQUIRE(second.has_value());
                CHECK(*second == "fresh");
                CHECK(Clock::now() - since < 5s);
                CHECK(site.accepted == 2);
            }
        });
    }

    TEST_CASE("a server that takes nothing ends a request that is too large for the sockets") {
        with_site([](Site& site) -> task<> {
            site.deaf = true;
            SessionOptions options;
            options.timeouts.send = 60ms;
            AsyncSession session{site.url(), options};
            const std::string more_than_sockets_hold(64'000'000, 'x');
            auto posting = session.post("", more_than_sockets_hold);
            auto late = co_await as_result(std::move(posting));
            REQUIRE_FALSE(late.has_value());
            CHECK(late.error().code() == errc::timed_out);
            CHECK(late.error().where() == phase::send);
            CHECK(late.error().message() == "timed out after 0.06 s");
            CHECK_FALSE(session.connected());
        });
    }

    TEST_CASE("a server that does not close its side is not waited for") {
        with_site([](Site& site) -> task<> {
            const std::vector<std::string> answers = {ok + "Content-Length: 0\r\n\r\n",
                                                      ok + "Connection: close\r\nContent-Length: 0\r\n\r\n",
                                                      "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n"};
            for (const std::string& answer : answers) {
                site.answer = answer;
                AsyncSession session{site.url()};
                const result<std::string> body = co_await exchange(session, "");
                CHECK(body.has_value());
                co_await session.close();
                CHECK(Executor::here().statistics().ungraceful_closes == 0);
            }
        });
    }
}

TEST_SUITE("session: resets") {
    TEST_CASE("a connection that is reset in any phase is an error of that phase, unless all was there") {
        const std::vector<Reset> table = {
            {"before the head", "", phase::head},
            {"in the status line", "HTTP/1.1 2", phase::head},
            {"in the headers", ok + "X: y\r\n", phase::head},
            {"between interim responses", "HTTP/1.1 100 Continue\r\n\r\n", phase::head},
            {"before the body", ok + "Content-Length: 5\r\n\r\n", phase::body},
            {"in a body of known length", ok + "Content-Length: 5\r\n\r\nhel", phase::body},
            {"in a body until the end of the connection", ok + "\r\nhello", phase::body},
            {"in the size of a chunk", chunked + "5", phase::body},
            {"in a chunk", chunked + "5\r\nhel", phase::body},
            {"between chunks", chunked + "5\r\nhello\r\n", phase::body},
            {"in the trailers", chunked + "5\r\nhello\r\n0\r\nX: y\r\n", phase::body},
            {"behind the last byte", ok + "Content-Length: 5\r\n\r\nhello", phase::none, "hello"},
            {"behind the last chunk", chunked + "5\r\nhello\r\n0\r\n\r\n", phase::none, "hello"},
        };
        with_site([&](Site& site) -> task<> {
            site.reset_after = true;
            for (const Reset& row : table) {
                CAPTURE(row.what);
                for (const bool one_by_one : {false, true}) {
                    CAPTURE(one_by_one);
                    site.answer = row.sent;
                    site.one_by_one = one_by_one;
                    site.accepted = 0;
                    AsyncSession session{site.url()};
                    const result<std::string> ended = co_await exchange(session, "");
                    if (row.where == phase::none) {
                        REQUIRE(ended.has_value());
                        CHECK(*ended == row.body);
                    } else {
                        REQUIRE_FALSE(ended.has_value());
                        CHECK(ended.error().code() == std::errc::connection_reset);
                        CHECK(ended.error().where() == row.where);
                        CHECK_FALSE(session.connected());
                    }
                    const result<std::string> next = co_await exchange(session, "/fresh");
                    REQUIRE(next.has_value());
                    CHECK(*next == "fresh");
                    CHECK(site.accepted == 2);
                }
            }
        });
    }

    TEST_CASE("a kept connection that is reset under a request repeats what may be repeated, and nothing else") {
        with_site([](Site& site) -> task<> {
            for (const bool repeatable : {true, false}) {
                site.accepted = 0;
                site.reset_after = true;
                site.answer = "";
                AsyncSession session{site.url()};
                const result<std::string> first = co_await exchange(session, "/fresh");
                REQUIRE(first.has_value());
                CHECK(session.connected());
                // The request for "/row" is read, and the connection reset in place of an answer.
                const result<std::string> second = co_await exchange(session, "/row", repeatable ? "PUT" : "POST");
                REQUIRE_FALSE(second.has_value());
                CHECK(second.error().code() == std::errc::connection_reset);
                CHECK(second.error().where() == phase::head);
                CHECK(site.accepted == (repeatable ? 2 : 1));
            }
        });
    }
}
