#include <doctest/doctest.h>

#include <torc/http/blocking.hpp>
#include <torc/http/coding.hpp>
#include <torc/http/session.hpp>

#include "leak_check.hpp"
#include "session_peers.hpp"

using namespace torc;
using namespace std::chrono_literals;
using http::AsyncSession;
using http::Response;
using http::SessionOptions;
using namespace torc::test;

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

    TEST_CASE("a session that another one is assigned to closes its connection, and goes on as that one") {
        const Peer first{echoing_heads()};
        const Peer second{echoing_heads()};
        run_beside_peers([&]() -> task<> {
            AsyncSession session{first.url()};
            static_cast<void>(co_await (co_await session).text());
            SessionOptions options;
            options.user_agent = "the other";
            AsyncSession other{second.url(), std::move(options)};
            static_cast<void>(co_await (co_await other).text());
            const std::size_t open = Executor::here().statistics().open_descriptors;
            session = std::move(other);
            while (Executor::here().statistics().open_closes > 0) co_await yield();
            CHECK(Executor::here().statistics().open_descriptors == open - 1);
            CHECK(session.options().user_agent == "the other");
            Response& response = co_await session;
            CHECK(response.url().href() == second.url());
            CHECK((co_await response.text()).find("User-Agent: the other\r\n") != std::string::npos);
        });
        CHECK(first.accepted() == 1);
        CHECK(second.accepted() == 1);
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
