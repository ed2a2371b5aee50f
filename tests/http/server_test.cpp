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
