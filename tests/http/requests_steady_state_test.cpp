#include <doctest/doctest.h>

#include <leak_check.hpp>
#include <span>
#include <steady.hpp>
#include <string>
#include <string_view>

#include <torc/http/server.hpp>
#include <torc/http/session.hpp>
#include <torc/runtime.hpp>

// Goal: in steady state a request allocates nothing, neither at the one who asks nor at the one who answers, over a
// connection that is kept and over one of its own. Method: a server and a session in one process, every allocation of
// which is counted, while the same is asked for again and again, once it has been for a while.

namespace {

using namespace torc;
using namespace torc::test;

const std::string body(3000, 'x');

task<> answer(http::ServerRequest&, http::Responder& responder) {
    responder.begin(200, body.size());
    co_await responder.write(body);
}

task<> ask(http::AsyncSession& session) {
    http::Response& response = co_await session;
    REQUIRE(response.status() == 200);
    std::size_t body_bytes = 0;
    for (;;) {
        const std::span<const std::byte> piece = co_await response.read_some();
        if (piece.empty()) break;
        body_bytes += piece.size();
    }
    REQUIRE(body_bytes == body.size());
}

/// Runs `program` with the URL of a server's `target`. One that is longer than what a string holds by itself is memory
/// that each connection of the server asks for once.
template <class Program>
void beside_server(const std::string& target, Program program) {
    if (!frames_are_pooled()) return;
    run_clean([&]() -> task<> {
        http::Server server{net::TcpListener::bind(net::Address::loopback(0)), answer};
        const std::string where = "http://" + server.local().to_string() + target;
        const result<http::Url> url = http::Url::parse(where);
        REQUIRE(url);
        auto use = [&]() -> task<> {
            co_await program(*url);
            server.stop();
        };
        co_await gather(server.serve(), use());
    });
}

}  // namespace

TEST_SUITE("steady state: http") {
    TEST_CASE("a request over a kept connection allocates nothing, on either side") {
        beside_server("/a/target/longer/than/that", [](const http::Url& url) -> task<> {
            http::AsyncSession session{url};
            for (Rounds rounds; rounds.go_on();) co_await ask(session);
        });
    }

    TEST_CASE("a connection for each request allocates nothing, on either side") {
        http::SessionOptions options;
        options.headers.add("Connection", "close");
        options.headers.add("X-Longer-Than-A-String-Holds-By-Itself", "and its value as well");
        beside_server("/short", [&options](const http::Url& url) -> task<> {
            for (Rounds rounds; rounds.go_on();) {
                http::AsyncSession session{url, options};
                co_await ask(session);
                co_await session.close();
            }
        });
    }
}
