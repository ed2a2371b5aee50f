#pragma once

#include <doctest/doctest.h>

#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include <torc/http/session.hpp>

#include "peer.hpp"
#include "steps.hpp"

/// What tests of sessions share: answers, peers, and a session that ends in an error.
namespace torc::test {

inline const std::string hello = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

inline std::string ok(std::string_view body, std::string_view headers = "") {
    return "HTTP/1.1 200 OK\r\n" + std::string{headers} + "Content-Length: " + std::to_string(body.size()) +
           "\r\n\r\n" + std::string{body};
}

inline task<std::string> fetch(std::string url, http::SessionOptions options = {}) {
    http::AsyncSession session{url, std::move(options)};
    http::Response& response = co_await session;
    co_return co_await response.text();
}

/// Runs `make()` and gives the error it ends with; fails if there is none.
template <class Make>
Error error_of(Make make) {
    std::optional<Error> caught;
    run_beside_peers([&]() -> task<> {
        auto ended = co_await as_result(make());
        REQUIRE_FALSE(ended);
        caught = std::move(ended).error();
    });
    return *caught;
}

/// Answers with the head of the request as the body.
inline Peer::Handler echoing_heads() {
    return [](net::TcpStream stream) -> task<> {
        return [](net::TcpStream connection) -> task<> {
            for (;;) {
                const std::string head = co_await read_head(connection);
                if (head.empty()) co_return;
                const std::string answer = ok(head);
                co_await connection.send(answer);
            }
        }(std::move(stream));
    };
}

}  // namespace torc::test
