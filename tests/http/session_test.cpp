#include <doctest/doctest.h>

#include <torc/http/blocking.hpp>
#include <torc/http/coding.hpp>
#include <torc/http/session.hpp>

#include "leak_check.hpp"
#include "peer.hpp"
#include "steps.hpp"

using namespace torc;
using namespace std::chrono_literals;
using http::AsyncSession;
using http::Response;
using http::SessionOptions;
using test::answering;
using test::Peer;
using test::run_beside_peers;

namespace {

const std::string hello = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

std::string ok(std::string_view body, std::string_view headers = "") {
    return "HTTP/1.1 200 OK\r\n" + std::string{headers} + "Content-Length: " + std::to_string(body.size()) +
           "\r\n\r\n" + std::string{body};
}

task<std::string> fetch(std::string url, SessionOptions options = {}) {
    AsyncSession session{url, std::move(options)};
    Response& response = co_await session;
    co_return co_await response.text();
}

/// Runs `make()` and gives the error it ends with; fails if there is none.
template <class Make>
Error error_of(Make make) {
    std::optional<Error> caught;
    run_beside_peers([&]() -> task<> {
        auto ended = co_await as_result(make());
        REQUIRE_FALSE(ended);
        caught = std::move(ended).error();
    });
    return *caught;
}

/// Answers with the head of the request as the body.
Peer::Handler echoing_heads() {
    return [](net::TcpStream stream) -> task<> {
        return [](net::TcpStream connection) -> task<> {
            for (;;) {
                const std::string head = co_await test::read_head(connection);
                if (head.empty()) co_return;
                const std::string answer = ok(head);
                co_await connection.send(answer);
            }
        }(std::move(stream));
    };
}

/// Collects a request until its body ends, in "END" or in chunks, and answers it.
Peer::Handler collecting(std::string& seen) {
    return [&seen](net::TcpStream stream) -> task<> {
        return [](net::TcpStream connection, std::string& all) -> task<> {
            std::array<char, 4096> buffer;
            while (!all.ends_with("END") && !all.ends_with("0\r\n\r\n")) {
                const std::size_t count = co_await connection.receive(std::as_writable_bytes(std::span{buffer}));
                if (count == 0) co_return;
                all.append(buffer.data(), count);
            }
            co_await connection.send(hello);
        }(std::move(stream), seen);
    };
}

}  // namespace

TEST_SUITE("session") {
    TEST_CASE("awaiting a session is a GET that gives the response of its URL") {
        const Peer peer{answering({hello})};
        run_beside_peers([&]() -> task<> {
            AsyncSession session{peer.url()};
            Response& response = co_await session;
            CHECK(response.status() == 200);
            CHECK(response.reason() == "OK");
            CHECK(response.content_length() == 5);
            const std::string body = co_await response.text();
            CHECK(body == "hello");
            CHECK(session.peer() == peer.address());
            CHECK_FALSE(session.tls());
            CHECK(session.timings().connect.count() > 0);
            CHECK(session.timings().tls.count() == 0);
        });
    }

    TEST_CASE("a request carries what it must, once, and what the options add") {
        const Peer peer{echoing_heads()};
        run_beside_peers([&]() -> task<> {
            SessionOptions options;
            options.headers.add("X-One", "1");
            options.user_agent = "mine/1";
            AsyncSession session{peer.url("http", "/a%20b?c=d#e"), options};
            Response& response = co_await session;
            const std::string head = co_await response.text();
            CHECK(head.starts_with("GET /a%20b?c=d HTTP/1.1\r\nHost: 127.0.0.1:"));
            CHECK(head.find("X-One: 1\r\n") != std::string::npos);
            CHECK(head.find("User-Agent: mine/1\r\n") != std::string::npos);
            CHECK(head.find("Accept-Encoding: gzip, deflate, br, zstd\r\n") != std::string::npos);
            CHECK(head.find("Content-Length") == std::string::npos);
        });
    }

    TEST_CASE("credentials in the URL become an Authorization header") {
        const Peer peer{echoing_heads()};
        const std::string head = run_beside_peers(
            [&] { return fetch("http://us%40er:p:w@127.0.0.1:" + std::to_string(peer.address().port()) + "/"); });
        CHECK(head.find("Authorization: Basic dXNAZXI6cDp3\r\n") != std::string::npos);
    }

    TEST_CASE("requests follow each other on one connection while the server keeps it") {
        const Peer peer{echoing_heads()};
        run_beside_peers([&]() -> task<> {
            AsyncSession session{peer.url()};
            for (int round = 0; round < 5; ++round) {
                Response& response = co_await session.get("/" + std::to_string(round));
                const std::string head = co_await response.text();
                CHECK(head.starts_with("GET /" + std::to_string(round) + " "));
            }
        });
        CHECK(peer.accepted() == 1);
    }

    TEST_CASE("a connection the server closed meanwhile is opened again") {
        const Peer peer{answering({hello})};
        run_beside_peers([&]() -> task<> {
            AsyncSession session{peer.url()};
            for (int round = 0; round < 3; ++round) {
                Response& response = co_await session;
                const std::string body = co_await response.text();
                CHECK(body == "hello");
                peer.wait_idle();
            }
        });
        CHECK(peer.accepted() == 3);
    }

    TEST_CASE("a body that was not read to its end does not leak into the next response") {
        const Peer small{answering({ok("first"), ok("second")})};
        run_beside_peers([&]() -> task<> {
            AsyncSession session{small.url()};
            Response& first = co_await session;
            CHECK(first.status() == 200);
            Response& second = co_await session.get("/again");
            const std::string body = co_await second.text();
            CHECK(body == "second");
        });
        CHECK(small.accepted() == 1);
    }

    TEST_CASE("a large rest is not read to save a connection") {
        const Peer peer{answering({ok(std::string(1 << 20, 'x'))})};
        run_beside_peers([&]() -> task<> {
            AsyncSession session{peer.url()};
            Response& first = co_await session;
            CHECK(first.status() == 200);
            Response& second = co_await session;
            CHECK(second.status() == 200);
        });
        CHECK(peer.accepted() == 2);
    }

    TEST_CASE("bytes that nobody asked for are not taken for the next answer") {
        const Peer peer{[](net::TcpStream stream) -> task<> {
            return [](net::TcpStream connection) -> task<> {
                static_cast<void>(co_await test::read_head(connection));
                const std::string poisoned = hello + ok("poison");
                co_await connection.send(poisoned);
                static_cast<void>(co_await test::read_head(connection));
            }(std::move(stream));
        }};
        run_beside_peers([&]() -> task<> {
            AsyncSession session{peer.url()};
            for (int round = 0; round < 2; ++round) {
                Response& response = co_await session;
                const std::string body = co_await response.text();
                CHECK(body == "hello");
            }
        });
        CHECK(peer.accepted() == 2);
    }

    TEST_CASE("chunked bodies, trailers and bodies that end with the connection are read") {
        const Peer chunked{answering(
            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX-Sum: 9\r\n\r\n"})};
        run_beside_peers([&]() -> task<> {
            AsyncSession session{chunked.url()};
            Response& response = co_await session;
            const std::string body = co_await response.text();
            CHECK(body == "abcde");
            CHECK(response.trailers().get("x-sum") == "9");
        });
        const Peer closing{answering({"HTTP/1.0 200 OK\r\n\r\nuntil the end"})};
        CHECK(run_beside_peers([&] { return fetch(closing.url()); }) == "until the end");
    }

    TEST_CASE("compressed bodies are undone, and left alone when asked") {
        const std::string packed = http::gzip_encode(std::string(100'000, 'z'));
        const Peer peer{answering({ok(packed, "Content-Encoding: gzip\r\n")})};
        CHECK(run_beside_peers([&] { return fetch(peer.url()); }) == std::string(100'000, 'z'));
        SessionOptions raw;
        raw.decode = false;
        CHECK(run_beside_peers([&] { return fetch(peer.url(), raw); }) == packed);
    }

    TEST_CASE("HEAD, 204 and 304 have no body, whatever they announce") {
        const Peer peer{answering({"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", "HTTP/1.1 204 No Content\r\n\r\n",
                                   "HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n"})};
        run_beside_peers([&]() -> task<> {
            AsyncSession session{peer.url()};
            for (const int status : {200, 204, 304}) {
                Response& response = status == 200 ? co_await session.head() : co_await session.get();
                CHECK(response.status() == status);
                const std::string body = co_await response.text();
                CHECK(body.empty());
            }
        });
        CHECK(peer.accepted() == 1);
    }

    TEST_CASE("interim responses are passed over") {
        const Peer peer{
            answering({"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n" + hello})};
        CHECK(run_beside_peers([&] { return fetch(peer.url()); }) == "hello");
    }

    TEST_CASE("redirects are followed, on the connection that is there if it leads there") {
        const Peer peer{
            answering({"HTTP/1.1 302 Found\r\nLocation: /next?x#y\r\nContent-Length: 4\r\n\r\ngone", ok("arrived")})};
        run_beside_peers([&]() -> task<> {
            AsyncSession session{peer.url()};
            Response& response = co_await session;
            CHECK(response.redirects() == 1);
            CHECK(response.url().path() == "/next");
            const std::string body = co_await response.text();
            CHECK(body == "arrived");
        });
        CHECK(peer.accepted() == 1);
    }

    TEST_CASE("a request for the session's own URL goes there, wherever the last one was led to") {
        const Peer stranger{echoing_heads()};
        std::size_t asked = 0;
        const Peer peer{[&](net::TcpStream stream) -> task<> {
            return [](net::TcpStream connection, std::size_t& count, std::string elsewhere) -> task<> {
                for (;;) {
                    const std::string head = co_await test::read_head(connection);
                    if (head.empty()) co_return;
                    const std::string answer =
                        count++ == 0 ? "HTTP/1.1 302 Found\r\nLocation: " + elsewhere + "\r\nContent-Length: 0\r\n\r\n"
                                     : ok("home again");
                    co_await connection.send(answer);
                }
            }(std::move(stream), asked, stranger.url());
        }};
        run_beside_peers([&]() -> task<> {
            AsyncSession session{peer.url()};
            Response& response = co_await session;
            CHECK(response.url().href() == stranger.url());
            CHECK((co_await response.text()).starts_with("GET / HTTP/1.1"));
            co_await session;
            CHECK(response.url().href() == peer.url());
            CHECK(co_await response.text() == "home again");
            CHECK(session.url() == response.url());
        });
    }

    TEST_CASE("a redirect is a value when following is switched off") {
        const Peer peer{answering({"HTTP/1.1 301 Moved\r\nLocation: /next\r\nContent-Length: 0\r\n\r\n"})};
        run_beside_peers([&]() -> task<> {
            SessionOptions options;
            options.redirects.follow = false;
            AsyncSession session{peer.url(), options};
            Response& response = co_await session;
            CHECK(response.status() == 301);
        });
    }

    TEST_CASE("credentials do not follow a redirect to another origin") {
        const Peer stranger{echoing_heads()};
        const Peer peer{
            answering({"HTTP/1.1 307 Go\r\nLocation: " + stranger.url() + "\r\nContent-Length: 0\r\n\r\n"})};
        SessionOptions options;
        options.headers.add("Authorization", "Bearer secret");
        options.headers.add("Cookie", "id=1");
        options.headers.add("X-Kept", "yes");
        const std::string head = run_beside_peers([&] { return fetch(peer.url(), options); });
        CHECK(head.find("X-Kept: yes") != std::string::npos);
        CHECK(head.find("secret") == std::string::npos);
        CHECK(head.find("Cookie") == std::string::npos);
    }

    TEST_CASE("too many redirects end in words") {
        const Peer peer{[](net::TcpStream stream) -> task<> {
            return [](net::TcpStream connection) -> task<> {
                for (;;) {
                    const std::string head = co_await test::read_head(connection);
                    if (head.empty()) co_return;
                    co_await connection.send("HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n");
                }
            }(std::move(stream));
        }};
        const Error error = error_of([&] { return fetch(peer.url()); });
        CHECK(error.code() == http::errc::too_many_redirects);
        CHECK(error.where() == phase::head);
    }

    TEST_CASE("a body is posted with its length") {
        std::string seen;
        {
            const Peer peer{collecting(seen)};
            run_beside_peers([&]() -> task<> {
                AsyncSession session{peer.url()};
                Response& response = co_await session.post("/in", "the END", "text/plain");
                CHECK(response.status() == 200);
            });
        }
        CHECK(seen.find("POST /in HTTP/1.1\r\n") == 0);
        CHECK(seen.find("Content-Length: 7\r\n") != std::string::npos);
        CHECK(seen.ends_with("\r\n\r\nthe END"));
    }

    TEST_CASE("a body stream of unknown length is sent in chunks") {
        std::string seen;
        {
            const Peer peer{collecting(seen)};
            run_beside_peers([&]() -> task<> {
                AsyncSession session{peer.url()};
                http::Request request;
                request.method = "PUT";
                request.stream.emplace();
                int left = 3;
                request.stream->next = [&left]() -> task<std::span<const std::byte>> {
                    return [](int& count) -> task<std::span<const std::byte>> {
                        co_await yield();
                        static constexpr std::string_view piece = "piece";
                        if (count-- == 0) co_return std::span<const std::byte>{};
                        co_return std::as_bytes(std::span{piece});
                    }(left);
                };
                Response& response = co_await session.request(std::move(request));
                CHECK(response.status() == 200);
            });
        }
        CHECK(seen.find("Transfer-Encoding: chunked\r\n") != std::string::npos);
        CHECK(seen.ends_with("\r\n\r\n5\r\npiece\r\n5\r\npiece\r\n5\r\npiece\r\n0\r\n\r\n"));
    }

    TEST_CASE("a body stream gives exactly what it promised, or the request fails in words") {
        for (const std::uint64_t promised : {3u, 7u}) {
            const Peer peer{answering({hello})};
            const Error error = error_of([&]() -> task<> {
                return [](std::string url, std::uint64_t length) -> task<> {
                    AsyncSession session{url};
                    http::Request request;
                    request.method = "PUT";
                    request.stream.emplace();
                    request.stream->length = length;
                    bool given = false;
                    request.stream->next = [&given]() -> task<std::span<const std::byte>> {
                        return [](bool& all) -> task<std::span<const std::byte>> {
                            static constexpr std::string_view piece = "piece";
                            if (std::exchange(all, true)) co_return std::span<const std::byte>{};
                            co_return std::as_bytes(std::span{piece});
                        }(given);
                    };
                    co_await session.request(std::move(request));
                }(peer.url(), promised);
            });
            CHECK(error.code() == torc::errc::invalid_argument);
            CHECK(error.where() == phase::send);
            CHECK(error.message() ==
                  "the body stream gave 5 bytes or more where " + std::to_string(promised) + " were promised");
        }
    }

    TEST_CASE("fields that frame the body are the session's to set") {
        const Peer peer{answering({hello})};
        for (const char* name : {"Content-Length", "transfer-encoding"}) {
            const Error error = error_of([&]() -> task<> {
                return [](std::string url, std::string field) -> task<> {
                    AsyncSession session{url};
                    http::Request request;
                    request.headers.add(field, "1");
                    co_await session.request(std::move(request));
                }(peer.url(), name);
            });
            CHECK(error.code() == http::errc::bad_header);
            CHECK(error.message() == std::string{name} + " is set by the session, from the body it is given");
        }
    }

    TEST_CASE("limits of time name the phase and the limit") {
        const Peer silent{[](net::TcpStream stream) -> task<> {
            return [](net::TcpStream connection) -> task<> {
                static_cast<void>(co_await test::read_head(connection));
                static_cast<void>(co_await connection.receive());
            }(std::move(stream));
        }};
        SessionOptions options;
        options.timeouts.head = 20ms;
        Error error = error_of([&] { return fetch(silent.url(), options); });
        CHECK(error.code() == torc::errc::timed_out);
        CHECK(error.where() == phase::head);
        CHECK(error.message() == "timed out after 0.02 s");

        options.timeouts.head = 10s;
        options.timeouts.total = 30ms;
        error = error_of([&] { return fetch(silent.url(), options); });
        CHECK(error.message() == "timed out after 0.03 s in all");

        const Peer stalling{[](net::TcpStream stream) -> task<> {
            return [](net::TcpStream connection) -> task<> {
                static_cast<void>(co_await test::read_head(connection));
                co_await connection.send("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf");
                static_cast<void>(co_await connection.receive());
            }(std::move(stream));
        }};
        options = {};
        options.timeouts.idle = 20ms;
        error = error_of([&] { return fetch(stalling.url(), options); });
        CHECK(error.code() == torc::errc::timed_out);
        CHECK(error.where() == phase::body);
    }

    TEST_CASE("what the server does wrong is an error of its phase, in words") {
        struct Case {
            std::string answer;
            std::error_code code;
            phase where;
        };
        const Case cases[] = {
            {"", http::errc::unexpected_eof, phase::head},
            {"HTTP/1.1 200 OK\r\nConte", http::errc::unexpected_eof, phase::head},
            {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhal", http::errc::unexpected_eof, phase::body},
            {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", http::errc::unexpected_eof,
             phase::body},
            {"ICY 200 OK\r\n\r\n", http::errc::bad_message, phase::head},
            {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", http::errc::bad_framing, phase::head},
            {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Encoding: gzip\r\n\r\nabc", http::errc::bad_coding,
             phase::body},
        };
        for (const Case& each : cases) {
            const Peer peer{answering({each.answer})};
            INFO(each.answer);
            const Error error = error_of([&] { return fetch(peer.url()); });
            INFO(error.what());
            CHECK(error.code() == each.code);
            CHECK(error.where() == each.where);
            CHECK(error.message().size() > 10);
        }
    }

    TEST_CASE("a bad URL is refused when the session is made") {
        CHECK_THROWS_AS(AsyncSession{"no url at all"}, Error);
        CHECK_THROWS_AS(AsyncSession{"ftp://example.com/"}, Error);
        CHECK_THROWS_AS(AsyncSession{"ws://example.com/"}, Error);
    }

    TEST_CASE("a session can be closed once, twice, and takes no request afterwards") {
        const Peer peer{answering({hello})};
        run_beside_peers([&]() -> task<> {
            AsyncSession session{peer.url()};
            Response& response = co_await session;
            const std::string body = co_await response.text();
            CHECK(body == "hello");
            co_await session.close();
            co_await session.close();
            auto again = co_await as_result(session.get());
            REQUIRE_FALSE(again);
            CHECK(again.error().code() == torc::errc::closed);
        });
    }

    TEST_CASE("two tasks at once on one session: the second is told") {
        const Peer peer{answering({hello})};
        run_beside_peers([&]() -> task<> {
            AsyncSession session{peer.url()};
            auto [first, second] = co_await gather_settled(session.get(), session.get());
            CHECK(first);
            REQUIRE_FALSE(second);
            CHECK(second.error().code() == torc::errc::busy);
        });
    }

    TEST_CASE(
        "when a task with a session has returned, its connection is closed: on success, error, time-out, "
        "cancellation" *
        doctest::skip(test::simulated())) {
        const Peer peer{answering({hello, hello})};
        run_beside_peers([&]() -> task<> {
            const auto open_now = [] { return Executor::here().statistics().open_descriptors; };
            CHECK(co_await fetch(peer.url()) == "hello");
            CHECK(open_now() == 0);
            auto failing = [](const Peer& server) -> task<> {
                AsyncSession session{server.url()};
                static_cast<void>(co_await session);
                throw std::runtime_error{"out"};
            };
            CHECK_THROWS_AS(co_await failing(peer), std::runtime_error);
            CHECK(open_now() == 0);
            event answered;
            auto waiting = [&answered](const Peer& server) -> task<> {
                AsyncSession session{server.url()};
                static_cast<void>(co_await session);
                CHECK(session.connected());
                answered.set();
                co_await test::forever();
            };
            auto timed = co_await as_result(with_timeout(20ms, waiting(peer)));
            CHECK_FALSE(timed);
            CHECK(open_now() == 0);
            answered.reset();
            auto raced = co_await race(waiting(peer), answered.wait());
            CHECK(raced.index() == 1);
            CHECK(open_now() == 0);
        });
    }

    TEST_CASE("with() closes a session at the end of its block") {
        const Peer peer{answering({hello})};
        const std::string body = run_beside_peers([&]() -> task<std::string> {
            return with(AsyncSession{peer.url()}, [](AsyncSession& session) -> task<std::string> {
                Response& response = co_await session;
                co_return co_await response.text();
            });
        });
        CHECK(body == "hello");
    }

    TEST_CASE("the blocking twin does the same without a coroutine" * doctest::skip(test::simulated())) {
        const Peer peer{echoing_heads()};
        {
            http::Session session{peer.url()};
            http::BlockingResponse response = session.get("/one");
            CHECK(response.status() == 200);
            CHECK(response.text().starts_with("GET /one "));
            CHECK(session.post("/two", "").text().starts_with("POST /two "));
            http::Request third;
            third.method = "PUT";
            third.url = "/three";
            http::BlockingResponse answer = session.request(std::move(third));
            const std::span<const std::byte> piece = answer.read_some();
            CHECK(std::string_view{reinterpret_cast<const char*>(piece.data()), 4} == "PUT ");
            CHECK(session.get("/four").discard() > 20);
            CHECK(session.head("/five").status() == 200);
            session.close();
            CHECK_THROWS_AS(session.get(), Error);
        }
        peer.wait_idle();
        CHECK(peer.accepted() == 1);
        CHECK_THROWS_AS(http::Session{"http://127.0.0.1:1/"}.get(), Error);
    }
}
