#include "tls_pair.hpp"

#include <algorithm>
#include <array>
#include <memory>
#include <span>

// Theory of operation. drive() does what a stream does: nothing is fed before the engine wants input, output is taken
// whatever the status, and a failed or ended engine is not asked again.

namespace torc::testing {

using net::tls::IoResult;
using net::tls::Status;

void TlsEnd::drive() {
    status = engine.handshake();
    std::array<std::byte, 3000> buffer;  // no divisor of a record
    while (status == Status::ok) {
        const IoResult result = engine.read(buffer);
        status = result.status;
        received.append(reinterpret_cast<const char*>(buffer.data()), result.n);
    }
}

bool TlsEnd::accept(std::string_view piece) {
    auto bytes = std::make_unique<std::byte[]>(piece.size());
    std::ranges::copy(bytes_of(piece), bytes.get());
    engine.feed({bytes.get(), piece.size()});
    ciphertext_bytes += piece.size();
    drive();
    const bool used_up = engine.unread() == 0;
    engine.feed({});
    return used_up;
}

void TlsEnd::end_input() {
    engine.input_ended();
    drive();
}

std::string TlsEnd::output() const {
    const std::span<const std::byte> bytes = engine.output();
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

void TlsPair::carry(TlsEnd& from, TlsEnd& to) {
    while (!from.engine.output().empty()) {
        const std::size_t offset = to.ciphertext_bytes;
        std::size_t n = from.engine.output().size();
        if (piece_bytes) n = std::min(n, piece_bytes(to, offset));
        std::string piece = from.output().substr(0, n);
        from.engine.consume_output(n);
        if (tamper) tamper(to, offset, piece);
        to.accept(piece);
    }
}

void TlsPair::run() {
    client.drive();
    server.drive();
    while (!client.engine.output().empty() || !server.engine.output().empty()) {
        carry(client, server);
        carry(server, client);
    }
}

void TlsPair::send(TlsEnd& from, TlsEnd& to, std::string_view text) {
    while (!text.empty()) {
        const IoResult result = from.engine.write(bytes_of(text));
        text.remove_prefix(result.n);
        if (result.status == Status::failed || result.status == Status::want_input) break;
        if (result.status == Status::want_flush) carry(from, to);
    }
    run();
}

}  // namespace torc::testing
