#include <doctest/doctest.h>

#include <sys/socket.h>

#include <algorithm>
#include <set>

#include <torc/net/stream.hpp>

#include "scenario.hpp"

// Theory of operation. The server's side notes what it got; the client's side notes what it was promised, which is what
// it may count on. A server that is alone with a cancelled client which never came is cancelled too.

namespace torc::sweep {
namespace {

using namespace std::chrono_literals;

/// Everything up to the end of the stream, added to `text` as it comes.
task<> read_to_end(net::TcpStream& stream, std::string& text) {
    for (;;) {
        const BufferSlice slice = co_await stream.receive();
        if (slice.empty()) co_return;
        append(text, slice.bytes());
    }
}

/// Several addresses, of which one refuses, one leads nowhere and one does not answer. One connection is used. With a
/// name they come one after the other: the IPv6 ones, which lead nowhere, first.
class Connecting final : public Scenario {
   public:
    explicit Connecting(bool by_name) : by_name_(by_name) {}
    task<> play(Stage& stage) override {
        if (!by_name_) co_return co_await connect(stage);
        std::map<std::string, std::vector<std::string>> names;
        names["site.test"] = stage.simulated() ? std::vector<std::string>{"2001:db8::1", "2001:db8::2", "10.0.0.1"}
                                               : std::vector<std::string>{"::1", "127.0.0.1"};
        co_await stage.with_names(std::move(names), connect(stage));
    }
    void check(const Ending& ending) override {
        CHECK_MESSAGE(greetings_ <= 1, "one attempt wins");
        if (promised_ && ending.completed() && !unheard_) CHECK_MESSAGE(greetings_ == 1, "what was sent has arrived");
        if (ending.undisturbed()) CHECK(promised_);
    }

   private:
    task<> connect(Stage& stage) {
        net::TcpListener listener = co_await stage.listen();
        if (stage.simulated()) {
            stage.world().add_host("dark", {"10.0.0.3"});
            stage.world().isolate("dark");
            if (by_name_) stage.world().delay_name("site.test", AF_INET, 1ms);
        }
        co_await with_scope([&](scope& here) { return meet(stage, listener, here); });
    }
    task<> meet(Stage& stage, net::TcpListener& listener, scope& here) {
        here.spawn(accept_all(stage, listener, here));
        co_await stage.client(visit(stage, listener));
        if (promised_) co_await greeted_.wait();
        here.cancel();
    }
    task<> accept_all(Stage& stage, net::TcpListener& listener, scope& here) {
        for (;;) {
            net::TcpStream stream = co_await listener.accept();
            here.spawn(stage.partner(hear(std::move(stream))));
        }
    }
    task<> hear(net::TcpStream stream) {
        std::string text;
        try {
            co_await read_to_end(stream, text);
        } catch (const Error&) {
            // An attempt that lost may be gone without a word; where an operation failed it may be the one that won.
            unheard_ = true;
            greeted_.set();
        }
        if (text != "hello") co_return;
        ++greetings_;
        greeted_.set();
    }
    task<> visit(Stage& stage, net::TcpListener& listener) {
        const net::Address good = stage.address_of(listener);
        std::vector<net::Address> addresses{good.with_port(9)};
        if (stage.simulated()) {
            addresses.push_back(*net::Address::parse_ip("10.0.0.3", 80));
            addresses.push_back(*net::Address::parse_ip("10.0.0.9", 80));
        } else {
            addresses.push_back(*net::Address::parse_ip("127.0.0.2", good.port()));
        }
        addresses.push_back(good);
        net::ConnectOptions options;
        options.attempt_delay = stage.simulated() ? 100us : 0us;
        task<net::TcpStream> connecting = by_name_ ? net::TcpStream::connect("site.test", good.port(), options)
                                                   : net::TcpStream::connect(addresses, options);
        net::TcpStream stream = co_await std::move(connecting);
        co_await stream.send("hello");
        promised_ = true;
    }

    bool by_name_;
    int greetings_ = 0;
    bool promised_ = false;
    bool unheard_ = false;
    event greeted_;
};

/// A server that takes three clients, who each say their letter and hear it again.
class AcceptLoop final : public Scenario {
   public:
    task<> play(Stage& stage) override {
        net::TcpListener listener = co_await stage.listen();
        co_await with_scope([&](scope& here) { return meet(stage, listener, here); });
    }
    void check(const Ending& ending) override {
        CHECK_MESSAGE(std::ranges::includes(heard_, answered_), "nobody hears what was not said");
        if (ending.undisturbed()) CHECK(answered_ == std::set<std::string>{"abc", "bcd", "cde"});
    }

   private:
    task<> meet(Stage& stage, net::TcpListener& listener, scope& here) {
        here.spawn(accept_all(stage, listener, here));
        co_await stage.client(three(stage.address_of(listener)));
        here.cancel();
    }
    task<> accept_all(Stage& stage, net::TcpListener& listener, scope& here) {
        for (;;) {
            net::TcpStream stream = co_await listener.accept();
            here.spawn(stage.partner(serve(std::move(stream))));
        }
    }
    task<> serve(net::TcpStream stream) {
        std::string text;
        while (text.size() < 3) {
            const BufferSlice slice = co_await stream.receive();
            if (slice.empty()) co_return;
            append(text, slice.bytes());
        }
        heard_.insert(text);
        co_await stream.send(text);
    }
    task<> three(net::Address address) {
        std::vector<task<>> visits;
        for (const char* const text : {"abc", "bcd", "cde"}) visits.push_back(visit(address, text));
        co_await gather(std::move(visits));
    }
    task<> visit(net::Address address, std::string text) {
        net::TcpStream stream = co_await net::TcpStream::connect(address);
        co_await stream.send(text);
        std::string answer;
        co_await read_to_end(stream, answer);
        answered_.insert(answer);
        const result<void> closed = co_await as_result(stream.close());
        if (!closed) throw closed.error();
    }

    std::set<std::string> heard_;
    std::set<std::string> answered_;
};

/// A stream that is closed with a farewell, by itself or by the end of its scope. A close can not be cancelled.
class Closing final : public Scenario {
   public:
    explicit Closing(bool awaited) : awaited_(awaited) {}
    task<> play(Stage& stage) override {
        net::TcpListener listener = co_await stage.listen();
        co_await with_scope([&](scope& here) { return meet(stage, listener, here); });
    }
    void check(const Ending& ending) override {
        const std::string all = text() + farewell;
        CHECK_MESSAGE((all.starts_with(heard_) || heard_ == farewell), "what is heard was said, in order");
        if (!accepted_ || broken_ || ending.error) return;
        // A farewell that failed leaves the close what it is.
        const bool whole = heard_ == all || (ending.fault_asked && heard_ == text());
        if (sent_) CHECK_MESSAGE(whole, "all of it is heard, and the farewell");
        // A send that was cancelled did not begin, and the farewell is heard; or it left a hole, and is the last.
        if (!sent_ && farewell_set_ && heard_ != farewell) CHECK(text().starts_with(heard_));
        if (ending.undisturbed()) CHECK(whole);
    }

   private:
    static constexpr const char* farewell = " -- good bye";
    static std::string text() { return pattern(300); }

    task<> meet(Stage& stage, net::TcpListener& listener, scope& here) {
        here.spawn(stage.partner(serve(listener)));
        co_await stage.client(visit(stage.address_of(listener)));
        if (stage.client_cancelled() && !accepted_) here.cancel();
    }
    task<> serve(net::TcpListener& listener) {
        net::TcpStream stream = co_await listener.accept();
        accepted_ = true;
        broken_ = true;
        try {
            // Whatever is cancelled here, the peer's close goes on, and is heard.
            co_await shield(10s, read_to_end(stream, heard_));
            broken_ = false;
        } catch (const Error&) {
            // A client that was cancelled before it was connected ends as it likes.
            if (farewell_set_) throw;
        }
    }
    task<> visit(net::Address address) {
        net::TcpStream stream = co_await net::TcpStream::connect(address);
        stream.record().set_farewell(std::as_bytes(std::span{farewell, std::char_traits<char>::length(farewell)}));
        farewell_set_ = true;
        const std::string bytes = text();
        co_await stream.send(bytes);
        sent_ = true;
        if (!awaited_) co_return;
        const result<void> closed = co_await as_result(stream.close());
        if (!closed) throw closed.error();
    }

    bool awaited_;
    std::string heard_;
    bool accepted_ = false;
    bool broken_ = false;  // the server did not come to the end of the stream
    bool farewell_set_ = false;
    bool sent_ = false;
};

/// A stream that one task closes while another receives and a third one ends what it sends, or sends on.
class ClosingInUse final : public Scenario {
   public:
    explicit ClosingInUse(bool ends) : ends_(ends) {}
    task<> play(Stage& stage) override {
        net::TcpListener listener = co_await stage.listen();
        co_await with_scope([&](scope& here) { return meet(stage, listener, here); });
    }
    void check(const Ending& ending) override {
        CHECK_MESSAGE(text_.starts_with(heard_), "what is heard was said, in order");
        if (ending.undisturbed()) CHECK(users_ == 3);
    }

   private:
    task<> meet(Stage& stage, net::TcpListener& listener, scope& here) {
        here.spawn(stage.partner(serve(listener)));
        net::TcpStream stream = co_await net::TcpStream::connect(stage.address_of(listener));
        task<> receiving = use(receive(stream));
        task<> writing = use(write(stream));
        task<> closing = stage.client(use(close(stream)));
        co_await gather(std::move(receiving), std::move(writing), std::move(closing));
    }
    task<> serve(net::TcpListener& listener) {
        net::TcpStream stream = co_await listener.accept();
        co_await read_to_end(stream, heard_);
    }
    /// Each may find the stream closed by the other.
    task<> use(task<> work) {
        try {
            co_await std::move(work);
        } catch (const Error& error) {
            if (error.code() != errc::closed) throw;
        }
        ++users_;
    }
    task<> receive(net::TcpStream& stream) {
        std::string ignored;
        co_await read_to_end(stream, ignored);
    }
    task<> write(net::TcpStream& stream) {
        if (ends_) co_return co_await stream.shutdown_write();
        co_await stream.send(text_);
        co_await stream.send(text_);
    }
    static task<> close(net::TcpStream& stream) {
        const result<void> closed = co_await as_result(stream.close());
        if (!closed) throw closed.error();
    }

    bool ends_;
    const std::string text_ = pattern(100'000);
    std::string heard_;
    int users_ = 0;
};

}  // namespace

void add_connections(Scenarios& all) {
    add<Connecting>(all, "connecting to several addresses", false);
    add<Connecting>(all, "connecting to a name whose addresses come one after the other", true);
    add<AcceptLoop>(all, "an accept loop");
    add<Closing>(all, "a close with a farewell", true);
    add<Closing>(all, "a close with a farewell by the end of the scope", false);
    add<ClosingInUse>(all, "a stream that is closed in the midst of receiving and sending", false);
    add<ClosingInUse>(all, "a stream that is closed in the midst of receiving and shutting down", true);
}

}  // namespace torc::sweep
