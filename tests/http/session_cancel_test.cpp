#include <doctest/doctest.h>

#include <chrono>
#include <thread>

#include <torc/http/session.hpp>
#include <torc/net/tls_selfsigned.hpp>

#include "leak_check.hpp"
#include "peer.hpp"

// Goal: a plug pulled at any await of a whole check leaves nothing open, nothing in flight, nothing leaked. Method: run
// the check once and count its suspensions; then once for each of them, cancelled there, before the operation reaches
// the kernel and after. The server lives on a thread of its own and is not cancelled.

using namespace torc;
using http::AsyncSession;
using http::Response;
using http::SessionOptions;
using test::Peer;

namespace {

task<> check(std::string url, SessionOptions options) {
    AsyncSession session{url, std::move(options)};
    Response& response = co_await session;
    CHECK(response.status() == 200);
    const std::string body = co_await response.text();
    CHECK(body.size() == 3000);
    Response& second = co_await session.get("/again");
    CHECK(second.status() == 200);
}

std::string answer() {
    return "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n" + std::string(1000, 'a') + "\r\n7d0\r\n" +
           std::string(2000, 'b') + "\r\n0\r\n\r\n";
}

template <class Make>
void pull_the_plug_everywhere(const Peer& peer, Make make) {
    std::uint64_t suspensions = 0;
    {
        Executor executor;
        executor.run(make());
        suspensions = executor.statistics().suspensions;
    }
    REQUIRE(suspensions > 5);
    peer.wait_idle();
    for (const bool late : {false, true}) {
        for (std::uint64_t at = 1; at <= suspensions; ++at) {
            CAPTURE(at);
            CAPTURE(late);
            ExecutorOptions options;
            options.cancel_at_suspension = at;
            options.cancel_late = late;
            const std::ptrdiff_t frames = torc::detail::live_frames();
            {
                Executor executor{options};
                try {
                    executor.run(make());
                } catch (const cancelled&) {
                }
                test::leak_check::check(executor.statistics());
            }
            CHECK(torc::detail::live_frames() == frames);
        }
    }
    peer.wait_idle();
}

/// Whether as many descriptors are open as before. A connection that was given up may reach the peer late.
bool comes_back_to(std::size_t open) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{20};
    while (test::open_files::now().count != open) {
        if (std::chrono::steady_clock::now() > deadline) return false;
        std::this_thread::yield();
    }
    return true;
}

Peer::Handler plain_server() {
    return [](net::TcpStream stream) -> task<> {
        return [](net::TcpStream connection) -> task<> {
            for (;;) {
                const std::string head = co_await test::read_head(connection);
                if (head.empty()) co_return;
                const std::string text = answer();
                co_await connection.send(std::string_view{text}.substr(0, 700));
                co_await connection.send(std::string_view{text}.substr(700));
            }
        }(std::move(stream));
    };
}

Peer::Handler tls_server(net::TlsContext context) {
    return [context](net::TcpStream stream) -> task<> {
        return [](net::TcpStream connection, net::TlsContext server) -> task<> {
            net::TlsStream secure = co_await net::TlsStream::accept(std::move(connection), server);
            for (;;) {
                std::string head;
                while (!head.ends_with("\r\n\r\n")) {
                    BufferSlice slice = co_await secure.receive();
                    if (slice.empty()) co_return;
                    head.append(reinterpret_cast<const char*>(slice.bytes().data()), slice.size());
                }
                const std::string text = answer();
                co_await secure.send(text);
            }
        }(std::move(stream), context);
    };
}

}  // namespace

TEST_SUITE("session, cancelled") {
    TEST_CASE("a plain check can be cancelled at every await") {
        const Peer peer{plain_server()};
        const test::open_files before = test::open_files::now();
        pull_the_plug_everywhere(peer, [&] { return check(peer.url(), {}); });
        CHECK(comes_back_to(before.count));
    }

    TEST_CASE("a check over TLS can be cancelled at every await") {
        const net::ThrowawayAuthority authority;
        net::CertificateRequest request;
        request.common_name = "site";
        request.names = {"localhost"};
        net::TlsServerOptions server;
        server.identities = {authority.issue(request)};
        const Peer peer{tls_server(net::TlsContext::server(server))};
        net::TlsClientOptions client;
        client.trust.ca_pem = authority.certificate_pem();
        SessionOptions options;
        options.tls = net::TlsContext::client(client);
        const std::string url = "https://localhost:" + std::to_string(peer.address().port()) + "/";
        const test::open_files before = test::open_files::now();
        pull_the_plug_everywhere(peer, [&] { return check(url, options); });
        CHECK(comes_back_to(before.count));
    }

    TEST_CASE("two checks gathered can be cancelled at every await") {
        const Peer peer{plain_server()};
        pull_the_plug_everywhere(peer, [&]() -> task<> {
            return [](std::string url) -> task<> {
                task<> one = check(url, {});
                task<> two = check(url, {});
                co_await gather(std::move(one), std::move(two));
            }(peer.url());
        });
    }
}
