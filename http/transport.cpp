#include <torc/http/transport.hpp>

// Theory of operation. Everything is handed on to the stream that is there. Over plain TCP a receive or a send is the
// socket's own operation in the awaiting frame; over TLS it is the TLS stream's task.

namespace torc::http {

using net::TcpStream;
using net::TlsStream;

Transport::receive_awaitable Transport::receive() {
    if (auto* plain = std::get_if<TcpStream>(&stream_))
        return receive_awaitable{std::in_place_index<0>, &plain->record()};
    return receive_awaitable{std::in_place_index<1>, std::get<TlsStream>(stream_).receive()};
}

Transport::send_awaitable Transport::send(std::span<const std::byte> first, std::span<const std::byte> second) {
    if (auto* plain = std::get_if<TcpStream>(&stream_))
        return send_awaitable{std::in_place_index<0>, &plain->record(), first, second};
    return send_awaitable{std::in_place_index<1>, std::get<TlsStream>(stream_).send(first, second)};
}

task<> Transport::shutdown_write() {
    return std::visit([](auto& stream) { return stream.shutdown_write(); }, stream_);
}

close_awaitable Transport::close() noexcept {
    return std::visit([](auto& stream) { return stream.close(); }, stream_);
}

net::SocketRecord& Transport::record() noexcept {
    return std::visit([](auto& stream) -> net::SocketRecord& { return stream.record(); }, stream_);
}

bool Transport::is_open() const noexcept {
    return std::visit([](const auto& stream) { return stream.is_open(); }, stream_);
}

const net::Address& Transport::peer() {
    return std::visit([](auto& stream) -> const net::Address& { return stream.peer(); }, stream_);
}

std::optional<net::TlsPeerInfo> Transport::tls_info() const {
    if (const auto* tls = std::get_if<TlsStream>(&stream_)) return tls->info();
    return std::nullopt;
}

}  // namespace torc::http
