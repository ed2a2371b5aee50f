#include <doctest/doctest.h>

#include <certificates.hpp>
#include <steps.hpp>
#include <torc/net/tls_error.hpp>
#include <torc/net/tls_stream.hpp>

#include "scenario.hpp"

// Theory of operation. A stream that ended orderly is complete: whoever is cancelled or fails with something half sent
// must not say close_notify. And the bytes that one task was waiting for when it was cancelled, the next one gets.

namespace torc::sweep {
namespace {

struct Contexts {
    testing::CertificateWorld world;
    net::TlsContext server = net::TlsContext::server(world.server({"site.test"}));
    net::TlsContext client = net::TlsContext::client(world.client());
    static const Contexts& get() {
        static const Contexts made;
        return made;
    }
};

task<net::TlsStream> connect(net::Address address) {
    net::TcpStream tcp = co_await net::TcpStream::connect(address);
    task<net::TlsStream> shaking = net::TlsStream::connect(std::move(tcp), Contexts::get().client, {"site.test"});
    co_return co_await std::move(shaking);
}

task<net::TlsStream> accept(net::TcpListener& listener, bool& accepted) {
    net::TcpStream tcp = co_await listener.accept();
    accepted = true;
    task<net::TlsStream> shaking = net::TlsStream::accept(std::move(tcp), Contexts::get().server);
    co_return co_await std::move(shaking);
}

/// What one side was promised to have sent, and what the other got of it.
struct Way {
    std::string promised;
    std::string got;
    bool ended = false;  // orderly

    void check() const {
        if (ended) CHECK_MESSAGE(got == promised, "what ended orderly is complete");
    }
};

/// A handshake, a question, an answer, and the end of both; the client's part or the server's may be cancelled.
class Talking final : public Scenario {
   public:
    explicit Talking(bool client_is_server) : client_is_server_(client_is_server) {}
    task<> play(Stage& stage) override {
        net::TcpListener listener = co_await stage.listen();
        co_await with_scope([&](scope& here) { return meet(stage, listener, here); });
    }
    void check(const Ending& ending) override {
        there_.check();
        back_.check();
        if (!ending.undisturbed()) return;
        CHECK(there_.got == question);
        CHECK(back_.got == answer_);
        CHECK(there_.ended);
        CHECK(back_.ended);
    }

   private:
    static constexpr const char* question = "What is the answer?";

    task<> meet(Stage& stage, net::TcpListener& listener, scope& here) {
        const net::Address address = stage.address_of(listener);
        if (client_is_server_) {
            here.spawn(stage.partner(judge(visit(address))));
            co_await stage.client(serve(listener));
            // Who was not accepted yet is turned away.
            const result<void> closed = co_await as_result(listener.close());
            if (!closed) throw closed.error();
        } else {
            here.spawn(stage.partner(judge(serve(listener))));
            co_await stage.client(visit(address));
            if (stage.client_cancelled() && !accepted_) here.cancel();
        }
    }
    task<> serve(net::TcpListener& listener) {
        net::TlsStream stream = co_await accept(listener, accepted_);
        co_await read(stream, there_);
        co_await send(stream, back_, answer_);
        const result<void> closed = co_await as_result(stream.close());
        if (!closed) throw closed.error();
    }
    task<> visit(net::Address address) {
        net::TlsStream stream = co_await connect(address);
        co_await send(stream, there_, question);
        co_await stream.shutdown_write();
        co_await read(stream, back_);
    }
    /// Whose partner is cancelled finds a stream that ends too early, never one that makes no sense.
    static task<> judge(task<> part) {
        try {
            co_await std::move(part);
        } catch (const Error& error) {
            const std::error_code code = error.code();
            const bool ended = code == net::tls_errc::truncated || code.category() == std::generic_category();
            CHECK_MESSAGE(ended, "the other side was left with: " << std::string{error.what()});
            throw;
        }
    }
    static task<> read(net::TlsStream& stream, Way& way) {
        for (;;) {
            const BufferSlice slice = co_await stream.receive();
            if (slice.empty()) break;
            append(way.got, slice.bytes());
        }
        way.ended = true;
    }
    static task<> send(net::TlsStream& stream, Way& way, std::string text) {
        co_await stream.send(text);
        way.promised += text;
    }

    bool client_is_server_;
    bool accepted_ = false;
    const std::string answer_ = pattern(700);
    Way there_;
    Way back_;
};

/// What was sent over TLS is received by one task and then by another.
class Receiving final : public Scenario {
   public:
    task<> play(Stage& stage) override {
        net::TcpListener listener = co_await stage.listen();
        co_await with_scope([&](scope& here) { return meet(stage, listener, here); });
    }
    void check(const Ending& ending) override {
        CHECK_MESSAGE(text_.starts_with(got_), "bytes are in order");
        if (ending.completed()) CHECK_MESSAGE(got_ == text_, "no byte is missing");
    }

   private:
    task<> meet(Stage& stage, net::TcpListener& listener, scope& here) {
        here.spawn(serve(listener));
        net::TlsStream stream = co_await connect(stage.address_of(listener));
        co_await stage.client(read(stream, text_.size() - 200));
        co_await read(stream, text_.size() + 1);
    }
    task<> serve(net::TcpListener& listener) {
        bool accepted = false;
        net::TlsStream stream = co_await accept(listener, accepted);
        for (std::size_t at = 0; at < text_.size(); at += 500) {
            const std::string_view piece = std::string_view{text_}.substr(at, 500);
            co_await stream.send(piece);
            co_await test::driver_turns(1);
        }
    }
    task<> read(net::TlsStream& stream, std::size_t until_bytes) {
        std::array<std::byte, 150> own{};
        while (got_.size() < until_bytes) {
            const std::size_t count = co_await stream.receive(own);
            if (count == 0) co_return;
            append(got_, std::span{own}.first(count));
            const BufferSlice slice = co_await stream.receive();
            if (slice.empty()) co_return;
            append(got_, slice.bytes());
        }
    }

    const std::string text_ = pattern(2000);
    std::string got_;
};

}  // namespace

void add_tls(Scenarios& all) {
    add<Talking>(all, "a conversation over TLS, the client cancelled", false);
    add<Talking>(all, "a conversation over TLS, the server cancelled", true);
    add<Receiving>(all, "bytes received over TLS by one task and then by another");
}

}  // namespace torc::sweep
