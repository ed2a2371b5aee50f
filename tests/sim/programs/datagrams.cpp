#include <array>
#include <optional>

#include "programs.hpp"

// A client numbers its questions and repeats each until the answer arrives. Datagrams may be lost, doubled and
// overtaken, but never changed or cut.

namespace torc::test::programs {
namespace {

using namespace std::chrono_literals;

constexpr std::uint16_t port = 5353;

task<> answer(sim::World& world, event& listening) {
    net::UdpSocket socket = net::UdpSocket::bind(net::Address::any(port));
    listening.set();
    std::array<std::byte, 2048> memory{};
    for (;;) {
        const auto question = co_await as_result(socket.receive_from(memory));
        if (!question) {
            co_await sleep_for(10ms);  // its host may have crashed, and then it stays so
            continue;
        }
        require(!question->truncated, "a datagram was cut that had room");
        const auto bytes = std::span{memory}.first(question->size_bytes);
        if (world.random().chance(0.1)) co_await sleep_for(some(world, 20ms));
        static_cast<void>(co_await as_result(socket.send_to(bytes, question->from)));
    }
}

/// Repeats one question until its own answer is there; answers to earlier ones are passed over.
task<> ask(net::UdpSocket& socket, std::uint64_t number, std::size_t size) {
    const std::string question = bytes_of(number, 0, size);
    std::array<std::byte, 2048> memory{};
    const net::Address server = net::Address::v4({10, 0, 0, 1}, port);
    for (int attempt = 0; attempt < 30; ++attempt) {
        if (!co_await as_result(socket.send_to(std::as_bytes(std::span{question}), server))) continue;
        for (;;) {
            const auto got = co_await as_result(with_timeout(300ms, socket.receive_from(memory)));
            if (!got) break;
            const auto bytes = std::span<const std::byte>{memory}.first(got->size_bytes);
            if (got->size_bytes == size && are_bytes_of(number, 0, bytes)) co_return;
            bool known = false;
            for (std::uint64_t earlier = 0; earlier < number && !known; ++earlier) {
                known = are_bytes_of(earlier, 0, bytes);
            }
            require(known, "a datagram arrived that nobody sent");
        }
    }
}

task<> ask_all(sim::World& world, event& listening) {
    co_await listening.wait();
    net::UdpSocket socket = net::UdpSocket::bind(net::Address::any(0));
    const auto count = world.random().below(20);
    for (std::uint64_t number = 0; number < count; ++number) {
        co_await ask(socket, number, 8 + world.random().below(1400));
    }
}

}  // namespace

task<> datagrams(sim::World& world) {
    world.add_host("server", {"10.0.0.1"});
    world.add_host("client", {"10.0.0.2"});
    event listening;
    task<> answering = world.on("server", answer(world, listening));
    task<> asking = world.on("client", ask_all(world, listening));
    task<> both = [](task<> server_side, task<> client_side) -> task<> {
        co_await race(std::move(server_side), std::move(client_side));
    }(std::move(answering), std::move(asking));
    co_await in_trouble(world, std::move(both));
}

}  // namespace torc::test::programs
