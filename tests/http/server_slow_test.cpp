#include <torc/runtime/as_result.hpp>
#include <torc/runtime/scope.hpp>
#include <torc/runtime/time.hpp>

#include "certificates.hpp"
#include "reset.hpp"
#include "server_client.hpp"

// Goal: clients that are slow, vanish, or stay for ever each end within the limit that is meant for them, and are a
// fault of their own connection alone. Method: what is sent a little at a time, faster than any one wait may last and
// for longer than all of them together; connections that are reset in every phase of an exchange. Limits of time are a
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
const std::string last = "GET /last HTTP/1.1\r\nHost: x\r\n\r\n";
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

/// A socket whose close is a reset.
task<RawClient> connect_to_reset(const http::Server& server) {
    RawClient client = co_await RawClient::connect(server);
    co_await test::make_close_a_reset(client.stream());
    co_return client;
}

struct Reset {
    std::string what;
    std::string sent;                 ///< before the reset
    std::string awaited;              ///< what is received before it, up to and with this
    std::vector<std::string> served;  ///< whole requests that the handler saw
};

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
            const std::vector<std::string> requests = {get + "Connection: close\r\n\r\n", get + "\r\n", last,
                                                       "GET / HTTP/1.0\r\n\r\n", "nonsense\r\n"};
            for (const std::string& request : requests) {
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
            const std::vector<std::string> requests = {get + "Connection: close\r\n\r\n", last};
            for (const std::string& request : requests) {
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

TEST_SUITE("http server: resets") {
    TEST_CASE("a connection may be reset in every phase, and the next client is served") {
        const std::string page(4'000'000, 'x');
        const std::vector<Reset> table = {
            {"before anything", "", "", {}},
            {"in the request line", "GET / HT", "", {}},
            {"in a header", get + "X: ", "", {}},
            {"before the body", post + "Content-Length: 5\r\n\r\n", "", {}},
            {"in a body of known length", post + "Content-Length: 5\r\n\r\nhel", "", {}},
            {"in the size of a chunk", chunked + "5", "", {}},
            {"in a chunk", chunked + "5\r\nhel", "", {}},
            {"between chunks", chunked + "5\r\nhello\r\n", "", {}},
            {"in the trailers", chunked + "0\r\nX: y\r\n", "", {}},
            {"before 100 Continue is answered",
             post + "Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
             "100 Continue\r\n\r\n",
             {}},
            {"in the answer", "GET /page HTTP/1.1\r\nHost: x\r\n\r\n", "\r\n\r\n", {"GET /page "}},
            {"behind the answer", get + "\r\n", "GET / ", {"GET / "}},
            {"behind the last answer", get + "Connection: close\r\n\r\n", "GET / ", {"GET / "}},
            {"in the second request", get + "\r\n" + post + "Content-Length: 5\r\n\r\nhel", "GET / ", {"GET / "}},
        };
        std::vector<std::string> served;
        auto handler = [&](ServerRequest& request, Responder& response) -> task<> {
            const std::string body = co_await request.text();
            served.push_back(std::string{request.method()} + " " + std::string{request.target()} + " " + body);
            const std::string answer = request.target() == "/page" ? page : served.back();
            co_await response.send(200, answer);
        };
        auto visit = [&](http::Server& server) -> task<> {
            for (const Reset& row : table) {
                CAPTURE(row.what);
                served.clear();
                {
                    RawClient client = co_await connect_to_reset(server);
                    if (!row.sent.empty()) co_await client.send(row.sent);
                    if (!row.awaited.empty()) {
                        const std::string got = co_await client.receive_until(row.awaited);
                        CHECK(got.ends_with(row.awaited));
                    }
                    while (server.statistics().connections == 0 && row.awaited.empty()) co_await yield();
                    co_await client.stream().close();
                }
                co_await wait_for_last_end(server);
                CHECK(served == row.served);
                RawClient next = co_await RawClient::connect(server);
                co_await next.exchange(get + "\r\n", ok("GET / "));
            }
        };
        const FaultLog faults = with_server(handler, visit, impatient());
        CHECK(faults.count(ServerFault::stage::handler) == 0);
    }

    TEST_CASE("a reset while the handler works is found out when it answers") {
        event reset;
        event entered;
        auto handler = [&](ServerRequest&, Responder& response) -> task<> {
            entered.set();
            co_await reset.wait();
            co_await response.send(200, std::string(1'000'000, 'x'));
        };
        const FaultLog faults = with_server(
            handler,
            [&](http::Server& server) -> task<> {
                {
                    RawClient client = co_await connect_to_reset(server);
                    co_await client.send(get + "\r\n");
                    co_await entered.wait();
                    co_await client.stream().close();
                }
                reset.set();
                co_await wait_for_last_end(server);
            },
            impatient());
        CHECK(faults.count(ServerFault::stage::connection) == 1);
        CHECK(faults.all.size() == 1);
    }
}
