#pragma once

#include <doctest/doctest.h>

#include <array>
#include <string>
#include <utility>

#include <torc/net.hpp>
#include <torc/runtime.hpp>
#include <torc/runtime/sim.hpp>

/// What the tests of the simulation have in common: a client and a server on two hosts, and bytes between them.
namespace torc::test {

using namespace std::chrono_literals;

/// Options under which a run that is to fail does not talk about it.
inline sim::Options quiet() {
    sim::Options options;
    options.report = false;
    return options;
}

/// Options under which nothing is left to chance but the order of equal events: every way takes 10 ms.
inline sim::Options plain() {
    sim::Options options;
    options.latency = 10ms;
    options.jitter = {};
    return options;
}

/// Two streams that are each other's peer, on the hosts "client" (10.0.0.1) and "server" (10.0.0.2).
struct Pair {
    net::TcpStream client;
    net::TcpStream server;
};

inline void add_two_hosts(sim::World& world) {
    world.add_host("client", {"10.0.0.1"});
    world.add_host("server", {"10.0.0.2"});
}

/// Listens on port 80 of wherever it runs, for one connection.
inline task<net::TcpStream> accept_one() {
    net::TcpListener listener = net::TcpListener::bind(net::Address::any(80));
    net::TcpStream stream = co_await listener.accept();
    co_return stream;
}

/// Requires: the hosts have been added.
inline task<Pair> connect_hosts(sim::World& world) {
    task<net::TcpStream> accepting = world.on("server", accept_one());
    task<net::TcpStream> connecting = world.on("client", net::TcpStream::connect("server", 80));
    auto [server, client] = co_await gather(std::move(accepting), std::move(connecting));
    co_return Pair{std::move(client), std::move(server)};
}

inline task<Pair> connected_pair(sim::World& world) {
    add_two_hosts(world);
    Pair pair = co_await connect_hosts(world);
    co_return pair;
}

/// So many bytes, or what came before the end.
template <class Stream>
task<std::string> receive_exactly(Stream& stream, std::size_t size_bytes) {
    std::string all(size_bytes, '\0');
    std::size_t have = 0;
    while (have < size_bytes) {
        const std::size_t count = co_await stream.receive(std::as_writable_bytes(std::span{all}.subspan(have)));
        if (count == 0) break;
        have += count;
    }
    all.resize(have);
    co_return all;
}

/// All up to the orderly end.
template <class Stream>
task<std::string> receive_all(Stream& stream) {
    std::string all;
    for (;;) {
        const BufferSlice slice = co_await stream.receive();
        if (slice.empty()) co_return all;
        all.append(reinterpret_cast<const char*>(slice.bytes().data()), slice.size());
    }
}

/// What receiving ends with; an empty code if it brings something, or the end.
template <class Stream>
task<std::error_code> receive_failure(Stream& stream) {
    std::array<std::byte, 1> byte{};
    const auto received = co_await as_result(stream.receive(byte));
    co_return received ? std::error_code{} : received.error().code();
}

template <class Stream>
task<std::error_code> send_failure(Stream& stream) {
    const auto sent = co_await as_result(stream.send("x"));
    co_return sent ? std::error_code{} : sent.error().code();
}

template <class Awaitable>
task<std::error_code> failure_of(Awaitable work) {
    const auto settled = co_await as_result(std::move(work));
    co_return settled ? std::error_code{} : settled.error().code();
}

inline std::string pattern(std::size_t size_bytes) {
    std::string text(size_bytes, '\0');
    for (std::size_t at = 0; at < size_bytes; ++at) text[at] = static_cast<char>('a' + (at * 7 + at / 251) % 26);
    return text;
}

}  // namespace torc::test
