#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <set>

#include <torc/net/resolver.hpp>

#include "scenario.hpp"

// Theory of operation. Loopback loses no datagram, and the simulated network was not told to. So what was sent comes
// back, unless whoever was waiting for it is cancelled and it is lost with them. The names are asked of a server in the
// scenario itself; the simulated network knows them.

namespace torc::sweep {
namespace {

/// Datagrams that come back. Who receives is cancelled, another goes on: none of those that came back is missing.
class Datagrams final : public Scenario {
   public:
    task<> play(Stage& stage) override {
        net::UdpSocket server = co_await stage.bind();
        co_await with_scope([&](scope& here) { return meet(stage, server, here); });
    }
    void check(const Ending& ending) override {
        CHECK_MESSAGE(std::ranges::includes(echoed_, heard_), "nothing is heard that was not said");
        if (ending.completed()) CHECK_MESSAGE(std::ranges::includes(heard_, promised_), "all that was sent came back");
        if (ending.undisturbed()) CHECK(heard_.size() == 3);
    }

   private:
    task<> meet(Stage& stage, net::UdpSocket& server, scope& here) {
        here.spawn(echo(server));
        const net::Address own = stage.simulated() ? net::Address::any(0) : net::Address::loopback(0);
        net::UdpSocket socket = net::UdpSocket::bind(own);
        co_await stage.client(visit(stage, socket, stage.address_of(server)));
        while (!std::ranges::includes(heard_, promised_)) co_await hear(socket);
        here.cancel();
    }
    task<> echo(net::UdpSocket& server) {
        std::array<std::byte, 64> buffer{};
        for (;;) {
            const net::Datagram got = co_await server.receive_from(buffer);
            const auto bytes = std::span{buffer}.first(got.size_bytes);
            echoed_.insert(std::string{reinterpret_cast<const char*>(bytes.data()), bytes.size()});
            co_await server.send_to(bytes, got.from);
            if (echoed_.size() == 3) all_echoed_.set();
        }
    }
    task<> hear(net::UdpSocket& socket) {
        std::array<std::byte, 64> buffer{};
        const net::Datagram got = co_await socket.receive_from(buffer);
        std::string text;
        append(text, std::span{buffer}.first(got.size_bytes));
        CHECK_MESSAGE(heard_.insert(text).second, "once only");
    }
    task<> visit(Stage& stage, net::UdpSocket& socket, net::Address to) {
        for (const char* const text : {"one", "two", "three"}) {
            co_await socket.send_to(std::as_bytes(std::span{text, std::char_traits<char>::length(text)}), to);
            promised_.insert(text);
        }
        co_await hear(socket);
        // The others are there when they are asked for, so that a cancellation comes with them.
        co_await all_echoed_.wait();
        if (stage.simulated()) co_await sleep_for(std::chrono::milliseconds{5});
        co_await hear(socket);
        co_await hear(socket);
    }

    event all_echoed_;
    std::set<std::string> echoed_;
    std::set<std::string> promised_;
    std::set<std::string> heard_;
};

/// Names that are looked up by several at once; two of them ask for the same one, and one of these may be cancelled.
class Names final : public Scenario {
   public:
    task<> play(Stage& stage) override {
        if (stage.simulated()) {
            stage.world().add_name("one.test", {"10.1.1.1"});
            stage.world().add_name("two.test", {"10.1.1.2", "fd01::2"});
            co_await ask_all(stage);
            co_return;
        }
        net::UdpSocket server = net::UdpSocket::bind(net::Address::loopback(0));
        net::ResolverOptions options;
        options.servers = {server.local()};
        options.hosts_file = options.resolv_conf = "/dev/null";
        net::Resolver::of(Executor::here()).configure(options);
        co_await with_scope([&](scope& here) { return ask_beside(stage, server, here); });
    }
    void check(const Ending& ending) override {
        if (ending.completed()) CHECK_MESSAGE(outside_ == 2, "who was not cancelled got an answer");
        if (ending.undisturbed()) CHECK(inside_ == 2);
    }

   private:
    task<> ask_beside(Stage& stage, net::UdpSocket& server, scope& here) {
        here.spawn(serve(server));
        co_await ask_all(stage);
        here.cancel();
    }
    task<> ask_all(Stage& stage) {
        task<> inside = stage.client(two());
        task<> again = ask("one.test", outside_);
        task<> other = ask("two.test", outside_);
        co_await gather(std::move(inside), std::move(again), std::move(other));
    }
    task<> two() {
        task<> one = ask("one.test", inside_);
        task<> other = ask("two.test", inside_);
        co_await gather(std::move(one), std::move(other));
    }
    task<> ask(std::string name, int& answers) {
        const std::string expected = name == "one.test" ? "10.1.1.1:80" : "10.1.1.2:80";
        task<std::vector<net::Address>> looking = net::Resolver::of(Executor::here()).resolve(name, 80);
        const std::vector<net::Address> found = co_await std::move(looking);
        const auto right = [&](const net::Address& address) { return address.to_string() == expected; };
        CHECK(std::ranges::any_of(found, right));
        ++answers;
    }
    /// A name server with two names (RFC 1035, 4.1): the question is repeated, with an address of it behind.
    task<> serve(net::UdpSocket& server) {
        std::array<std::byte, 512> buffer{};
        for (;;) {
            const net::Datagram got = co_await server.receive_from(buffer);
            std::string message;
            append(message, std::span{buffer}.first(got.size_bytes));
            const std::size_t question_end = message.find('\0', 12) + 5;
            const bool wants_v4 = message[question_end - 3] == 1;
            std::string answer = message.substr(0, 2) + std::string{"\x81\x80\0\1\0\0\0\0\0\0", 10};
            answer[7] = wants_v4 ? 1 : 0;
            answer += message.substr(12, question_end - 12);
            const char last = message.find("one") != std::string::npos ? 1 : 2;
            if (wants_v4) answer += std::string{"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4\x0a\1\1", 15} + last;
            co_await server.send_to(std::as_bytes(std::span{answer}), got.from);
        }
    }

    int inside_ = 0;
    int outside_ = 0;
};

}  // namespace

void add_datagrams(Scenarios& all) {
    add<Datagrams>(all, "datagrams that come back");
    add<Names>(all, "looking up names");
}

}  // namespace torc::sweep
