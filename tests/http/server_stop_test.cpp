#include <doctest/doctest.h>

#include <string>

#include <torc/net/tls_stream.hpp>
#include <torc/runtime.hpp>

#include "certificates.hpp"
#include "server_client.hpp"

// A server that is stopped as something arrives: a request on an idle connection, a connection; and what a handler that
// gave up a read of the body may still ask for.

using namespace torc;
using namespace torc::testing;

TEST_SUITE("HTTP server, at odd moments") {
    TEST_CASE("a request that comes as the server stops is answered, or no handler begins") {
        int begun = 0;
        int finished = 0;
        auto handler = [&](http::ServerRequest&, http::Responder& response) -> task<> {
            ++begun;
            co_await yield();
            co_await response.send(200, "x");
            ++finished;
        };
        with_server(handler, [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            while (server.statistics().idle == 0) co_await yield();
            co_await client.send("POST /order HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
            // Before the task of the connection runs: when its bytes are there, and at the latest after a while.
            for (int turn = 0; turn < 100'000 && Executor::here().statistics().buffers_lent == 0; ++turn) {
                co_await yield();
            }
            server.stop();
            const std::string reply = co_await client.receive_rest();
            CHECK((reply.empty() || reply.starts_with("HTTP/1.1 200 ")));
        });
        CHECK(begun == finished);
    }

    TEST_CASE("a client that was accepted as the server stops is let go of at once, over TLS too") {
        http::ServerOptions options;
        static const CertificateWorld world;
        options.tls = net::TlsContext::server(world.server({"site.test"}));
        const FaultLog faults = with_server(
            echo,
            [](http::Server& server) -> task<> {
                net::TcpStream silent = co_await net::TcpStream::connect(server.local());
                const auto both_ends = 3U;  // with the listener
                while (Executor::here().statistics().open_descriptors < both_ends) co_await yield();
                server.stop();
                const auto end = co_await as_result(silent.receive());
                CHECK((!end || end->empty()));
            },
            std::move(options));
        CHECK(faults.count(http::ServerFault::stage::stop) == 0);
    }

    TEST_CASE("100 Continue is sent for a second read when the first was cancelled before it") {
        auto handler = [](http::ServerRequest& request, http::Responder& response) -> task<> {
            const auto given_up = co_await as_result(with_timeout(0ms, request.text(100)));
            CHECK_FALSE(given_up);
            const std::string body = co_await request.text(100);
            co_await response.send(200, body);
        };
        with_server(handler, [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            co_await client.exchange("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n",
                                     "HTTP/1.1 100 Continue\r\n\r\n");
            co_await client.exchange("hello", ok("hello"));
        });
    }

    TEST_CASE("a body that stays where it is, small or large, is sent from there") {
        const std::string page(100'000, 'p');
        auto handler = [&page](http::ServerRequest& request, http::Responder& response) -> task<> {
            const std::size_t size_bytes = std::stoul(std::string{request.path().substr(1)});
            co_await response.send(200, std::as_bytes(std::span{page}).first(size_bytes));
        };
        with_server(handler, [&page](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            for (const std::size_t size_bytes : {0U, 1U, 4095U, 4096U, 16'384U, 100'000U}) {
                co_await client.exchange("GET /" + std::to_string(size_bytes) + " HTTP/1.1\r\nHost: x\r\n\r\n",
                                         ok(page.substr(0, size_bytes)));
            }
            co_await client.exchange("HEAD /100000 HTTP/1.1\r\nHost: x\r\n\r\n",
                                     "HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n");
            co_await client.exchange("GET /1 HTTP/1.1\r\nHost: x\r\n\r\n", ok("p"));
        });
    }
}
