#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <torc/net/listener.hpp>
#include <torc/net/stream.hpp>
#include <torc/runtime/as_result.hpp>

/// What the tests of streams have in common.
namespace torc::test {

/// Two streams that are each other's peer, on one executor.
struct StreamPair {
    net::TcpStream client;
    net::TcpStream server;
};

inline task<StreamPair> connected_streams() {
    net::TcpListener listener = net::TcpListener::bind(net::Address::loopback(0));
    net::TcpStream client = co_await net::TcpStream::connect(listener.local());
    net::TcpStream server = co_await listener.accept();
    co_return StreamPair{std::move(client), std::move(server)};
}

inline std::string pattern(std::size_t size) {
    std::string text(size, '\0');
    for (std::size_t index = 0; index < size; ++index)
        text[index] = static_cast<char>('a' + (index * 31 + index / 251) % 26);
    return text;
}

inline std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Reads `count` bytes (or to the end) in slices.
inline task<std::string> read_slices(net::TcpStream& stream, std::size_t count) {
    std::string all;
    while (all.size() < count) {
        const BufferSlice slice = co_await stream.receive();
        if (slice.empty()) break;
        all += text_of(slice.bytes());
    }
    co_return all;
}

/// Reads `count` bytes (or to the end) into memory of its own, at most `piece` at once.
inline task<std::string> read_into(net::TcpStream& stream, std::size_t count, std::size_t piece) {
    std::string all;
    std::vector<std::byte> memory(piece);
    while (all.size() < count) {
        const std::size_t got = co_await stream.receive(std::span{memory}.first(std::min(piece, count - all.size())));
        if (got == 0) break;
        all += text_of(std::span{memory}.first(got));
    }
    co_return all;
}

inline task<std::error_code> code_of(task<> failing) {
    const auto outcome = co_await as_result(std::move(failing));
    co_return outcome ? std::error_code{} : outcome.error().code();
}

template <class Operation>
task<> discard(Operation operation) {
    static_cast<void>(co_await std::move(operation));
}

}  // namespace torc::test
