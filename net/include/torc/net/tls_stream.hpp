#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <string_view>

#include <torc/net/stream.hpp>
#include <torc/net/tls_engine.hpp>

/// TLS over TCP.
namespace torc::net {

/// A TLS connection whose handshake is complete.
/// Lifetime: owns the socket and the TLS state. The destructor submits the close, with close_notify in it, and returns;
///           the task whose frame is left awaits it. Movable, also while other tasks wait in it; one that was moved
///           from may only be destroyed or assigned to. An idle connection holds no buffer.
/// Requires: one reader and one writer at a time, of any tasks of the same executor.
class TlsStream {
   public:
    /// Takes a connected stream and does the client's part of the handshake.
    /// Shape:    the handshake's last flight waits for the first send, or for the first receive that has to wait, and
    ///           so costs no packet of its own. `flush` sends it at once.
    /// Errors:   phase::tls, with the peer: tls_errc, or what the socket said. The peer is told by an alert, the stream
    ///           is closed. A TLS 1.3 server that refuses this side's certificate says so to the first receive.
    [[nodiscard]] static task<TlsStream> connect(TcpStream stream, TlsContext context, tls::ClientSide side);
    /// Takes an accepted stream and does the server's part.
    [[nodiscard]] static task<TlsStream> accept(TcpStream stream, TlsContext context);

    TlsStream(TlsStream&&) noexcept = default;
    TlsStream& operator=(TlsStream&& other) noexcept;
    ~TlsStream();

    /// Receives what comes next, decrypted.
    /// Shape:    empty at the orderly end, which is the peer's close_notify; sending may go on.
    /// Lifetime: keep the slice short: its memory may be one of the executor's buffers.
    /// Errors:   tls_errc::truncated if the connection ends without close_notify, other tls_errc, what the socket says,
    ///           `errc::busy`, `errc::closed`. `cancelled` unwinds, and no byte is lost.
    [[nodiscard]] task<BufferSlice> receive();
    /// The same into `buffer`, which is not empty.
    /// Shape:    n in [1, size], or 0 at the orderly end.
    /// Lifetime: `buffer` must stay until this completes.
    [[nodiscard]] task<std::size_t> receive(std::span<std::byte> buffer);

    /// Sends all of `bytes`, and what the handshake left to be sent.
    /// Lifetime: `bytes` must stay until this completes.
    /// Errors:   what the socket says, `errc::busy`, `errc::closed`. After a cancel that cut something off, further
    ///           sends give broken_pipe: the stream has a hole, and its end will not be called orderly. Receiving goes
    ///           on after a failed send, and may tell why it failed.
    [[nodiscard]] task<> send(std::span<const std::byte> bytes);
    [[nodiscard]] task<> send(std::string_view text) {
        return send(std::as_bytes(std::span{text.data(), text.size()}));
    }
    /// Sends all of `first`, then all of `second`; both leave together. Otherwise as above.
    [[nodiscard]] task<> send(std::span<const std::byte> first, std::span<const std::byte> second);

    /// Sends at once what would go out with the next send: the handshake's last flight, tickets, a change of keys.
    [[nodiscard]] task<> flush() { return send(std::span<const std::byte>{}); }

    /// Says close_notify and that nothing more will be sent; receiving goes on.
    [[nodiscard]] task<> shutdown_write();

    /// Closes here and now: close_notify and close as one chain, without waiting for the peer's close_notify.
    /// A stream that broke (see `send`) is closed without close_notify.
    [[nodiscard]] close_awaitable close() noexcept;

    /// TLS 1.3: changes the keys of this direction with the next send; `ask_peer` makes the peer change its own too.
    void update_keys(bool ask_peer = false);

    [[nodiscard]] TlsPeerInfo info() const;
    /// For a later connection; empty until a TLS 1.3 server has sent one, so receive first.
    [[nodiscard]] TlsSession session() const;

    [[nodiscard]] bool is_open() const noexcept;
    [[nodiscard]] const Address& peer();
    [[nodiscard]] Address local() const;
    /// The socket's record. Requires: open.
    [[nodiscard]] SocketRecord& record() noexcept;

   private:
    struct State;
    explicit TlsStream(std::shared_ptr<State> state) noexcept;

    static task<> handshake(State& state, bool is_server);
    static task<BufferSlice> receive_slice(std::shared_ptr<State> state);
    static task<std::size_t> receive_into(std::shared_ptr<State> state, std::span<std::byte> buffer);
    static task<> send_all(std::shared_ptr<State> state, std::span<const std::byte> bytes,
                           std::span<const std::byte> behind, bool end);

    std::shared_ptr<State> state_;  // shared with the calls that are under way
};

}  // namespace torc::net
