#pragma once

#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>

#include <torc/http/server.hpp>
#include <torc/http/session.hpp>
#include <torc/runtime.hpp>

namespace torc::load {

struct StopAtEnd {
    http::Server& site;
    ~StopAtEnd() { site.stop(); }
};

/// A site and a visitor on one executor: two requests with bodies on one connection, over TLS if there is a context.
/// Errors: what the visitor met.
inline task<> visit_site(std::optional<net::TlsContext> site_tls, http::SessionOptions options) {
    http::ServerOptions serving;
    const bool secure = site_tls.has_value();
    serving.tls = std::move(site_tls);
    serving.on_error = [](const http::ServerFault&) {};
    http::Server site{net::TcpListener::bind(net::Address::loopback(0)),
                      [](http::ServerRequest& request, http::Responder& response) -> task<> {
                          const std::string body = co_await request.text();
                          response.begin(200);
                          for (int piece = 0; piece < 8; ++piece) co_await response.write(body);
                          co_await response.finish();
                      },
                      std::move(serving)};
    auto visit = [&]() -> task<> {
        const StopAtEnd stop{site};
        const std::string url =
            (secure ? "https://localhost:" : "http://localhost:") + std::to_string(site.local().port());
        http::AsyncSession session{url, std::move(options)};
        for (int again = 0; again < 2; ++again) {
            http::Response& response = co_await session.post("/", std::string(8000, 'x'));
            const std::string text = co_await response.text();
            if (response.status() == 200 && text.size() != 64'000) throw std::runtime_error("a part of it is missing");
        }
    };
    co_await with_timeout(std::chrono::seconds{20}, gather(site.serve(), visit()));
}

}  // namespace torc::load
