#pragma once

#include <doctest/doctest.h>

#include <chrono>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <torc/http/server.hpp>
#include <torc/net/stream.hpp>
#include <torc/runtime/event.hpp>
#include <torc/runtime/gather.hpp>
#include <torc/runtime/timeout.hpp>

#include "leak_check.hpp"

/// A server on loopback and clients that speak to it byte by byte, all on one executor.
namespace torc::testing {

using namespace std::chrono_literals;

/// A client that sends what it is told and keeps what it receives.
class RawClient {
   public:
    explicit RawClient(net::TcpStream stream) noexcept : stream_(std::move(stream)) {}
    static task<RawClient> connect(const http::Server& server) {
        net::TcpStream stream = co_await net::TcpStream::connect(server.local());
        co_return RawClient{std::move(stream)};
    }

    task<> send(std::string text) { co_await stream_.send(std::string_view{text}); }
    /// Receives exactly as much as `expected` is long, and says what that was.
    task<std::string> receive(std::size_t size_bytes) {
        while (received_.size() < size_bytes) {
            const bool more = co_await receive_more();
            if (!more) break;
        }
        const std::string taken = received_.substr(0, size_bytes);
        received_.erase(0, size_bytes);
        co_return taken;
    }
    /// Receives up to and with `mark`.
    task<std::string> receive_until(std::string mark) {
        while (received_.find(mark) == std::string::npos) {
            const bool more = co_await receive_more();
            if (!more) co_return std::exchange(received_, {}) + "<end>";
        }
        const std::size_t size_bytes = received_.find(mark) + mark.size();
        const std::string taken = received_.substr(0, size_bytes);
        received_.erase(0, size_bytes);
        co_return taken;
    }
    /// Receives until the server closes its side.
    task<std::string> receive_rest() {
        bool more = true;
        while (more) more = co_await receive_more();
        co_return std::exchange(received_, {});
    }
    /// Sends `request` and receives exactly `reply`.
    task<> exchange(std::string request, std::string reply) {
        co_await send(std::move(request));
        const std::string got = co_await receive(reply.size());
        CHECK(got == reply);
    }
    /// What one receive brings.
    task<std::string> receive_once() {
        co_await receive_more();
        co_return std::exchange(received_, {});
    }
    [[nodiscard]] net::TcpStream& stream() noexcept { return stream_; }

   private:
    task<bool> receive_more() {
        const BufferSlice slice = co_await stream_.receive();
        received_.append(reinterpret_cast<const char*>(slice.bytes().data()), slice.size());
        co_return !slice.empty();
    }

    net::TcpStream stream_;
    std::string received_;
};

/// Faults as they were reported.
struct FaultLog {
    std::vector<http::ServerFault> all;

    [[nodiscard]] std::size_t count(http::ServerFault::stage where) const {
        std::size_t found = 0;
        for (const auto& fault : all) found += fault.where == where ? 1 : 0;
        return found;
    }
    [[nodiscard]] bool says(std::string_view words) const {
        for (const auto& fault : all) {
            if (fault.message().find(words) != std::string::npos) return true;
        }
        return false;
    }
};

using ServerBody = std::move_only_function<task<>(http::Server&)>;

/// Runs `body` beside a server, then stops the server; sees that nothing is left of either.
inline FaultLog with_server(http::Server::Handler handler, ServerBody body, http::ServerOptions options = {}) {
    FaultLog faults;
    options.on_error = [&faults](const http::ServerFault& fault) { faults.all.push_back(fault); };
    auto main = [&]() -> task<> {
        http::Server server{net::TcpListener::bind(net::Address::loopback(0)), std::move(handler), std::move(options)};
        auto visit = [&]() -> task<> {
            co_await body(server);
            server.stop();
        };
        co_await with_timeout(20s, gather(server.serve(), visit()));
        CHECK(server.statistics().connections == 0);
        CHECK(server.statistics().idle == 0);
    };
    test::run_clean(main);
    return faults;
}

/// "HTTP/1.1 200 OK", Content-Length, and the body.
inline std::string ok(std::string_view body) {
    return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + std::string{body};
}

/// A handler that answers with method, target and body.
inline task<> echo(http::ServerRequest& request, http::Responder& response) {
    const std::string body = co_await request.text();
    co_await response.send(200, std::string{request.method()} + " " + std::string{request.target()} + " " + body);
}

}  // namespace torc::testing
