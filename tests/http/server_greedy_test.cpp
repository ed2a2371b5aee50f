#include <torc/runtime/as_result.hpp>
#include <torc/runtime/time.hpp>

#include "memory_watch.hpp"
#include "server_client.hpp"
#include "steps.hpp"

// Goal: a client that never stops sending, or never reads, gets its answer or its end within the limit that is meant
// for it, and never makes the server hold more than a few buffers. Method: what is sent again and again, until the
// server no longer takes it, while everything that the process allocates is counted. Client and server share the
// process, so the bounds are for both.

using namespace torc;
using namespace torc::testing;
using http::Responder;
using http::ServerFault;
using http::ServerOptions;
using http::ServerRequest;
using test::memory_watch;

namespace {

constexpr std::size_t KiB = 1024;

/// What one client may make both sides hold: a head at its limit, the half of it that it grew from, and a few buffers.
constexpr std::size_t bound_bytes = (64 + 32 + 64) * KiB;

const std::string get = "GET / HTTP/1.1\r\nHost: x\r\n";
const std::string post = "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";

std::string filled_with(std::string_view text) {
    std::string piece;
    while (piece.size() < 4 * KiB) piece += text;
    return piece;
}

struct Endless {
    std::string what;
    std::string start;   ///< sent once
    std::string piece;   ///< sent until the server has had enough
    std::string status;  ///< what it answers
};

std::vector<Endless> endless() {
    const std::string letters = filled_with("a");
    return {
        {"a method", "", filled_with("A"), "414 URI Too Long"},
        {"a target", "GET /", letters, "414 URI Too Long"},
        {"a name", get, letters, "431 Request Header Fields Too Large"},
        {"a value", get + "X: ", letters, "431 Request Header Fields Too Large"},
        {"a value of spaces", get + "X:", filled_with(" "), "431 Request Header Fields Too Large"},
        {"short headers", get, filled_with("X: y\r\n"), "431 Request Header Fields Too Large"},
        {"long headers", get, "X: " + std::string(20 * KiB, 'y') + "\r\n", "431 Request Header Fields Too Large"},
        {"blank lines", "", filled_with("\r\n"), "400 Bad Request"},
        {"a body of known length", get + "Content-Length: 9000000000\r\n\r\n", letters, "413 Content Too Large"},
        {"zeros before the size of a chunk", post, filled_with("0"), "400 Bad Request"},
        {"a chunk's extension", post + "1;", letters, "400 Bad Request"},
        {"extensions of chunks", post, filled_with("1;extension=\"of a chunk\"\r\na\r\n"), "400 Bad Request"},
        {"a chunk", post + "7fffffff\r\n", letters, "413 Content Too Large"},
        {"chunks of one byte", post, filled_with("1\r\na\r\n"), "413 Content Too Large"},
        {"a trailer", post + "0\r\nX: ", letters, "400 Bad Request"},
        {"short trailers", post + "0\r\n", filled_with("X: y\r\n"), "400 Bad Request"},
        {"long trailers", post + "0\r\n", "X: " + std::string(5 * KiB, 'y') + "\r\n", "400 Bad Request"},
    };
}

/// Sends `piece` until it is no longer taken.
task<> pour(RawClient& client, const std::string& piece) {
    while (true) {
        const result<void> taken = co_await as_result(client.stream().send(std::string_view{piece}));
        if (!taken) co_return;
    }
}

/// What comes back while `start` is sent, and `piece` without end.
task<std::string> pour_and_read(http::Server& server, std::string start, const std::string& piece) {
    RawClient client = co_await RawClient::connect(server);
    co_await client.send(std::move(start));
    std::string answer;
    auto read = [&]() -> task<> { answer = co_await client.receive_rest(); };
    co_await gather(pour(client, piece), read());
    co_return answer;
}

/// The first use of anything allocates what is kept for later.
task<> warm_up(http::Server& server) {
    RawClient client = co_await RawClient::connect(server);
    co_await client.send(get + "Connection: close\r\n\r\n");
    co_await client.receive_rest();
}

task<> wait_for_last_end(http::Server& server) {
    while (server.statistics().connections != 0) co_await yield();
}

task<> read_all(ServerRequest& request, Responder& response) {
    bool more = true;
    while (more) {
        const std::span<const std::byte> piece = co_await request.read_some();
        more = !piece.empty();
    }
    co_await response.send(200, "read");
}

ServerOptions with_short_farewell() {
    ServerOptions options;
    options.linger_timeout = 20ms;
    options.limits.max_body_bytes = 64 * KiB;
    return options;
}

}  // namespace

TEST_SUITE("http server: greedy clients") {
    TEST_CASE("what never ends is refused in the right words, and little of it is kept") {
        const std::vector<Endless> table = endless();
        auto body = [&](http::Server& server) -> task<> {
            co_await warm_up(server);
            for (const Endless& row : table) {
                CAPTURE(row.what);
                const memory_watch memory;
                const std::string answer = co_await pour_and_read(server, row.start, row.piece);
                CHECK(answer.starts_with("HTTP/1.1 " + row.status + "\r\n"));
                CHECK(answer.find("\r\nConnection: close\r\n") != std::string::npos);
                co_await wait_for_last_end(server);
                CHECK(memory.peak_bytes() < bound_bytes);
            }
        };
        const FaultLog faults = with_server(read_all, body, with_short_farewell());
        CHECK(faults.all.size() == table.size());
        CHECK(faults.count(ServerFault::stage::request) == table.size());
    }

    TEST_CASE("a body without end that nobody reads ends the connection soon") {
        auto deaf = [](ServerRequest&, Responder& response) -> task<> { co_await response.send(200, "no thanks"); };
        auto body = [&](http::Server& server) -> task<> {
            co_await warm_up(server);
            const std::vector<std::string> pieces = {filled_with("1\r\na\r\n"), filled_with("1;extension\r\na\r\n")};
            for (const std::string& piece : pieces) {
                const memory_watch memory;
                const std::string answer = co_await pour_and_read(server, post, piece);
                CHECK(answer == ok("no thanks"));
                co_await wait_for_last_end(server);
                CHECK(memory.peak_bytes() < bound_bytes);
            }
        };
        with_server(deaf, body, with_short_farewell());
    }

    TEST_CASE("requests without end whose answers nobody reads are not served without end") {
        ServerOptions options;
        options.write_timeout = 50ms;
        std::size_t served = 0;
        const std::string page(64 * KiB, 'x');
        auto handler = [&](ServerRequest&, Responder& response) -> task<> {
            ++served;
            response.begin(200, page.size());
            co_await response.write(std::string_view{page});
        };
        auto body = [&](http::Server& server) -> task<> {
            co_await warm_up(server);
            const memory_watch memory;
            RawClient client = co_await RawClient::connect(server);
            co_await pour(client, filled_with(get + "\r\n"));
            co_await wait_for_last_end(server);
            CHECK(memory.peak_bytes() < bound_bytes);
        };
        const FaultLog faults = with_server(handler, body, std::move(options));
        REQUIRE(faults.all.size() == 1);
        CHECK(faults.count(ServerFault::stage::connection) == 1);
        CHECK(faults.says("timed out"));
        CHECK(served > 1);
    }

    TEST_CASE("a client that takes an endless answer byte by byte is given up") {
        ServerOptions options;
        options.write_timeout = 50ms;
        const std::string page(256 * KiB, 'x');
        auto handler = [&](ServerRequest&, Responder& response) -> task<> {
            response.begin(200);
            while (true) co_await response.write(std::string_view{page});
        };
        auto body = [&](http::Server& server) -> task<> {
            RawClient client = co_await RawClient::connect(server);
            const memory_watch memory;
            co_await client.send(get + "\r\n");
            std::byte byte{};
            while (server.statistics().connections == 0) co_await yield();
            while (server.statistics().connections != 0) {
                const result<std::size_t> got = co_await as_result(client.stream().receive(std::span{&byte, 1}));
                if (!got || *got == 0) break;
                co_await test::driver_turns(1);
            }
            co_await wait_for_last_end(server);
            CHECK(memory.peak_bytes() < bound_bytes);
        };
        const FaultLog faults = with_server(handler, body, std::move(options));
        CHECK(faults.all.size() == 1);
        CHECK(faults.count(ServerFault::stage::connection) == 1);
    }

    TEST_CASE("many clients that hold back the end of the largest head cost a head each") {
        ServerOptions options;
        options.head_timeout = 200ms;
        options.linger_timeout = 5s;
        constexpr std::size_t clients = 100;
        auto body = [&](http::Server& server) -> task<> {
            co_await warm_up(server);
            const std::string line = "X: " + std::string(30 * KiB, 'y') + "\r\n";
            const std::string head = get + line + line;
            const memory_watch memory;
            auto hold = [&]() -> task<> {
                RawClient client = co_await RawClient::connect(server);
                co_await client.stream().send(std::string_view{head});
                const std::string answer = co_await client.receive_rest();
                CHECK(answer.starts_with("HTTP/1.1 408 Request Timeout\r\n"));
            };
            std::vector<task<>> all;
            all.reserve(clients);
            for (std::size_t i = 0; i < clients; ++i) all.push_back(hold());
            co_await gather(std::move(all));
            // Twice a head's limit, for it grows by doubling, and what a connection costs on both sides.
            CHECK(memory.peak_bytes() < clients * (128 + 32) * KiB);
        };
        const FaultLog faults = with_server(echo, body, std::move(options));
        CHECK(faults.count(ServerFault::stage::request) == clients);
    }
}
