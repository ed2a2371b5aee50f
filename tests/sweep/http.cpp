#include <doctest/doctest.h>

#include <algorithm>

#include <certificates.hpp>
#include <steps.hpp>
#include <torc/http/server.hpp>
#include <torc/http/session.hpp>

#include "scenario.hpp"

// Theory of operation. A session against a server, of which only the session is cancelled: the server is then told to
// stop, and has to come to its end by itself.

namespace torc::sweep {
namespace {

using namespace std::chrono_literals;

/// A server with a session. What they say to each other is the kind's.
class Site : public Scenario {
   public:
    task<> play(Stage& stage) override {
        net::TcpListener listener = co_await stage.listen();
        std::string url = scheme() + stage.address_of(listener).to_string() + "/first";
        http::ServerOptions options = server_options();
        options.on_error = [](const http::ServerFault&) {};
        const auto handler = [this](http::ServerRequest& request, http::Responder& response) {
            return serve(request, response);
        };
        http::Server server{std::move(listener), handler, std::move(options)};
        co_await with_scope([&](scope& here) { return meet(stage, server, here, std::move(url)); });
        accepted_ = server.statistics().accepted;
        CHECK_MESSAGE(server.statistics().connections == 0, "no connection is left");
    }

   protected:
    virtual task<> serve(http::ServerRequest& request, http::Responder& response) = 0;
    virtual task<> visit(std::string url, http::SessionOptions options) = 0;
    virtual std::string scheme() const { return "http://"; }
    virtual http::ServerOptions server_options() const { return {}; }
    [[nodiscard]] std::uint64_t accepted() const noexcept { return accepted_; }

   private:
    task<> meet(Stage& stage, http::Server& server, scope& here, std::string url) {
        here.spawn(server.serve());
        http::SessionOptions options;
        if (stage.faults()) options.timeouts.head = options.timeouts.idle = 100ms;
        co_await stage.client(visit(std::move(url), std::move(options)));
        server.stop();
    }

    std::uint64_t accepted_ = 0;
};

/// Two requests on one connection.
class KeepAlive final : public Site {
   public:
    explicit KeepAlive(bool tls) : tls_(tls) {}
    void check(const Ending& ending) override {
        CHECK_MESSAGE(answered_ <= asked_, "every answer was given");
        if (!ending.undisturbed()) return;
        CHECK(answered_ == 2);
    }

   private:
    std::string scheme() const override { return tls_ ? "https://" : "http://"; }
    static const testing::CertificateWorld& world() {
        static const testing::CertificateWorld made;
        return made;
    }
    http::ServerOptions server_options() const override {
        static const net::TlsContext context = net::TlsContext::server(world().server({"127.0.0.1", "10.0.0.1"}));
        http::ServerOptions options;
        if (tls_) options.tls = context;
        return options;
    }
    task<> serve(http::ServerRequest& request, http::Responder& response) override {
        ++asked_;
        co_await test::driver_turns(1);
        co_await response.send(200, body_for(request.path()), "text/plain");
    }
    static std::string body_for(std::string_view path) { return std::string{path} + pattern(300); }
    task<> visit(std::string url, http::SessionOptions options) override {
        static const net::TlsContext context = net::TlsContext::client(world().client());
        if (tls_) options.tls = context;
        http::AsyncSession session{url, std::move(options)};
        http::Response& first = co_await session;
        co_await read(first, "/first");
        http::Response& second = co_await session.get("/second");
        co_await read(second, "/second");
        const result<void> closed = co_await as_result(session.close());
        if (!closed) throw closed.error();
    }
    task<> read(http::Response& response, std::string path) {
        CHECK(response.status() == 200);
        const std::string text = co_await response.text();
        CHECK(text == body_for(path));
        ++answered_;
    }

    bool tls_;
    int asked_ = 0;
    int answered_ = 0;
};

/// A body that is sent as it is made, and comes back as it is read.
class Streaming final : public Site {
   public:
    void check(const Ending& ending) override {
        CHECK_MESSAGE(made_.starts_with(heard_), "the server hears what is sent, in order");
        CHECK_MESSAGE(heard_.starts_with(back_), "and the client what is answered");
        if (heard_ended_) CHECK_MESSAGE(heard_ == made_, "a body that ended is complete");
        if (back_ended_) CHECK_MESSAGE(back_ == heard_, "in both directions");
        if (!ending.undisturbed()) return;
        CHECK(back_.size() == 3000);
        CHECK(accepted() == 1);
    }

   private:
    task<> serve(http::ServerRequest& request, http::Responder& response) override {
        response.begin(200);
        for (;;) {
            const std::span<const std::byte> piece = co_await request.read_some();
            if (piece.empty()) break;
            append(heard_, piece);
            co_await response.write(piece);
        }
        heard_ended_ = true;
        co_await response.finish();
    }
    task<std::span<const std::byte>> next() {
        co_await test::driver_turns(1);
        if (pieces_ == 3) co_return std::span<const std::byte>{};
        piece_ = pattern(1000);
        std::ranges::rotate(piece_, piece_.begin() + ++pieces_);
        made_ += piece_;
        co_return std::as_bytes(std::span{piece_});
    }
    task<> visit(std::string url, http::SessionOptions options) override {
        http::AsyncSession session{url, std::move(options)};
        http::Request request;
        request.method = "POST";
        request.stream.emplace();
        request.stream->next = [this] { return next(); };
        task<http::Response&> asking = session.request(std::move(request));
        http::Response& response = co_await std::move(asking);
        for (;;) {
            const std::span<const std::byte> piece = co_await response.read_some();
            if (piece.empty()) break;
            append(back_, piece);
        }
        back_ended_ = true;
    }

    std::string made_;
    std::string piece_;
    int pieces_ = 0;
    std::string heard_;
    std::string back_;
    bool heard_ended_ = false;
    bool back_ended_ = false;
};

}  // namespace

void add_http(Scenarios& all) {
    add<KeepAlive>(all, "two requests on one connection", false);
    add<KeepAlive>(all, "two requests on one connection over TLS", true);
    add<Streaming>(all, "a body that is streamed, and streamed back");
}

}  // namespace torc::sweep
