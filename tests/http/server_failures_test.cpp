#include <stdexcept>
#include <string>
#include <system_error>
#include <vector>

#include <torc/runtime/as_result.hpp>

#include "server_client.hpp"

// Goal: what becomes of a request and its connection when the handler fails, gives up, goes on after a failure, or is
// left by its client; and who is told.

using namespace torc;
using namespace torc::testing;
using http::Responder;
using http::ServerFault;
using http::ServerRequest;

TEST_SUITE("http server: failures of handlers") {
    TEST_CASE("an exception becomes a 500, is reported, and the connection goes on") {
        auto handler = [](ServerRequest& request, Responder& response) -> task<> {
            if (request.path() == "/throw") throw std::runtime_error{"the disk is full"};
            if (request.path() == "/begun") {
                response.headers().set("X", "y");
                response.begin(200);
                throw 5;
            }
            if (request.path() != "/nothing") co_await response.send(200, "fine");
        };
        const FaultLog faults = with_server(handler, [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            const std::string error =
                "HTTP/1.1 500 Internal Server Error\r\nContent-Type: text/plain; charset=utf-8\r\n"
                "Content-Length: 22\r\n\r\nInternal Server Error\n";
            for (const std::string path : {"/throw", "/begun", "/nothing"}) {
                co_await client.exchange("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n", error);
            }
            co_await client.exchange("GET / HTTP/1.1\r\nHost: x\r\n\r\n", ok("fine"));
        });
        CHECK(faults.count(ServerFault::stage::handler) == 3);
        CHECK(faults.all.size() == 3);
        CHECK(faults.says("GET /throw: the disk is full"));
        CHECK(faults.says("GET /nothing: handle: the handler returned without an answer"));
        CHECK(faults.says("peer 127.0.0.1:"));
    }

    TEST_CASE("a handler that is told of a broken body may fail of something else, and then that is what is said") {
        auto handler = [](ServerRequest& request, Responder&) -> task<> {
            const auto body = co_await torc::as_result(request.text());
            REQUIRE_FALSE(body);
            if (request.path() == "/number") throw 5;
            throw std::runtime_error{"the disk is full"};
        };
        const FaultLog faults = with_server(handler, [](http::Server& server) -> task<> {
            for (const std::string path : {"/number", "/error"}) {
                RawClient client = co_await RawClient::connect(server);
                co_await client.send("POST " + path +
                                     " HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nnonsense\r\n");
                CHECK((co_await client.receive_rest()).starts_with("HTTP/1.1 500 Internal Server Error\r\n"));
            }
        });
        CHECK(faults.count(ServerFault::stage::handler) == 2);
        CHECK(faults.all.size() == 2);
        CHECK(faults.says("POST /error: the disk is full"));
    }

    TEST_CASE("after an answer that was cut off nothing can be written, and it can not be finished") {
        for (const bool with_length : {false, true}) {
            for (const bool finishing : {false, true}) {
                CAPTURE(with_length);
                CAPTURE(finishing);
                std::vector<std::string> failures;
                auto handler = [&](ServerRequest&, Responder& response) -> task<> {
                    const std::string more_than_sockets_hold(64'000'000, 'x');
                    if (with_length) {
                        response.begin(200, more_than_sockets_hold.size());
                    } else {
                        response.begin(200);
                    }
                    const auto first = co_await torc::as_result(response.write(more_than_sockets_hold));
                    REQUIRE_FALSE(first);
                    CHECK(first.error().code() == errc::timed_out);
                    for (int again = 0; again < 3; ++again) {
                        const auto next = co_await torc::as_result(response.write("and more"));
                        REQUIRE_FALSE(next);
                        failures.emplace_back(next.error().message());
                    }
                    if (finishing) co_await response.finish();
                };
                http::ServerOptions options;
                options.write_timeout = 10ms;
                auto visit = [](http::Server& server) -> task<> {
                    RawClient client = co_await RawClient::connect(server);
                    co_await client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
                    while (server.statistics().connections == 0) co_await yield();
                    while (server.statistics().connections != 0) co_await yield();
                };
                const FaultLog faults = with_server(handler, visit, std::move(options));
                CHECK(faults.count(ServerFault::stage::connection) == 1);
                CHECK(faults.all.size() == 1);
                CHECK(faults.says("the response was cut off"));
                CHECK(failures == std::vector<std::string>(3, "the response was cut off"));
            }
        }
    }

    TEST_CASE("a second writer of one response is told that it is busy, and harms nothing") {
        std::vector<std::error_code> refusals;
        auto handler = [&](ServerRequest&, Responder& response) -> task<> {
            response.begin(200);
            auto second = [&]() -> task<> {
                const auto written = co_await torc::as_result(response.write("second"));
                refusals.push_back(written ? std::error_code{} : written.error().code());
                const auto finished = co_await torc::as_result(response.finish());
                refusals.push_back(finished ? std::error_code{} : finished.error().code());
            };
            co_await gather(response.write("first"), second());
        };
        const FaultLog faults = with_server(handler, [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            co_await client.exchange("GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                                     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n0\r\n\r\n");
        });
        CHECK(refusals == std::vector<std::error_code>(2, make_error_code(errc::busy)));
        CHECK(faults.all.empty());
    }

    TEST_CASE("a write that its handler gave up cuts the answer") {
        auto handler = [](ServerRequest&, Responder& response) -> task<> {
            response.begin(200);
            const auto first = co_await torc::as_result(with_timeout(0ms, response.write("lost")));
            REQUIRE_FALSE(first);
            co_await response.write("behind it");
        };
        const FaultLog faults = with_server(handler, [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            co_await client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
            const std::string all = co_await client.receive_rest();
            CHECK(all.find("behind it") == std::string::npos);
            CHECK_FALSE(all.ends_with("0\r\n\r\n"));
        });
        CHECK(faults.all.size() == 1);
        CHECK(faults.says("the response was cut off"));
    }

    TEST_CASE("an exception after a part of the answer ends the connection in the middle of it") {
        auto handler = [](ServerRequest&, Responder& response) -> task<> {
            response.begin(200);
            co_await response.write("half");
            throw std::runtime_error{"the other half is gone"};
        };
        const FaultLog faults = with_server(handler, [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            co_await client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
            CHECK(co_await client.receive_rest() ==
                  "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n");
            RawClient other = co_await RawClient::connect(server);
            co_await other.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
            CHECK(co_await other.receive(15) == "HTTP/1.1 200 OK");
        });
        CHECK(faults.count(ServerFault::stage::handler) == 2);
    }

    TEST_CASE("a client that goes away is no more than a fault of its connection") {
        event gone;
        auto handler = [&](ServerRequest& request, Responder& response) -> task<> {
            if (request.path() == "/body") static_cast<void>(co_await request.text());
            if (request.path() == "/answer") {
                co_await gone.wait();
                response.begin(200);
                const std::string piece(100'000, 'x');
                for (int i = 0; i < 1000; ++i) co_await response.write(piece);
            }
            co_await response.send(200, "fine");
        };
        const FaultLog faults = with_server(handler, [&](http::Server& server) -> task<> {
            {
                RawClient client = co_await RawClient::connect(server);
                co_await client.send("POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nfour");
                RawClient other = co_await RawClient::connect(server);
                co_await other.send("GET /answer HTTP/1.1\r\nHost: x\r\n\r\n");
                RawClient third = co_await RawClient::connect(server);
                co_await third.send("GET / HT");
                while (server.statistics().requests < 2) co_await yield();
                co_await client.stream().close();
                co_await other.stream().close();
            }
            gone.set();
            RawClient client = co_await RawClient::connect(server);
            co_await client.exchange("GET / HTTP/1.1\r\nHost: x\r\n\r\n", ok("fine"));
            while (server.statistics().connections > 1) co_await yield();  // until the others' ends were heard
        });
        CHECK(faults.count(ServerFault::stage::connection) == 1);
        CHECK(faults.count(ServerFault::stage::request) == 2);
        CHECK(faults.says("5 bytes of the body are missing"));
        CHECK(faults.says("in the middle of the head"));
    }

    TEST_CASE("a callback that throws while a fault is reported does no harm") {
        auto main = []() -> task<> {
            http::ServerOptions options;
            options.on_error = [](const ServerFault&) { throw std::runtime_error{"worse"}; };
            http::Server server{net::TcpListener::bind(net::Address::loopback(0)), echo, std::move(options)};
            auto visit = [&]() -> task<> {
                RawClient client = co_await RawClient::connect(server);
                co_await client.send("GET nonsense HTTP/1.1\r\n\r\n");
                CHECK((co_await client.receive_rest()).starts_with("HTTP/1.1 400 Bad Request\r\n"));
                server.stop();
            };
            co_await with_timeout(20s, gather(server.serve(), visit()));
        };
        test::run_clean(main);
    }
}
