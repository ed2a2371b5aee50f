#include <torc/runtime/as_result.hpp>
#include <torc/runtime/scope.hpp>
#include <torc/runtime/time.hpp>

#include "certificates.hpp"
#include "server_client.hpp"

// Goal: clients that are slow, or stay for ever, each end within the limit that is meant for them. Method: what is sent
// a little at a time, faster than any one wait may last and for longer than all of them together. Limits of time are a
// few milliseconds; nothing depends on how few.

using namespace torc;
using namespace torc::testing;
using http::Responder;
using http::ServerFault;
using http::ServerOptions;
using http::ServerRequest;

namespace {

const std::string get = "GET / HTTP/1.1\r\nHost: x\r\n";
const std::string post = "POST / HTTP/1.1\r\nHost: x\r\n";
const std::string chunked = post + "Transfer-Encoding: chunked\r\n\r\n";

ServerOptions impatient() {
    ServerOptions options;
    options.handshake_timeout = options.head_timeout = options.body_timeout = options.idle_timeout = 60ms;
    options.linger_timeout = 60ms;
    return options;
}

/// Sends `drip` every few milliseconds, until it is no longer taken, and gives what came back.
task<std::string> drip(http::Server& server, std::string start, std::string drop) {
    RawClient client = co_await RawClient::connect(server);
    co_await client.send(std::move(start));
    std::string answer;
    auto pour = [&]() -> task<> {
        while (true) {
            const result<void> taken = co_await as_result(client.stream().send(std::string_view{drop}));
            if (!taken) co_return;
            co_await sleep_for(10ms);
        }
    };
    auto read = [&]() -> task<> {
        while (true) {
            task<std::string> reading = client.receive_once();
            // Who is sent something that nobody wants may answer with a reset.
            const result<std::string> got = co_await as_result(std::move(reading));
            if (!got || got->empty()) co_return;
            answer += *got;
        }
    };
    co_await gather(pour(), read());
    co_return answer;
}

struct Slow {
    std::string what;
    std::string start;
    std::string drop;    ///< sent again and again
    std::string answer;  ///< how it begins
};

task<> wait_for_last_end(http::Server& server) {
    while (server.statistics().connections != 0) co_await yield();
}

}  // namespace

TEST_SUITE("http server: slow clients") {
    TEST_CASE("who sends a little at a time has as much time as everybody else") {
        const std::string late = "HTTP/1.1 408 Request Timeout\r\n";
        const std::vector<Slow> table = {
            {"a request line", "GET /", "a", late},
            {"a header", get + "X: ", "a", late},
            {"headers", get, "X: y\r\n", late},
            {"nothing but a blank line now and then", "", "\r\n", ""},
            {"a head behind an answer", get + "\r\n" + get, "X: y\r\n", ok("GET / ") + late},
            {"a body of known length", post + "Content-Length: 100000\r\n\r\n", "a", late},
            {"chunks", chunked, "1\r\na\r\n", late},
            {"the inside of a chunk", chunked + "ffff\r\n", "a", late},
            {"a chunk's extension", chunked + "1;", "a", late},
            {"trailers", chunked + "1\r\na\r\n0\r\n", "X: y\r\n", late},
            {"a body that nobody reads", "POST /deaf HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n", "a",
             ok("no thanks")},
            {"something behind a request that was refused", "GET / HTTP/9\r\n", "a", "HTTP/1.1 505 "},
            {"something behind the last request", get + "Connection: close\r\n\r\n", "a",
             "HTTP/1.1 200 OK\r\nContent-Length: 6\r\nConnection: close\r\n\r\nGET / "},
        };
        auto handler = [](ServerRequest& request, Responder& response) -> task<> {
            if (request.target() == "/deaf") {
                co_await response.send(200, "no thanks");
            } else {
                co_await echo(request, response);
            }
        };
        auto body = [&](http::Server& server) -> task<> {
            for (const Slow& row : table) {
                CAPTURE(row.what);
                const std::string got = co_await drip(server, row.start, row.drop);
                INFO("got: ", got);
                CHECK(got.starts_with(row.answer));
                CHECK(got.empty() == row.answer.empty());
                co_await wait_for_last_end(server);
            }
        };
        const FaultLog faults = with_server(handler, body, impatient());
        CHECK(faults.count(ServerFault::stage::request) == faults.all.size());
    }

    TEST_CASE("a body that comes slowly, but comes, is read") {
        ServerOptions options;
        options.body_timeout = 1s;
        auto body = [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            co_await client.send(post + "Content-Length: 491520\r\n\r\n");
            std::string all;
            // All of it takes longer than the limit, which is for each 16 KiB.
            const std::string piece(16 * 1024, 'a');
            for (int i = 0; i < 30; ++i) {
                co_await client.send(piece);
                co_await sleep_for(40ms);
                all += piece;
            }
            const std::string reply = ok("POST / " + all);
            CHECK(co_await client.receive(reply.size()) == reply);
        };
        CHECK(with_server(echo, body, std::move(options)).all.empty());
    }

    TEST_CASE("the time that the handler takes between its reads is not the client's") {
        ServerOptions options;
        options.body_timeout = 100ms;
        auto handler = [](ServerRequest& request, Responder& response) -> task<> {
            std::string all;
            while (true) {
                const std::span<const std::byte> piece = co_await request.read_some();
                if (piece.empty()) break;
                all.append(reinterpret_cast<const char*>(piece.data()), piece.size());
                co_await sleep_for(60ms);
            }
            co_await response.send(200, all);
        };
        auto body = [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            co_await client.exchange(chunked + "1\r\na\r\n1\r\nb\r\n1\r\nc\r\n0\r\n\r\n", ok("abc"));
        };
        CHECK(with_server(handler, body, std::move(options)).all.empty());
    }

    TEST_CASE("a TLS handshake that comes byte by byte ends in time") {
        const CertificateWorld world;
        ServerOptions options = impatient();
        options.tls = net::TlsContext::server(world.server({"site.test"}));
        auto body = [](http::Server& server) -> task<> {
            // The beginning of a hello whose random bytes are all the same.
            const std::string hello("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11);
            const std::string got = co_await drip(server, hello, "a");
            CHECK(got == "");
            co_await wait_for_last_end(server);
        };
        const FaultLog faults = with_server(echo, body, std::move(options));
        REQUIRE(faults.all.size() == 1);
        CHECK(faults.count(ServerFault::stage::handshake) == 1);
        CHECK(faults.says("timed out"));
    }

    TEST_CASE("a client that does not close its side is not waited for without end") {
        auto handler = [](ServerRequest& request, Responder& response) -> task<> {
            if (request.path() == "/last") response.headers().set("Connection", "close");
            co_await response.send(200);
        };
        auto body = [](http::Server& server) -> task<> {
            for (const std::string request :
                 {get + "Connection: close\r\n\r\n", get + "\r\n", std::string{"GET /last HTTP/1.1\r\nHost: x\r\n\r\n"},
                  std::string{"GET / HTTP/1.0\r\n\r\n"}, std::string{"nonsense\r\n"}}) {
                CAPTURE(request);
                RawClient client = co_await RawClient::connect(server);
                co_await client.send(request);
                CHECK((co_await client.receive_until("\r\n\r\n")).starts_with("HTTP/1.1 "));
                co_await wait_for_last_end(server);
            }
        };
        with_server(handler, body, impatient());
    }

    TEST_CASE("what is sent behind the end of a connection is not served") {
        std::vector<std::string> served;
        auto handler = [&](ServerRequest& request, Responder& response) -> task<> {
            served.emplace_back(request.target());
            if (request.path() == "/last") response.headers().set("Connection", "close");
            co_await response.send(200);
        };
        auto body = [](http::Server& server) -> task<> {
            for (const std::string request :
                 {get + "Connection: close\r\n\r\n", std::string{"GET /last HTTP/1.1\r\nHost: x\r\n\r\n"}}) {
                RawClient client = co_await RawClient::connect(server);
                co_await client.send(request);
                CHECK((co_await client.receive_until("\r\n\r\n")).starts_with("HTTP/1.1 200 OK\r\n"));
                task<> sending = client.send("GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n");
                static_cast<void>(co_await as_result(std::move(sending)));
                co_await wait_for_last_end(server);
            }
        };
        CHECK(with_server(handler, body, impatient()).all.empty());
        CHECK(served == std::vector<std::string>{"/", "/last"});
    }
}
