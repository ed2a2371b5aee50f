#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>

#include <torc/http/server.hpp>
#include <torc/runtime/event.hpp>
#include <torc/runtime/gather.hpp>
#include <torc/runtime/run.hpp>
#include <torc/runtime/timeout.hpp>

// An HTTP server with an answer at once, an answer piece by piece, and a body that is read as it comes. Given a port it
// serves there until Ctrl-C, and then answers what it has begun; otherwise a client of our own asks for all three, and
// then the server is stopped.

using namespace torc;

task<> greet(http::ServerRequest& request, http::Responder& response) {
    const std::string name = request.query_value("name").value_or("world");
    co_await response.send(200, fmt::format("Hello, {}!\n", name), "text/plain; charset=utf-8");
}

task<> count(http::Responder& response) {
    response.begin(200);
    for (int number = 1; number <= 3; ++number) {
        const std::string line = fmt::format("{}\n", number);
        co_await response.write(line);
    }
    co_await response.finish();
}

task<> measure(http::ServerRequest& request, http::Responder& response) {
    std::size_t size_bytes = 0;
    while (true) {
        const std::span<const std::byte> piece = co_await request.read_some();
        if (piece.empty()) break;
        size_bytes += piece.size();
    }
    co_await response.send(200, fmt::format("{} bytes\n", size_bytes));
}

task<> route(http::ServerRequest& request, http::Responder& response) {
    if (request.path() == "/greet") {
        co_await greet(request, response);
    } else if (request.path() == "/count") {
        co_await count(response);
    } else if (request.path() == "/measure") {
        co_await measure(request, response);
    } else {
        co_await response.send(404, "There is nothing here.\n");
    }
}

task<> visit(http::Server& server) {
    net::TcpStream client = co_await net::TcpStream::connect(server.local());
    co_await client.send(
        "GET /greet?name=ring HTTP/1.1\r\nHost: localhost\r\n\r\n"
        "GET /count HTTP/1.1\r\nHost: localhost\r\n\r\n"
        "POST /measure HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello");
    while (true) {
        const BufferSlice slice = co_await client.receive();
        if (slice.empty()) break;
        fmt::print("{}", std::string_view{reinterpret_cast<const char*>(slice.bytes().data()), slice.size()});
    }
    server.stop();
}

task<> visited() {
    http::Server server{net::TcpListener::bind(net::Address::loopback(0)), route};
    co_await gather(server.serve(), visit(server));
}

// Ctrl-C cancels the program's root. The shield keeps that from the server, which is told to stop instead: it accepts
// nobody any more, closes what is idle, and has a grace period for the rest.
task<> stop_when_cancelled(http::Server& server) {
    try {
        event never;
        co_await never.wait();
    } catch (const cancelled&) {
        server.stop();
        throw;
    }
}

task<> until_interrupted(std::uint16_t port) {
    http::Server server{net::TcpListener::bind(net::Address::loopback(port)), route};
    fmt::print("http://{}/greet?name=ring\n", server.local().to_string());
    std::fflush(stdout);
    co_await gather(shield(http::ServerOptions{}.stop_grace + std::chrono::seconds{1}, server.serve()),
                    stop_when_cancelled(server));
}

int main(int count, char** arguments) {
    if (count < 2) return run(visited());
    return run(until_interrupted(static_cast<std::uint16_t>(std::atoi(arguments[1]))));
}
