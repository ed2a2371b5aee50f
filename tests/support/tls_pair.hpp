#pragma once

#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>

#include <torc/net/tls_engine.hpp>

/// Two TLS engines joined by memory. Ciphertext is handed over in pieces of heap memory that are freed right after, so
/// an engine that kept a pointer is caught by the address sanitizer.
namespace torc::testing {

inline std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span{text}); }

struct TlsEnd {
    explicit TlsEnd(net::tls::Engine made) : engine(std::move(made)) {}

    net::tls::Engine engine;
    std::string received;                                    ///< plaintext so far
    net::tls::Status status = net::tls::Status::want_input;  ///< of the latest call
    std::size_t ciphertext_bytes = 0;                        ///< handed to this end so far

    /// Goes on with the handshake, then reads, until there is no more.
    void drive();
    /// Gives it one piece of ciphertext and drives it. Returns false if it stopped before the piece was used up.
    bool accept(std::string_view piece);
    /// Tells it that nothing more comes, and drives it.
    void end_input();
    [[nodiscard]] std::string output() const;  ///< the front of what it has to say
};

struct TlsPair {
    TlsPair(const net::TlsContext& client_context, const net::TlsContext& server_context,
            const net::tls::ClientSide& side)
        : client(net::tls::Engine{client_context, side}), server(net::tls::Engine{server_context}) {}

    TlsEnd client;
    TlsEnd server;
    /// How long the next piece may be for an end that has been handed `offset` bytes so far; at least 1.
    std::function<std::size_t(const TlsEnd& to, std::size_t offset)> piece_bytes;
    /// May change a piece on its way.
    std::function<void(const TlsEnd& to, std::size_t offset, std::string& piece)> tamper;

    /// Carries everything both have to say until both are silent. Starts the handshake if need be.
    void run();
    /// Writes it all, carrying output across whenever the writer wants it flushed.
    void send(TlsEnd& from, TlsEnd& to, std::string_view text);

   private:
    void carry(TlsEnd& from, TlsEnd& to);
};

}  // namespace torc::testing
