#include <algorithm>
#include <stdexcept>

#include <torc/runtime/as_result.hpp>
#include <torc/runtime/race.hpp>
#include <torc/runtime/time.hpp>

#include "server_client.hpp"
#include "steps.hpp"

// Goal: what a server answers, to the byte, and which connections it keeps. Method: clients on the same executor send
// raw bytes and compare what comes back; every test ends with a look at what is left of the server.

using namespace torc;
using namespace torc::testing;
using http::Responder;
using http::ServerFault;
using http::ServerRequest;

TEST_SUITE("http server: answers") {
    TEST_CASE("a request is answered, and the connection is kept for the next one") {
        with_server(echo, [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            co_await client.exchange("GET /a HTTP/1.1\r\nHost: x\r\n\r\n", ok("GET /a "));
            co_await client.exchange("GET /b HTTP/1.1\r\nHost: x\r\n\r\n", ok("GET /b "));
            CHECK(server.statistics().accepted == 1);
            CHECK(server.statistics().requests == 2);
        });
    }

    TEST_CASE("a head and its small body leave together") {
        with_server(echo, [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            co_await client.send("GET /a HTTP/1.1\r\nHost: x\r\n\r\n");
            CHECK(co_await client.receive_once() == ok("GET /a "));
        });
    }

    TEST_CASE("requests sent without waiting are answered in order") {
        with_server(echo, [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            co_await client.exchange(
                "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
                "POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
                "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\n\r\n"
                "GET /d HTTP/1.1\r\nHost: x\r\n\r\n",
                ok("GET /a ") + ok("POST /b body") + ok("POST /c body") + ok("GET /d "));
        });
    }

    TEST_CASE("the client may say that a request is the last one") {
        with_server(echo, [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            co_await client.send(
                "GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n");
            CHECK(co_await client.receive_rest() ==
                  "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nGET /a ");
            CHECK(server.statistics().requests == 1);
        });
    }

    TEST_CASE("an HTTP/1.0 connection ends after one request, unless the client asks for more") {
        with_server(echo, [](http::Server& server) -> task<> {
            RawClient once = co_await RawClient::connect(server);
            co_await once.send("GET /a HTTP/1.0\r\n\r\n");
            CHECK(co_await once.receive_rest() ==
                  "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: close\r\n\r\nGET /a ");
            RawClient again = co_await RawClient::connect(server);
            for (int round = 0; round < 2; ++round) {
                co_await again.exchange(
                    "GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
                    "HTTP/1.1 200 OK\r\nContent-Length: 7\r\nConnection: keep-alive\r\n\r\nGET /a ");
            }
        });
    }

    TEST_CASE("an answer to HEAD has the head of GET's and no body, however it is made") {
        auto handler = [](ServerRequest& request, Responder& response) -> task<> {
            if (request.path() == "/whole") co_await response.send(200, "hello", "text/plain");
            if (request.path() == "/length") {
                response.begin(200, 5);
                co_await response.write("hello");
            }
            if (request.path() == "/chunks") {
                response.begin(200);
                co_await response.write("hello");
            }
            if (request.path() == "/said") {
                response.headers().set("Content-Length", "12345");
                co_await response.send(200);
            }
        };
        with_server(handler, [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            const auto head = [](std::string path) { return "HEAD " + path + " HTTP/1.1\r\nHost: x\r\n\r\n"; };
            co_await client.exchange(head("/whole"),
                                     "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 5\r\n\r\n");
            co_await client.exchange(head("/length"), "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n");
            co_await client.exchange(head("/chunks"), "HTTP/1.1 200 OK\r\n\r\n");
            co_await client.exchange(head("/said"), "HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n");
            co_await client.exchange("GET /length HTTP/1.1\r\nHost: x\r\n\r\n", ok("hello"));
        });
    }

    TEST_CASE("responses that have no body have none, and say nothing about its length") {
        auto handler = [](ServerRequest& request, Responder& response) -> task<> {
            const int status = std::stoi(std::string{request.path().substr(1)});
            CHECK_THROWS_AS(response.begin(status, 5), const Error&);
            if (status == 304) response.headers().set("Content-Length", "5");
            co_await response.send(status);
        };
        with_server(handler, [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            const auto get = [](std::string path) { return "GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n"; };
            co_await client.exchange(get("/204"), "HTTP/1.1 204 No Content\r\n\r\n");
            co_await client.exchange(get("/304"), "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n");
            co_await client.exchange(get("/205"), "HTTP/1.1 205 Reset Content\r\nContent-Length: 0\r\n\r\n");
        });
    }

    TEST_CASE("a body without a known length is sent in chunks, with trailers, and to HTTP/1.0 until the end") {
        auto handler = [](ServerRequest&, Responder& response) -> task<> {
            response.headers().set("X", "y");
            response.begin(200);
            co_await response.write("hello ");
            co_await response.write("");
            co_await response.write("chunked world");
            response.trailers().set("Checksum", "42");
        };
        with_server(handler, [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            for (int round = 0; round < 2; ++round) {
                co_await client.exchange("GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                                         "HTTP/1.1 200 OK\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n"
                                         "6\r\nhello \r\nd\r\nchunked world\r\n0\r\nChecksum: 42\r\n\r\n");
            }
            RawClient old = co_await RawClient::connect(server);
            co_await old.send("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n");
            CHECK(co_await old.receive_rest() ==
                  "HTTP/1.1 200 OK\r\nX: y\r\nConnection: close\r\n\r\nhello chunked world");
        });
    }

    TEST_CASE("large pieces arrive whole, in chunks and with a length") {
        const std::string large(300'000, 'x');
        auto handler = [&](ServerRequest& request, Responder& response) -> task<> {
            if (request.path() == "/length") {
                response.begin(200, large.size() * 2);
            } else {
                response.begin(200);
            }
            co_await response.write(large);
            co_await response.write(large);
        };
        with_server(handler, [&](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            co_await client.exchange("GET /length HTTP/1.1\r\nHost: x\r\n\r\n", ok(large + large));
            const std::string chunk = "493e0\r\n" + large + "\r\n";
            co_await client.exchange(
                "GET /chunks HTTP/1.1\r\nHost: x\r\n\r\n",
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk + chunk + "0\r\n\r\n");
        });
    }

    TEST_CASE("a flushed head arrives before there is a body") {
        event seen;
        auto handler = [&](ServerRequest&, Responder& response) -> task<> {
            response.begin(200);
            co_await response.flush();
            co_await seen.wait();
            co_await response.write("late");
        };
        with_server(handler, [&](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            co_await client.exchange("GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                                     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            seen.set();
            CHECK(co_await client.receive(14) == "4\r\nlate\r\n0\r\n\r\n");
        });
    }

    TEST_CASE("a body longer than announced is refused before any of it is sent") {
        auto handler = [](ServerRequest&, Responder& response) -> task<> {
            response.begin(200, 5);
            const result<void> written = co_await as_result(response.write("too long"));
            CHECK_FALSE(written.has_value());
            co_await response.write("right");
        };
        with_server(handler, [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            co_await client.exchange("GET / HTTP/1.1\r\nHost: x\r\n\r\n", ok("right"));
        });
    }

    TEST_CASE("a body shorter than announced ends the connection") {
        auto handler = [](ServerRequest&, Responder& response) -> task<> {
            response.begin(200, 5);
            co_await response.write("four");
        };
        const FaultLog faults = with_server(handler, [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            co_await client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n");
            const std::string got = co_await client.receive(ok("four").size());
            CHECK(got == "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfour");
            const result<std::string> rest = co_await as_result(client.receive_rest());
            if (rest) CHECK(rest->empty());  // it may also be a reset
            CHECK(server.statistics().requests == 1);
        });
        CHECK(faults.says("1 bytes shorter"));
    }

    TEST_CASE("what can not be an answer is refused and the handler may give another one") {
        auto handler = [](ServerRequest&, Responder& response) -> task<> {
            CHECK_THROWS_AS(response.begin(100), const Error&);
            CHECK_THROWS_AS(response.begin(1000), const Error&);
            CHECK_THROWS_AS(co_await response.write("x"), const Error&);
            CHECK_THROWS_AS(co_await response.flush(), const Error&);
            CHECK_THROWS_AS(co_await response.finish(), const Error&);
            response.headers().set("Transfer-Encoding", "chunked");
            CHECK_THROWS_AS(response.begin(200), const Error&);
            response.headers().remove("Transfer-Encoding");
            response.headers().set("Content-Length", "five");
            CHECK_THROWS_AS(response.begin(200), const Error&);
            response.headers().set("Content-Length", "4");
            CHECK_THROWS_AS(co_await response.send(200, "hello"), const Error&);
            response.headers().remove("Content-Length");
            CHECK_THROWS_AS(co_await response.send(200, "hello", "text/plain\r\nX-Injected: 1"), const Error&);
            co_await response.send(200, "hello");
            CHECK_THROWS_AS(response.begin(200), const Error&);
            CHECK_THROWS_AS(co_await response.write("x"), const Error&);
        };
        with_server(handler, [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            co_await client.exchange("GET / HTTP/1.1\r\nHost: x\r\n\r\n", ok("hello"));
        });
    }

    TEST_CASE("the server ends the connection when the handler says so") {
        auto handler = [](ServerRequest&, Responder& response) -> task<> {
            response.headers().set("Connection", "close");
            co_await response.send(200);
        };
        with_server(handler, [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            co_await client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n");
            CHECK(co_await client.receive_rest() ==
                  "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
        });
    }
}

TEST_SUITE("http server: requests") {
    TEST_CASE("a handler sees the parts of the target") {
        auto handler = [](ServerRequest& request, Responder& response) -> task<> {
            std::string words{request.path()};
            words += "|" + std::string{request.query()} + "|" + request.query_value("a b").value_or("none");
            words += "|" + request.query_value("flag").value_or("none");
            words += "|" + std::string{request.header("host").value_or("none")};
            CHECK(request.peer().is_loopback());
            CHECK_FALSE(request.tls().has_value());
            co_await response.send(200, words);
        };
        with_server(handler, [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            const auto get = [](std::string target) { return "GET " + target + " HTTP/1.1\r\nHost: h\r\n\r\n"; };
            co_await client.exchange(get("/p%20q?flag&a+b=1%2b%20+%zz"), ok("/p%20q|flag&a+b=1%2b%20+%zz|1+  %zz||h"));
            co_await client.exchange(get("/"), ok("/||none|none|h"));
            co_await client.exchange(get("http://h/p?q"), ok("/p|q|none|none|h"));
            co_await client.exchange(get("http://h?q"), ok("/|q|none|none|h"));
            co_await client.exchange("OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", ok("*||none|none|h"));
        });
    }

    TEST_CASE("bodies are read as they come, and what is sent meanwhile arrives meanwhile") {
        auto handler = [](ServerRequest& request, Responder& response) -> task<> {
            response.begin(200);
            co_await response.flush();
            while (true) {
                const std::span<const std::byte> piece = co_await request.read_some();
                if (piece.empty()) break;
                co_await response.write(piece);
            }
            response.trailers().set("Seen", request.trailers().get_or("Sum", "none"));
        };
        with_server(handler, [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            for (int round = 0; round < 2; ++round) {
                co_await client.exchange("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
                                         "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
                co_await client.exchange("3\r\none\r\n", "3\r\none\r\n");
                co_await client.exchange("5;ext=1\r\nthree\r\n", "5\r\nthree\r\n");
                co_await client.exchange("0\r\nSum: 7\r\n\r\n", "0\r\nSeen: 7\r\n\r\n");
            }
        });
    }

    TEST_CASE("a client that sends every byte by itself gets the same answers") {
        with_server(echo, [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            const std::string all =
                "GET /a HTTP/1.1\r\nHost: x\r\n\r\n"
                "POST /b HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\nbody"
                "POST /c HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nbo\r\n2\r\ndy\r\n0\r\nT: "
                "u\r\n\r\n";
            for (const char c : all) co_await client.send(std::string(1, c));
            const std::string reply = ok("GET /a ") + ok("POST /b body") + ok("POST /c body");
            CHECK(co_await client.receive(reply.size()) == reply);
        });
    }

    TEST_CASE("100 Continue is sent when the handler first asks for the body, and only then") {
        event entered;
        event may_read;
        auto handler = [&](ServerRequest& request, Responder& response) -> task<> {
            entered.set();
            co_await may_read.wait();
            const std::string body = co_await request.text();
            co_await response.send(200, body);
        };
        with_server(handler, [&](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            const std::string head = "POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
            co_await client.send(head);
            co_await entered.wait();
            const auto first = co_await race(client.receive_once(), test::driver_turns(20));
            CHECK_MESSAGE(first.index() == 1, "nothing was received in all these turns");
            may_read.set();
            CHECK(co_await client.receive_once() == "HTTP/1.1 100 Continue\r\n\r\n");
            co_await client.exchange("hello", ok("hello"));
            // Nobody who sends the body at once is kept waiting or told to go on.
            co_await client.exchange(head + "again", ok("again"));
        });
    }

    TEST_CASE("a client that waits for 100 Continue gets the answer instead if nobody reads, and the connection ends") {
        auto handler = [](ServerRequest& request, Responder& response) -> task<> {
            if (request.path() == "/limit") static_cast<void>(co_await request.text(4));
            co_await response.send(403);
        };
        with_server(handler, [](http::Server& server) -> task<> {
            const std::string rest = "Host: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n";
            RawClient client = co_await RawClient::connect(server);
            co_await client.send("POST / HTTP/1.1\r\n" + rest);
            CHECK(co_await client.receive_rest() ==
                  "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            RawClient other = co_await RawClient::connect(server);
            co_await other.send("POST /limit HTTP/1.1\r\n" + rest);
            CHECK((co_await other.receive_rest()).starts_with("HTTP/1.1 413 Content Too Large\r\n"));
        });
    }

    TEST_CASE("an unread body is dropped and the connection kept") {
        auto handler = [](ServerRequest&, Responder& response) -> task<> { co_await response.send(200, "no thanks"); };
        with_server(handler, [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            const std::string body(100'000, 'x');
            for (int round = 0; round < 2; ++round) {
                co_await client.exchange("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n" + body,
                                         ok("no thanks"));
                co_await client.exchange("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n186a0\r\n" +
                                             body + "\r\n0\r\n\r\n",
                                         ok("no thanks"));
            }
        });
    }

    TEST_CASE("a client that sends much more than anybody reads still gets its answer") {
        auto handler = [](ServerRequest&, Responder& response) -> task<> { co_await response.send(413, "too much"); };
        with_server(handler, [](http::Server& server) -> task<> {
            const std::string body(4'000'000, 'x');
            for (const bool chunked : {false, true}) {
                RawClient client = co_await RawClient::connect(server);
                co_await client.send(chunked
                                         ? "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3d0900\r\n"
                                         : "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n");
                co_await client.send(body + (chunked ? "\r\n0\r\n\r\n" : "") +
                                     "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n");
                const std::string got = co_await client.receive_rest();
                CHECK(got == std::string{"HTTP/1.1 413 Content Too Large\r\nContent-Length: 8\r\n"} +
                                 (chunked ? "" : "Connection: close\r\n") + "\r\ntoo much");
            }
            CHECK(server.statistics().requests == 2);
        });
    }
}

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
