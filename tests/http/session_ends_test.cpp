#include <doctest/doctest.h>

#include <string>
#include <utility>

#include <torc/http/session.hpp>
#include <torc/net/listener.hpp>
#include <torc/runtime.hpp>

#include "leak_check.hpp"
#include "session_peers.hpp"

// Ends that come at odd moments: bodies that are cut off or given up, sessions that are closed while they open a
// connection or follow a redirect, bodies to send that can not be made. Both sides are on one executor, so that what
// happens in which order is the test's to say.

using namespace torc;
using namespace std::chrono_literals;
using http::AsyncSession;
using http::Response;
using namespace torc::test;

namespace {

/// Runs `serve`, which gets a listener, beside `ask`, which gets the URL of what it listens at.
template <class Serve, class Ask>
void beside_server(Serve serve, Ask ask, std::string scheme = "http") {
    run_clean([&]() -> task<> {
        net::TcpListener listener = net::TcpListener::bind(net::Address::loopback(0));
        const std::string url = scheme + "://127.0.0.1:" + std::to_string(listener.local().port()) + "/";
        co_await with_timeout(20s, gather(serve(listener), ask(url)));
    });
}

std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Receives until the other side ends the connection, in whatever way.
task<> until_the_end(net::TcpStream& stream) {
    for (;;) {
        const auto slice = co_await as_result(stream.receive());
        if (!slice || slice->empty()) co_return;
    }
}

/// What a request ends with; an empty code if it was answered.
task<std::error_code> code_of(task<Response&> request) {
    const auto ended = co_await as_result(std::move(request));
    co_return ended ? std::error_code{} : ended.error().code();
}

}  // namespace

TEST_SUITE("session, ends") {
    TEST_CASE("a body that was cut off is cut off for whoever asks again, until the next request") {
        beside_server(
            [](net::TcpListener& listener) -> task<> {
                for (const char* const answer : {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel",
                                                 "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"}) {
                    net::TcpStream stream = co_await listener.accept();
                    const std::string head = co_await read_head(stream);
                    co_await stream.send(answer);
                }
            },
            [](const std::string& url) -> task<> {
                AsyncSession session{url};
                Response& response = co_await session;
                std::string got;
                for (int errors = 0; errors < 3;) {
                    const auto piece = co_await as_result(response.read_some());
                    if (!piece) {
                        ++errors;
                        CHECK(piece.error().code() == http::errc::unexpected_eof);
                        continue;
                    }
                    REQUIRE_FALSE(piece->empty());
                    got += text_of(*piece);
                }
                CHECK(got == "hel");
                const auto text = co_await as_result(response.text());
                CHECK_FALSE(text);
                Response& second = co_await session.get();
                const std::string whole = co_await second.text();
                CHECK(whole == "ok");
            });
    }

    TEST_CASE("a read of the body that is cancelled while it waits loses nothing") {
        event asked_twice;
        beside_server(
            [&asked_twice](net::TcpListener& listener) -> task<> {
                net::TcpStream stream = co_await listener.accept();
                const std::string head = co_await read_head(stream);
                co_await stream.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel");
                co_await asked_twice.wait();
                co_await stream.send("lo");
                co_await until_the_end(stream);
            },
            [&asked_twice](const std::string& url) -> task<> {
                AsyncSession session{url};
                Response& response = co_await session;
                std::string got = text_of(co_await response.read_some());
                for (int round = 0; round < 2; ++round) {
                    auto read = [&]() -> task<bool> {
                        got += text_of(co_await response.read_some());
                        co_return true;
                    };
                    const auto first = co_await race(read(), value_after(20, false));
                    if (first.index() == 0) --round;  // there was still something of the first piece
                }
                CHECK(got == "hel");
                asked_twice.set();
                got += co_await response.text();
                CHECK(got == "hello");
            });
    }

    TEST_CASE("a text whose reading was given up in the middle is not taken for its end") {
        event given_up;
        beside_server(
            [&given_up](net::TcpListener& listener) -> task<> {
                net::TcpStream stream = co_await listener.accept();
                const std::string head = co_await read_head(stream);
                co_await stream.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel");
                co_await given_up.wait();
                static_cast<void>(co_await as_result(stream.send("lo")));
            },
            [&given_up](const std::string& url) -> task<> {
                AsyncSession session{url};
                Response& response = co_await session;
                const auto first = co_await race(response.text(), driver_turns(200));
                CHECK(first.index() == 1);
                given_up.set();
                const auto again = co_await as_result(response.text());
                REQUIRE_FALSE(again);
                CHECK(again.error().code() == std::errc::operation_canceled);
                const auto larger = co_await as_result(response.read_some());
                CHECK_FALSE(larger);
            });
    }

    TEST_CASE("closing a session ends a request that opens its connection, with all it opened") {
        event accepted;
        beside_server(
            [&accepted](net::TcpListener& listener) -> task<> {
                net::TcpStream silent = co_await listener.accept();
                accepted.set();
                co_await until_the_end(silent);
            },
            [&accepted](const std::string& url) -> task<> {
                AsyncSession session{url};
                auto close = [&]() -> task<> {
                    co_await accepted.wait();
                    co_await session.close();
                    CHECK_FALSE(session.connected());
                    CHECK(Executor::here().statistics().open_descriptors <= 2);  // the listener and its end
                };
                const auto [code, none] = co_await gather(code_of(session.get()), close());
                CHECK(code == errc::closed);
            },
            "https");
    }

    TEST_CASE("a session that was closed at once opens nothing, whenever the close comes") {
        for (int wait = 0; wait < 12; ++wait) {
            CAPTURE(wait);
            beside_server(
                [](net::TcpListener& listener) -> task<> {
                    auto serve = [&]() -> task<> {
                        net::TcpStream stream = co_await listener.accept();
                        const std::string head = co_await read_head(stream);
                        if (head.ends_with("\r\n\r\n")) static_cast<void>(co_await as_result(stream.send(hello)));
                        co_await until_the_end(stream);
                    };
                    // It may be that nobody comes, or that who came is gone.
                    static_cast<void>(co_await race(as_result(serve()), driver_turns(400)));
                },
                [wait](const std::string& url) -> task<> {
                    AsyncSession session{url};
                    auto close = [&]() -> task<> {
                        co_await driver_turns(wait);
                        co_await session.close();
                        CHECK_FALSE(session.connected());
                    };
                    const auto [code, none] = co_await gather(code_of(session.get()), close());
                    const bool ended_by_it = code == errc::closed;
                    CHECK((ended_by_it || !code));
                    CHECK_FALSE(session.connected());
                    CHECK(co_await code_of(session.get()) == errc::closed);
                });
        }
    }

    TEST_CASE("a session that was closed follows no redirect") {
        int accepted = 0;
        event redirected;
        beside_server(
            [&](net::TcpListener& listener) -> task<> {
                auto serve = [&]() -> task<> {
                    for (;;) {
                        net::TcpStream stream = co_await listener.accept();
                        ++accepted;
                        const std::string head = co_await read_head(stream);
                        // The body that was announced does not come.
                        co_await stream.send("HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 5\r\n\r\n");
                        redirected.set();
                        co_await until_the_end(stream);
                    }
                };
                static_cast<void>(co_await race(serve(), driver_turns(600)));
            },
            [&](const std::string& url) -> task<> {
                AsyncSession session{url};
                auto close = [&]() -> task<> {
                    co_await redirected.wait();
                    co_await driver_turns(10);
                    co_await session.close();
                };
                const auto [code, none] = co_await gather(code_of(session.get()), close());
                CHECK(code == errc::closed);
            });
        CHECK(accepted == 1);
    }

    TEST_CASE("what making a body fails with is not taken for the server's failure") {
        beside_server(
            [](net::TcpListener& listener) -> task<> {
                net::TcpStream stream = co_await listener.accept();
                co_await until_the_end(stream);  // it answers nothing
            },
            [](const std::string& url) -> task<> {
                AsyncSession session{url};
                http::Request request;
                request.method = "POST";
                request.stream.emplace();
                request.stream->next = []() -> task<std::span<const std::byte>> {
                    throw Error{std::make_error_code(std::errc::connection_reset), phase::none, "receive",
                                "the source of the body was reset"};
                    co_return std::span<const std::byte>{};
                };
                const auto ended = co_await as_result(session.request(std::move(request)));
                REQUIRE_FALSE(ended);
                CHECK(ended.error().message().find("the source of the body was reset") != std::string::npos);
                CHECK(ended.error().where() != phase::head);
            });
    }
}
