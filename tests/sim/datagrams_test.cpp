#include "simulated.hpp"

#include <algorithm>
#include <vector>

// Goal: datagrams of the simulation: lost, doubled, cut, and in which order they come.

using namespace torc;
using namespace torc::test;

namespace {

/// Numbers each datagram in its first two bytes.
std::array<std::byte, 2> numbered(int number) {
    return {static_cast<std::byte>(number / 256), static_cast<std::byte>(number % 256)};
}

task<> send_numbers(net::Address to, int count) {
    net::UdpSocket socket = net::UdpSocket::bind(net::Address::any(0));
    for (int number = 0; number < count; ++number) {
        const auto bytes = numbered(number);
        co_await socket.send_to(bytes, to);
        co_await sleep_for(100us);
    }
}

/// The numbers that come until nothing comes for a second.
task<std::vector<int>> receive_numbers() {
    net::UdpSocket socket = net::UdpSocket::bind(net::Address::any(53));
    std::vector<int> numbers;
    std::array<std::byte, 16> buffer{};
    auto one = [&]() -> task<net::Datagram> {
        const net::Datagram came = co_await socket.receive_from(buffer);
        co_return came;
    };
    for (;;) {
        const auto came = co_await as_result(with_timeout(1s, one()));
        if (!came) co_return numbers;
        REQUIRE(came->size_bytes == 2);
        numbers.push_back(std::to_integer<int>(buffer[0]) * 256 + std::to_integer<int>(buffer[1]));
    }
}

/// What arrives on host "server" of 1000 datagrams from host `from`.
std::vector<int> arrivals(const sim::Options& options, const std::string& from = "client") {
    std::vector<int> numbers;
    sim::run(1, options, [&](sim::World& world) -> task<> {
        add_two_hosts(world);
        const net::Address to = net::Address::parse("10.0.0.2:53").value();
        task<std::vector<int>> receiving = world.on("server", receive_numbers());
        task<> sending = world.on(from, send_numbers(to, 1000));
        auto [received, none] = co_await gather(std::move(receiving), std::move(sending));
        numbers = std::move(received);
    });
    return numbers;
}

std::size_t different(std::vector<int> numbers) {
    std::ranges::sort(numbers);
    return static_cast<std::size_t>(std::ranges::distance(numbers.begin(), std::ranges::unique(numbers).begin()));
}

}  // namespace

TEST_SUITE("sim: datagrams") {
    TEST_CASE("without faults each arrives once") {
        const std::vector<int> numbers = arrivals(plain());
        CHECK(numbers.size() == 1000);
        CHECK(different(numbers) == 1000);
    }

    TEST_CASE("they are lost and doubled as often as they are told to be") {
        sim::Options options = plain();
        options.datagram_loss = 0.3;
        const std::vector<int> rest = arrivals(options);
        CHECK(rest.size() > 600);
        CHECK(rest.size() < 800);
        CHECK(different(rest) == rest.size());
        options.datagram_loss = 0;
        options.datagram_copy = 0.3;
        const std::vector<int> more = arrivals(options);
        CHECK(more.size() > 1200);
        CHECK(more.size() < 1400);
        CHECK(different(more) == 1000);
        options.datagram_loss = 1;
        CHECK(arrivals(options).empty());
    }

    TEST_CASE("between hosts they overtake each other where the way varies, within one they do not") {
        sim::Options options = plain();
        options.jitter = 1ms;
        const std::vector<int> numbers = arrivals(options);
        CHECK(numbers.size() == 1000);
        CHECK_FALSE(std::ranges::is_sorted(numbers));
        CHECK(std::ranges::is_sorted(arrivals(options, "server")));
    }

    TEST_CASE(
        "who sends from no address in particular is seen under the one that the driver names, and connects from it") {
        sim::run(1, plain(), [](sim::World& world) -> task<> {
            world.add_host("many", {"10.0.0.7", "10.0.0.8", "fd00::7"});
            world.add_host("server", {"10.0.0.2"});
            const net::Address to = net::Address::parse("10.0.0.2:53").value();
            net::Address by_datagram;
            net::Address by_connection;
            net::Address named;
            auto serve = [&]() -> task<> {
                net::UdpSocket socket = net::UdpSocket::bind(net::Address::any(53));
                net::TcpListener listener = net::TcpListener::bind(net::Address::any(53));
                std::array<std::byte, 2> buffer{};
                by_datagram = (co_await socket.receive_from(buffer)).from;
                by_connection = (co_await listener.accept()).peer();
            };
            auto send = [&]() -> task<> {
                sockaddr_storage name{};
                auto* const source = reinterpret_cast<sockaddr*>(&name);
                std::uint32_t size = sizeof name;
                CHECK(Executor::here().driver().source_address(to.data(), to.size(), source, &size) == 0);
                named = net::Address::from_sockaddr(source, size);
                co_await send_numbers(to, 1);
                static_cast<void>(co_await net::TcpStream::connect(to));
            };
            co_await gather(world.on("server", serve()), world.on("many", send()));
            CHECK(named == net::Address::parse("10.0.0.7:0").value());
            CHECK(by_datagram.with_port(0) == named);
            CHECK(by_connection.with_port(0) == named);
        });
    }

    TEST_CASE("a buffer that is too small gets the beginning, and is told so; no length is one, too") {
        sim::run(1, {}, []() -> task<> {
            net::UdpSocket receiver = net::UdpSocket::bind(net::Address::loopback(0));
            net::UdpSocket sender = net::UdpSocket::bind(net::Address::loopback(0));
            const std::string text = pattern(1000);
            co_await sender.send_to(std::as_bytes(std::span{text}), receiver.local());
            co_await sender.send_to({}, receiver.local());
            std::array<char, 10> buffer{};
            const net::Datagram cut = co_await receiver.receive_from(std::as_writable_bytes(std::span{buffer}));
            CHECK(cut.size_bytes == 10);
            CHECK(cut.truncated);
            CHECK(cut.from == sender.local());
            CHECK(std::string_view{buffer.data(), buffer.size()} == text.substr(0, 10));
            const net::Datagram empty = co_await receiver.receive_from(std::as_writable_bytes(std::span{buffer}));
            CHECK(empty.size_bytes == 0);
            CHECK_FALSE(empty.truncated);
            const std::string too_long(70'000, 'x');
            const auto sent = co_await as_result(sender.send_to(std::as_bytes(std::span{too_long}), receiver.local()));
            REQUIRE_FALSE(sent);
            CHECK(sent.error().code() == std::errc::message_size);
        });
    }

    TEST_CASE("an answer finds its way by the address that the question came from") {
        sim::run(1, plain(), [](sim::World& world) -> task<> {
            add_two_hosts(world);
            auto serve = []() -> task<> {
                net::UdpSocket socket = net::UdpSocket::bind(net::Address::any(53));
                std::array<std::byte, 16> buffer{};
                const net::Datagram question = co_await socket.receive_from(buffer);
                CHECK(question.from.ip_string() == "10.0.0.1");
                co_await socket.send_to(std::span{buffer}.first(question.size_bytes), question.from);
            };
            auto ask = [&]() -> task<> {
                net::UdpSocket socket = net::UdpSocket::bind(net::Address::any(0));
                const net::Address server = net::Address::parse("10.0.0.2:53").value();
                const Clock::time_point began = world.now();
                const auto bytes = numbered(7);
                co_await socket.send_to(bytes, server);
                std::array<std::byte, 16> buffer{};
                const net::Datagram answer = co_await socket.receive_from(buffer);
                CHECK(answer.size_bytes == 2);
                CHECK(answer.from == server);
                CHECK(world.now() - began >= 20ms);
                CHECK(world.now() - began < 21ms);
            };
            task<> serving = world.on("server", serve());
            task<> asking = world.on("client", ask());
            co_await gather(std::move(serving), std::move(asking));
        });
    }

    TEST_CASE("in a cut, or where nobody listens, they are lost without a word") {
        sim::run(1, plain(), [](sim::World& world) -> task<> {
            add_two_hosts(world);
            auto work = [&]() -> task<> {
                net::UdpSocket socket = net::UdpSocket::bind(net::Address::any(0));
                const net::Address server = net::Address::parse("10.0.0.2:53").value();
                const auto bytes = numbered(1);
                co_await socket.send_to(bytes, server);
                world.partition("client", "server");
                co_await socket.send_to(bytes, server);
                co_await sleep_for(1s);
                world.heal("client", "server");
                std::array<std::byte, 16> buffer{};
                auto receive = [&]() -> task<> { static_cast<void>(co_await socket.receive_from(buffer)); };
                CHECK(co_await failure_of(with_timeout(1h, receive())) == errc::timed_out);
            };
            task<> working = world.on("client", work());
            co_await std::move(working);
        });
    }

    TEST_CASE("a socket that is not read keeps so many and drops the rest") {
        sim::run(1, {}, []() -> task<> {
            net::UdpSocket receiver = net::UdpSocket::bind(net::Address::loopback(0));
            net::UdpSocket sender = net::UdpSocket::bind(net::Address::loopback(0));
            for (int number = 0; number < 1000; ++number) {
                const auto bytes = numbered(number);
                co_await sender.send_to(bytes, receiver.local());
            }
            co_await sleep_for(1s);
            int count = 0;
            std::array<std::byte, 16> buffer{};
            auto one = [&]() -> task<> {
                static_cast<void>(co_await receiver.receive_from(buffer));
                CHECK(std::to_integer<int>(buffer[1]) == count);  // the oldest are the ones that are kept
                ++count;
            };
            while (!co_await failure_of(with_timeout(1s, one()))) {
            }
            CHECK(count >= 16);
            CHECK(count < 256);
        });
    }
}
