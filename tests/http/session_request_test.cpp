#include <doctest/doctest.h>

#include <array>

#include <torc/http/coding.hpp>
#include <torc/http/session.hpp>

#include "session_peers.hpp"

// What a session asks, and where: what stands in its requests, redirects, bodies that it sends.

using namespace torc;
using namespace torc::test;
using http::AsyncSession;
using http::Response;
using http::SessionOptions;

namespace {

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

TEST_SUITE("session: requests") {
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
                request.body = "not this: the stream is instead of it";
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
}
