#include <doctest/doctest.h>

#include <unistd.h>

#include <algorithm>
#include <array>

#include <steps.hpp>
#include <torc/net/stream.hpp>

#include "scenario.hpp"

// Theory of operation. One task receives, sends or accepts and is cancelled; another goes on with the same socket. What
// the first one had, what it was told had been sent, and what the second one gets, make the whole: a result that came
// with or after the cancellation is neither lost nor there twice.

namespace torc::sweep {
namespace {

/// What was sent, in pieces, is received by one task and then by another.
class Receiving final : public Scenario {
   public:
    explicit Receiving(bool keep_receiving) : keep_receiving_(keep_receiving) {}
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
        net::TcpStream stream = co_await net::TcpStream::connect(stage.address_of(listener));
        stream.record().keep_receiving(keep_receiving_);
        co_await stage.client(read(stream, text_.size() - 200));
        co_await read(stream, text_.size() + 1);
    }
    task<> serve(net::TcpListener& listener) {
        net::TcpStream stream = co_await listener.accept();
        for (std::size_t at = 0; at < text_.size(); at += 500) {
            const std::string_view piece = std::string_view{text_}.substr(at, 500);
            co_await stream.send(piece);
            co_await test::driver_turns(1);
        }
    }
    /// By turns into memory of its own and as slices.
    task<> read(net::TcpStream& stream, std::size_t until_bytes) {
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

    bool keep_receiving_;
    const std::string text_ = pattern(2000);
    std::string got_;
};

/// What one task sends until it is cancelled, and another wants to continue. It can if the stream has no hole.
class Sending final : public Scenario {
   public:
    void prepare(sim::Options& options) const override { options.window_bytes = 2048; }
    task<> play(Stage& stage) override {
        static int number = 0;
        piece_bytes_ = stage.simulated() ? 3000 : 300'000;
        const std::string name = "@torc-sweep-" + std::to_string(::getpid()) + "-" + std::to_string(++number);
        net::TcpListener listener = net::TcpListener::bind(net::Address::unix_socket(name));
        co_await with_scope([&](scope& here) { return meet(stage, listener, here); });
    }
    void check(const Ending& ending) override {
        const std::string all = promised_ + begun_;
        const std::string continued = promised_ + tail;
        CHECK_MESSAGE((all.starts_with(heard_) || continued.starts_with(heard_)), "bytes are in order");
        if (!ending.completed()) return;
        CHECK_MESSAGE(heard_.starts_with(promised_), "what was promised has arrived");
        if (continued_) CHECK_MESSAGE(heard_ == promised_ + tail, "of what was cancelled nothing was sent");
        if (refused_ && !ending.fault_asked) CHECK_MESSAGE(heard_.size() > promised_.size(), "there is a hole");
        if (ending.undisturbed()) CHECK(promised_.size() == 2 * piece_bytes_);
    }

   private:
    static constexpr const char* tail = "the end";

    task<> meet(Stage& stage, net::TcpListener& listener, scope& here) {
        here.spawn(serve(listener));
        net::UnixStream stream = co_await net::UnixStream::connect(listener.local());
        co_await stage.client(send(stream));
        const result<void> more = co_await as_result(stream.send(tail));
        continued_ = more.has_value();
        if (!more && more.error().code() != std::errc::broken_pipe) throw more.error();
        refused_ = !more;
    }
    task<> send(net::UnixStream& stream) {
        for (int piece = 0; piece < 2; ++piece) {
            begun_ = pattern(piece_bytes_);
            co_await stream.send(begun_);
            promised_ += std::exchange(begun_, {});
        }
    }
    task<> serve(net::TcpListener& listener) {
        net::TcpStream stream = co_await listener.accept();
        std::vector<std::byte> own(piece_bytes_ / 10);
        for (;;) {
            co_await test::driver_turns(1);
            const std::size_t count = co_await stream.receive(own);
            if (count == 0) co_return;
            append(heard_, std::span{own}.first(count));
        }
    }

    std::size_t piece_bytes_ = 0;
    std::string promised_;
    std::string begun_;
    std::string heard_;
    bool continued_ = false;
    bool refused_ = false;
};

/// Connections that one task accepts until it is cancelled, and another then.
class Accepting final : public Scenario {
   public:
    task<> play(Stage& stage) override {
        net::TcpListener listener = co_await stage.listen();
        co_await with_scope([&](scope& here) { return meet(stage, listener, here); });
    }
    void check(const Ending& ending) override {
        if (ending.completed()) CHECK_MESSAGE(answered_ == 3, "no connection is lost");
        CHECK(answered_ <= served_);
    }

   private:
    task<> meet(Stage& stage, net::TcpListener& listener, scope& here) {
        for (int visitor = 0; visitor < 3; ++visitor) here.spawn(visit(stage.address_of(listener)));
        co_await stage.client(accept(listener, here, 2));
        co_await accept(listener, here, 3);
    }
    task<> accept(net::TcpListener& listener, scope& here, int until) {
        while (served_ < until) {
            net::TcpStream stream = co_await listener.accept();
            ++served_;
            here.spawn(greet(std::move(stream)));
        }
    }
    static task<> greet(net::TcpStream stream) { co_await stream.send("hello"); }
    task<> visit(net::Address address) {
        net::TcpStream stream = co_await net::TcpStream::connect(address);
        std::string text;
        for (;;) {
            const BufferSlice slice = co_await stream.receive();
            if (slice.empty()) break;
            append(text, slice.bytes());
        }
        if (text == "hello") ++answered_;
    }

    int served_ = 0;
    int answered_ = 0;
};

}  // namespace

void add_handovers(Scenarios& all) {
    add<Receiving>(all, "bytes received by one task and then by another", true);
    add<Receiving>(all, "bytes received by one task and then by another, asked for one by one", false);
    add<Sending>(all, "bytes sent by one task and then by another");
    add<Accepting>(all, "connections accepted by one task and then by another");
}

}  // namespace torc::sweep
