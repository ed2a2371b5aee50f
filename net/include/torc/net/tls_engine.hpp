#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <torc/net/tls_info.hpp>
#include <torc/net/tls_options.hpp>
#include <torc/runtime/error.hpp>

/// TLS as a state machine over memory: it is fed ciphertext, yields plaintext and the other way round, and never
/// touches a socket. Whoever drives it moves the bytes:
///
///     for (;;) {
///         Status status = engine.handshake();                        // or read, or write
///         while (!engine.output().empty()) { send some; engine.consume_output(sent); }
///         if (status != Status::want_input) break;
///         receive a slice; engine.feed(slice);                       // or engine.input_ended()
///     }
namespace torc::net::tls {

enum class Status : std::uint8_t {
    ok,             ///< done; for read and write, `n` bytes of it
    want_input,     ///< the input window is used up: feed more, or say that the input ended
    want_flush,     ///< write only: too much output waits; consume some first
    end_of_stream,  ///< read only: the peer said close_notify; all it sent has been read
    failed,         ///< see error(); what output there is (an alert) is worth sending, nothing else is
};

struct IoResult {
    Status status = Status::ok;
    std::size_t n = 0;
};

/// The client's half of what a connection is about.
struct ClientSide {
    ClientSide() = default;  // not an aggregate: see docs/lifetimes.md, "GCC 12"
    ClientSide(std::string name, std::uint16_t its_port = 0, std::optional<std::vector<std::string>> protocols = {},
               TlsSession earlier = {})
        : server_name(std::move(name)), port(its_port), alpn(std::move(protocols)), session(std::move(earlier)) {}

    /// A DNS name (in A-label form) or an IP address literal. Names go into SNI; both are verified.
    std::string server_name;
    std::uint16_t port = 0;                        ///< sets remembered sessions of one name's servers apart
    std::optional<std::vector<std::string>> alpn;  ///< instead of the context's
    TlsSession session;                            ///< try to resume this one; empty: what the context remembers
};

/// One TLS connection.
/// Lifetime: input is borrowed from `feed` until used up, output is lent by `output` until consumed; between calls
///           an idle engine holds neither. Movable; pointers into output survive a move.
/// Requires: one thread at a time. The bytes of `output()` stay where they are while other members are called, so a
///           send may be in flight meanwhile.
/// Errors:   failures are sticky and in error(), never thrown, save std::bad_alloc.
class Engine {
   public:
    /// Errors:   throws `Error` (invalid_argument) for a name no certificate can be checked against.
    Engine(const TlsContext& context, const ClientSide& side);
    explicit Engine(const TlsContext& server_context);
    ~Engine();
    Engine(Engine&&) noexcept;
    Engine& operator=(Engine&&) noexcept;

    /// Lends the engine ciphertext. What an earlier window still held is forgotten, so call it when `unread()` is 0.
    void feed(std::span<const std::byte> ciphertext) noexcept;
    /// Bytes of the window not yet taken. At 0 the window may be given back.
    [[nodiscard]] std::size_t unread() const noexcept;
    /// The transport will bring nothing more after the present window.
    void input_ended() noexcept;

    /// Goes on with the handshake: ok once it is complete, want_input or failed.
    Status handshake();
    /// Decrypts into `plaintext` (not empty) as much as the window allows. Completes the handshake first if need be.
    IoResult read(std::span<std::byte> plaintext);
    /// Encrypts as much as `output_limit_bytes` of waiting output allow. Completes the handshake first if need be.
    /// `soon_bytes` is how much will be written before the output is looked at: room for it is made beside this.
    IoResult write(std::span<const std::byte> plaintext, std::size_t soon_bytes = 0);
    /// Says that nothing more will be written. Once only, and only on a connection whose handshake is complete and
    /// that is not broken: otherwise it does nothing, as a close_notify would vouch for a stream that has a hole.
    void close_notify();
    /// TLS 1.3: changes the keys of this direction and, if asked, makes the peer change its own. Else nothing.
    void update_keys(bool ask_peer = false);
    /// The transport broke (say, a record was sent in part): drops waiting output; nothing more will be said.
    void abandon() noexcept;

    /// The oldest waiting ciphertext, contiguous; empty if none waits.
    [[nodiscard]] std::span<const std::byte> output() const noexcept;
    /// REQUIRES: `n <= output().size()`.
    void consume_output(std::size_t n) noexcept;
    [[nodiscard]] std::size_t output_bytes() const noexcept;       ///< all that waits
    [[nodiscard]] std::size_t output_held_bytes() const noexcept;  ///< memory held for it; 0 when nothing waits

    [[nodiscard]] bool established() const noexcept;  ///< the handshake is complete
    [[nodiscard]] bool failed() const noexcept;
    [[nodiscard]] bool close_notify_sent() const noexcept;  ///< it was put into the output
    /// REQUIRES: failed().
    [[nodiscard]] const Error& error() const noexcept;

    /// REQUIRES: established().
    [[nodiscard]] TlsPeerInfo info() const;
    /// The latest session this client may resume later; empty if the server offered none (TLS 1.3 servers offer it
    /// after the handshake, so read first).
    [[nodiscard]] TlsSession session() const;

    /// `write` takes no more once this much output waits.
    static constexpr std::size_t output_limit_bytes = 64 * 1024;

    struct Impl;

   private:
    std::unique_ptr<Impl> impl_;
};

}  // namespace torc::net::tls
