#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>
#include <system_error>

#include <torc/runtime/as_result.hpp>
#include <torc/runtime/race.hpp>
#include <torc/runtime/scope.hpp>
#include <torc/runtime/time.hpp>

#include "server_client.hpp"
#include "steps.hpp"
#include "which_driver.hpp"

// Goal: every bound on what clients send, hold or delay, and the end of a server. Method as in server_test.cpp; limits
// of time are a few milliseconds, and nothing depends on how few.

using namespace torc;
using namespace torc::testing;
using http::Responder;
using http::ServerFault;
using http::ServerOptions;
using http::ServerRequest;

namespace {

// Sends `request`, and takes what comes until the end; "" for a request of which nothing may be answered.
task<> expect_refusal(http::Server& server, std::string request, std::string status_line) {
    CAPTURE(request);
    RawClient client = co_await RawClient::connect(server);
    co_await client.send(request + "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n");
    const std::string got = co_await client.receive_rest();
    INFO("got: ", got);
    CHECK(got.starts_with(status_line + "\r\n"));
    CHECK(got.find("\r\nConnection: close\r\n") != std::string::npos);
    CHECK(got.find("\nHTTP/1.1 ") == std::string::npos);  // one answer, not two
}

task<> refuse_hidden(ServerRequest& request, Responder& response) {
    CHECK(request.target() != "/hidden");
    co_await echo(request, response);
}

const std::string get = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";

// Where heads have little time, a client that the machine holds up before its first byte is dropped without a word, and
// one that it holds up later is told that it is late. Then another one tries.

// Tries until something was received, and gives that.
template <class Try>
task<std::string> heard(Try attempt) {
    while (true) {
        const result<std::string> got = co_await as_result(attempt());
        if (got && !got->empty()) co_return *got;
    }
}

// A connection on which one request was answered; counts those that were told to be late.
task<RawClient> served(http::Server& server, std::size_t& told_late) {
    while (true) {
        RawClient client = co_await RawClient::connect(server);
        auto ask = [&client]() -> task<std::string> {
            co_await client.send(get);
            const std::string got = co_await client.receive(ok("GET / ").size());
            co_return got;
        };
        const result<std::string> got = co_await as_result(ask());
        if (got && *got == ok("GET / ")) co_return client;
        if (got && got->starts_with("HTTP/1.1 408 Request Timeout\r\n")) ++told_late;
    }
}

}  // namespace

TEST_SUITE("http server: refusals") {
    TEST_CASE("what can not be served is answered in the right words, and the connection ends") {
        ServerOptions options;
        options.limits.max_line_bytes = 1000;
        options.limits.max_head_bytes = 3000;
        options.limits.max_headers = 10;
        options.limits.max_body_bytes = 100;
        auto body = [](http::Server& server) -> task<> {
            const std::string get = "GET / HTTP/1.1\r\nHost: x\r\n";
            const std::string post = "POST / HTTP/1.1\r\nHost: x\r\n";
            const std::string line(1000, 'x');
            std::string many;
            for (int i = 0; i < 10; ++i) many += "X: y\r\n";
            const std::string long_lines = "A: " + line.substr(100) + "\r\n";
            co_await expect_refusal(server, "GET nonsense HTTP/1.1\r\n\r\n", "HTTP/1.1 400 Bad Request");
            co_await expect_refusal(server, "\x16\x03\x01\x02", "HTTP/1.1 400 Bad Request");
            co_await expect_refusal(server, "GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 Bad Request");
            co_await expect_refusal(server, "GET /" + line + " HTTP/1.1\r\n\r\n", "HTTP/1.1 414 URI Too Long");
            co_await expect_refusal(server, get + "A: " + line + "\r\n\r\n",
                                    "HTTP/1.1 431 Request Header Fields Too Large");
            co_await expect_refusal(server, get + long_lines + long_lines + long_lines + long_lines + "\r\n",
                                    "HTTP/1.1 431 Request Header Fields Too Large");
            co_await expect_refusal(server, get + many + "\r\n", "HTTP/1.1 431 Request Header Fields Too Large");
            co_await expect_refusal(server, "FOO / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 501 Not Implemented");
            co_await expect_refusal(server, "CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n",
                                    "HTTP/1.1 501 Not Implemented");
            co_await expect_refusal(server, "GET / HTTP/2.0\r\nHost: x\r\n\r\n",
                                    "HTTP/1.1 505 HTTP Version Not Supported");
            co_await expect_refusal(server, post + "Expect: miracles\r\nContent-Length: 1\r\n\r\nx",
                                    "HTTP/1.1 417 Expectation Failed");
            co_await expect_refusal(server, post + "Content-Length: 101\r\n\r\n" + line.substr(0, 101),
                                    "HTTP/1.1 413 Content Too Large");
            co_await expect_refusal(server,
                                    post + "Transfer-Encoding: chunked\r\n\r\n65\r\n" + line.substr(0, 101) + "\r\n",
                                    "HTTP/1.1 413 Content Too Large");
            co_await expect_refusal(server, post + "Expect: 100-continue\r\nContent-Length: 101\r\n\r\n",
                                    "HTTP/1.1 413 Content Too Large");
        };
        const FaultLog faults = with_server(refuse_hidden, body, std::move(options));
        CHECK(faults.count(ServerFault::stage::request) == faults.all.size());
        CHECK(faults.says("request refused, peer 127.0.0.1:"));
        CHECK(faults.says("a header line is longer than 1000 bytes"));
        CHECK(faults.says("POST /: body: the body is larger than 100 bytes"));
    }

    TEST_CASE("a limit of the handler's own is a 413 too") {
        auto handler = [](ServerRequest& request, Responder& response) -> task<> {
            const std::string body = co_await request.text(10);
            co_await response.send(200, body);
        };
        auto body = [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            co_await client.exchange("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n0123456789",
                                     ok("0123456789"));
            co_await client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n0123456789a");
            CHECK((co_await client.receive_until("10 bytes\n")).starts_with("HTTP/1.1 413 Content Too Large\r\n"));
            // Where the next request begins is not in doubt, so it is served.
            co_await client.exchange(
                "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n01234\r\n0\r\n\r\n", ok("01234"));
        };
        with_server(handler, body);
    }
}

TEST_SUITE("http server: time") {
    TEST_CASE("a head that does not come to its end in time gets a 408") {
        ServerOptions options;
        options.head_timeout = 10ms;
        std::size_t told_late = 2;
        auto body = [&](http::Server& server) -> task<> {
            const std::string late =
                "HTTP/1.1 408 Request Timeout\r\nContent-Type: text/plain; charset=utf-8\r\n"
                "Content-Length: 45\r\nConnection: close\r\n\r\nthe head of the request did not come in time\n";
            auto first = [&server]() -> task<std::string> {
                RawClient client = co_await RawClient::connect(server);
                co_await client.send("GET / HTTP/1.1\r\nHost");
                co_return co_await client.receive_rest();
            };
            CHECK(co_await heard(first) == late);
            RawClient second = co_await served(server, told_late);
            co_await second.send("G");
            CHECK(co_await second.receive_rest() == late);
            // Who says nothing is told nothing.
            RawClient silent = co_await RawClient::connect(server);
            CHECK(co_await silent.receive_rest() == "");
        };
        const FaultLog faults = with_server(echo, body, std::move(options));
        CHECK(faults.all.size() == told_late);
    }

    TEST_CASE("a client that sends its head slowly does not get more time for it") {
        ServerOptions options;
        options.head_timeout = 20ms;
        options.limits.max_headers = 100'000'000;  // time alone may end this
        options.limits.max_head_bytes = 1'000'000'000;
        auto body = [](http::Server& server) -> task<> {
            std::size_t ignored = 0;
            for (const bool first : {true, false}) {
                auto attempt = [&]() -> task<std::string> {
                    RawClient other = co_await served(server, ignored);
                    RawClient client = co_await RawClient::connect(server);
                    if (!first) client = co_await served(server, ignored);
                    co_await client.send("GET / HTTP/1.1\r\n");
                    // A header for every request of somebody else: each comes in time by itself, they never end.
                    auto drip = [&]() -> task<> {
                        while (true) {
                            co_await client.send("X: y\r\n");
                            co_await other.exchange(get, ok("GET / "));
                        }
                    };
                    std::string got;
                    co_await with_scope([&](scope& here) -> task<> {
                        here.spawn(drip());
                        got = co_await client.receive_rest();
                        here.cancel();
                    });
                    co_return got;
                };
                CHECK((co_await heard(attempt)).starts_with("HTTP/1.1 408 Request Timeout\r\n"));
            }
        };
        with_server(echo, body, std::move(options));
    }

    TEST_CASE("an idle connection is closed without a word") {
        ServerOptions options;
        options.idle_timeout = 5ms;
        auto body = [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            co_await client.exchange("GET / HTTP/1.1\r\nHost: x\r\n\r\n", ok("GET / "));
            CHECK(co_await client.receive_rest() == "");
        };
        CHECK(with_server(echo, body, std::move(options)).all.empty());
    }

    TEST_CASE("a body that stops coming gets a 408, and cuts an answer that has begun") {
        ServerOptions options;
        options.body_timeout = 5ms;
        auto handler = [](ServerRequest& request, Responder& response) -> task<> {
            if (request.path() == "/begun") {
                response.begin(200, 1);
                co_await response.flush();
            }
            co_await echo(request, response);
        };
        auto body = [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            co_await client.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nfour");
            const std::string got = co_await client.receive_rest();
            CHECK(got.starts_with("HTTP/1.1 408 Request Timeout\r\n"));
            CHECK(got.ends_with("\r\nConnection: close\r\n\r\nthe body did not come in time\n"));
            RawClient begun = co_await RawClient::connect(server);
            co_await begun.send("POST /begun HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\n");
            CHECK(co_await begun.receive_rest() == "HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\n");
        };
        const FaultLog faults = with_server(handler, body, std::move(options));
        CHECK(faults.count(ServerFault::stage::request) == 2);
    }

    TEST_CASE("a handler's own timeout is not the client's fault") {
        auto handler = [](ServerRequest&, Responder&) -> task<> { co_await with_timeout(1ms, test::forever()); };
        const FaultLog faults = with_server(handler, [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            co_await client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
            CHECK((co_await client.receive_until("\r\n")) == "HTTP/1.1 500 Internal Server Error\r\n");
        });
        CHECK(faults.count(ServerFault::stage::handler) == 1);
    }

    TEST_CASE("a client that does not take its answer is given up") {
        ServerOptions options;
        options.write_timeout = 10ms;
        auto handler = [](ServerRequest&, Responder& response) -> task<> {
            std::string more_than_sockets_hold;
            more_than_sockets_hold.resize(64'000'000, 'x');
            co_await response.send(200, std::move(more_than_sockets_hold));
        };
        auto body = [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            co_await client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
            while (server.statistics().connections == 0) co_await yield();
            while (server.statistics().connections != 0) co_await yield();
        };
        const FaultLog faults = with_server(handler, body, std::move(options));
        CHECK(faults.count(ServerFault::stage::connection) == 1);
    }
}

TEST_SUITE("http server: connections") {
    TEST_CASE("many clients are served at once") {
        std::size_t waiting = 0;
        event everybody_is_here;
        auto handler = [&](ServerRequest& request, Responder& response) -> task<> {
            if (++waiting == 50) everybody_is_here.set();
            co_await everybody_is_here.wait();
            co_await echo(request, response);
        };
        with_server(handler, [](http::Server& server) -> task<> {
            auto visit = [&](int number) -> task<> {
                RawClient client = co_await RawClient::connect(server);
                const std::string path = "/" + std::to_string(number);
                co_await client.exchange("GET " + path + " HTTP/1.1\r\nHost: x\r\n\r\n", ok("GET " + path + " "));
            };
            std::vector<task<>> visits;
            visits.reserve(50);
            for (int number = 0; number < 50; ++number) visits.push_back(visit(number));
            co_await gather(std::move(visits));
        });
    }

    TEST_CASE("an idle connection holds no buffer") {
        with_server(echo, [](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            co_await client.exchange("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nx", ok("POST / x"));
            while (server.statistics().idle == 0) co_await yield();
            CHECK(Executor::here().statistics().buffers_lent == 0);
        });
    }

    TEST_CASE("clients beyond the most connections wait for their turn") {
        ServerOptions options;
        options.max_connections = 1;
        auto body = [](http::Server& server) -> task<> {
            RawClient first = co_await RawClient::connect(server);
            co_await first.exchange("GET / HTTP/1.1\r\nHost: x\r\n\r\n", ok("GET / "));
            RawClient second = co_await RawClient::connect(server);
            co_await second.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
            const auto early = co_await race(second.receive_once(), test::driver_turns(50));
            CHECK_MESSAGE(early.index() == 1, "nothing was received in all these turns");
            CHECK(server.statistics().connections == 1);
            co_await first.stream().close();
            CHECK(co_await second.receive_once() == ok("GET / "));
        };
        with_server(echo, body, std::move(options));
    }

    TEST_CASE("when there are no descriptors left accepting waits a little and goes on" *
              doctest::skip(test::simulated())) {
        rlimit before{};
        REQUIRE(::getrlimit(RLIMIT_NOFILE, &before) == 0);
        std::size_t refused = 0;
        auto main = [&]() -> task<> {
            ServerOptions options;
            options.on_error = [&](const ServerFault& fault) {
                CHECK(fault.where == ServerFault::stage::accept);
                CHECK(fault.message().find("no connection can be accepted") == 0);
                if (++refused == 2) ::setrlimit(RLIMIT_NOFILE, &before);
            };
            http::Server server{net::TcpListener::bind(net::Address::loopback(0)), echo, std::move(options)};
            const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
            REQUIRE(::connect(fd, server.local().data(), server.local().size()) == 0);
            const int next = ::dup(fd);
            ::close(next);
            // The undefined behaviour sanitizer needs descriptors for its first look at a type.
            REQUIRE(std::generic_category().message(EMFILE) == "Too many open files");
            const rlimit none{static_cast<rlim_t>(next), before.rlim_max};
            REQUIRE(::setrlimit(RLIMIT_NOFILE, &none) == 0);
            Executor::here().driver().opened_outside();
            RawClient client{net::TcpStream::adopt(Executor::here(), {fd, false})};
            auto visit = [&]() -> task<> {
                co_await client.exchange("GET / HTTP/1.1\r\nHost: x\r\n\r\n", ok("GET / "));
                server.stop();
            };
            co_await with_timeout(20s, gather(server.serve(), visit()));
        };
        test::run_clean(main);
        ::setrlimit(RLIMIT_NOFILE, &before);
        CHECK(refused == 2);
    }
}

TEST_SUITE("http server: the end") {
    TEST_CASE("a stop closes idle connections, lets the busy ones finish, and refuses new ones") {
        event entered;
        event may_answer;
        auto handler = [&](ServerRequest& request, Responder& response) -> task<> {
            entered.set();
            if (request.path() == "/slow") co_await may_answer.wait();
            co_await response.send(200, "fine");
        };
        const FaultLog faults = with_server(handler, [&](http::Server& server) -> task<> {
            RawClient idle = co_await RawClient::connect(server);
            co_await idle.exchange("GET / HTTP/1.1\r\nHost: x\r\n\r\n", ok("fine"));
            RawClient fresh = co_await RawClient::connect(server);
            RawClient busy = co_await RawClient::connect(server);
            entered.reset();
            co_await busy.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\nGET /next HTTP/1.1\r\nHost: x\r\n\r\n");
            co_await entered.wait();
            while (server.statistics().connections < 3) co_await yield();
            server.stop();
            server.stop();
            CHECK(co_await idle.receive_rest() == "");
            CHECK(co_await fresh.receive_rest() == "");
            const result<RawClient> late = co_await as_result(RawClient::connect(server));
            CHECK_FALSE(late.has_value());
            CHECK(server.statistics().connections == 1);
            may_answer.set();
            CHECK(co_await busy.receive_rest() ==
                  "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfine");
            CHECK(server.statistics().requests == 2);
        });
        CHECK(faults.all.empty());
    }

    TEST_CASE("what is not finished when the grace period is over is cut off") {
        ServerOptions options;
        options.stop_grace = 5ms;
        event entered;
        bool cut_off = false;
        auto handler = [&](ServerRequest&, Responder& response) -> task<> {
            entered.set();
            try {
                co_await test::forever();
            } catch (const cancelled&) {
                cut_off = true;
                throw;
            }
            co_await response.send(200);
        };
        auto body = [&](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            co_await client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
            co_await entered.wait();
            server.stop();
            CHECK(co_await client.receive_rest() == "");
        };
        const FaultLog faults = with_server(handler, body, std::move(options));
        CHECK(cut_off);
        CHECK(faults.count(ServerFault::stage::stop) == 1);
        CHECK(faults.says("connections that are cut off: 1"));
    }

    TEST_CASE("a handler may stop its server") {
        auto main = []() -> task<> {
            http::Server* self = nullptr;
            auto handler = [&](ServerRequest&, Responder& response) -> task<> {
                self->stop();
                co_await response.send(200, "bye");
            };
            http::Server server{net::TcpListener::bind(net::Address::loopback(0)), handler};
            self = &server;
            auto visit = [&]() -> task<> {
                RawClient client = co_await RawClient::connect(server);
                co_await client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
                CHECK(co_await client.receive_rest() ==
                      "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbye");
            };
            co_await with_timeout(20s, gather(server.serve(), visit()));
        };
        test::run_clean(main);
    }

    TEST_CASE("a server that was stopped before it served returns at once, and serves only once") {
        auto main = []() -> task<> {
            http::Server server{net::TcpListener::bind(net::Address::loopback(0)), echo};
            server.stop();
            co_await with_timeout(20s, server.serve());
            const result<void> again = co_await as_result(server.serve());
            CHECK_FALSE(again.has_value());
        };
        test::run_clean(main);
    }

    TEST_CASE("cancelling a server ends it at once, whatever its connections do") {
        bool handler_left = false;
        event entered;
        auto main = [&]() -> task<> {
            auto handler = [&](ServerRequest& request, Responder& response) -> task<> {
                struct Left {
                    bool& flag;
                    ~Left() { flag = true; }
                } const left{handler_left};
                if (request.path() == "/slow") {
                    entered.set();
                    co_await test::forever();
                }
                co_await response.send(200);
            };
            http::Server server{net::TcpListener::bind(net::Address::loopback(0)), handler};
            RawClient idle = co_await RawClient::connect(server);
            RawClient busy = co_await RawClient::connect(server);
            RawClient reading = co_await RawClient::connect(server);
            co_await with_scope([&](scope& here) -> task<> {
                here.spawn(server.serve());
                co_await idle.exchange("GET / HTTP/1.1\r\nHost: x\r\n\r\n", ok(""));
                co_await reading.send("GET / HT");
                co_await busy.send("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n");
                co_await entered.wait();
                handler_left = false;
                here.cancel();
            });
            CHECK(handler_left);
            CHECK(server.statistics().connections == 0);
        };
        test::run_clean(main);
    }
}
