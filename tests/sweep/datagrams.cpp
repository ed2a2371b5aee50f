#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <set>

#include <torc/net/resolver.hpp>

#include "scenario.hpp"

// Theory of operation. Loopback loses no datagram, and the simulated network was not told to. So what was sent comes
// back, unless whoever was waiting for it is cancelled and it is lost with them.

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
        std::map<std::string, std::vector<std::string>> names;
        names["one.test"] = {"10.1.1.1"};
        names["two.test"] = {"10.1.1.2", "fd01::2"};
        co_await stage.with_names(std::move(names), ask_all(stage));
    }
    void check(const Ending& ending) override {
        if (ending.completed()) CHECK_MESSAGE(outside_ == 2, "who was not cancelled got an answer");
        if (ending.undisturbed()) CHECK(inside_ == 2);
    }

   private:
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

    int inside_ = 0;
    int outside_ = 0;
};

}  // namespace

void add_datagrams(Scenarios& all) {
    add<Datagrams>(all, "datagrams that come back");
    add<Names>(all, "looking up names");
}

}  // namespace torc::sweep
