#pragma once

#include <chrono>
#include <string>

#include <torc/net/socket.hpp>
#include <torc/runtime/task.hpp>

/// Byte streams over sockets: TCP and unix.
namespace torc::net {

class Resolution;

/// What TCP and unix streams have in common.
/// Lifetime: owns the socket; the destructor submits the close and returns, the task whose frame is left awaits it.
///           Movable; a stream that was moved from may only be destroyed or assigned to.
/// Requires: one reader and one writer at a time, of any tasks of the same executor; it must not outlive the executor.
class SocketStream {
   public:
    SocketStream(SocketStream&&) noexcept = default;
    SocketStream& operator=(SocketStream&&) noexcept = default;

    /// Receives up to `buffer.size()` bytes into `buffer`.
    /// Shape:    `buffer` not empty; gives n in [1, size], or 0 at the orderly end of the stream.
    /// Lifetime: `buffer` is the kernel's until this completes, even when cancelled.
    /// Errors:   connection_reset and its like, `errc::busy`, `errc::closed`; `cancelled` unwinds, and no byte is lost.
    [[nodiscard]] receive_awaitable receive(std::span<std::byte> buffer) noexcept {
        return receive_awaitable{socket_.get(), buffer};
    }
    /// Receives what comes next as a slice of the executor's buffers, so that waiting needs no memory.
    /// Shape:    empty at the orderly end of the stream.
    /// Lifetime: the slice gives its buffer back when it is destroyed; keep it short.
    /// Errors:   as above.
    [[nodiscard]] slice_awaitable receive() noexcept { return slice_awaitable{socket_.get()}; }

    /// Sends all of `bytes`.
    /// Lifetime: `bytes` is the kernel's until this completes, even when cancelled.
    /// Errors:   broken_pipe, connection_reset and their like, `errc::busy`, `errc::closed`. After a cancel that left
    ///           something half sent, further sends give broken_pipe: the stream has a hole.
    [[nodiscard]] send_awaitable send(std::span<const std::byte> bytes) noexcept {
        return send_awaitable{socket_.get(), bytes};
    }
    [[nodiscard]] send_awaitable send(std::string_view text) noexcept {
        return send(std::as_bytes(std::span{text.data(), text.size()}));
    }
    /// Sends all of `first`, then all of `second`, as if they lay behind each other: a head and its body, say.
    /// Lifetime: both are the kernel's until this completes, even when cancelled.
    /// Errors:   as above.
    [[nodiscard]] gathered_send_awaitable send(std::span<const std::byte> first,
                                               std::span<const std::byte> second) noexcept {
        return gathered_send_awaitable{socket_.get(), first, second};
    }

    /// Tells the peer that nothing more will be sent; receiving goes on.
    [[nodiscard]] task<> shutdown_write();

    /// Closes here and now and says how it went. Idempotent; reads and writes of other tasks end with `errc::closed`.
    [[nodiscard]] close_awaitable close() noexcept { return close_awaitable{socket_.get()}; }

    [[nodiscard]] bool is_open() const noexcept { return socket_ != nullptr && socket_->is_open(); }
    /// The other end. For an accepted stream the kernel is asked the first time.
    [[nodiscard]] const Address& peer();
    /// This end; empty where the descriptor is the ring's alone.
    [[nodiscard]] Address local() const;
    /// Requires: not moved from.
    [[nodiscard]] SocketRecord& record() noexcept { return held(); }

   protected:
    struct Abandon {
        void operator()(SocketRecord* record) const noexcept { close_record::abandon(record); }
    };
    using Owner = std::unique_ptr<SocketRecord, Abandon>;

    explicit SocketStream(Owner socket) noexcept : socket_(std::move(socket)) {}
    ~SocketStream() = default;
    [[nodiscard]] SocketRecord& held() const noexcept {
        TORC_ASSERT(socket_, "a stream was used after it was moved from");
        return *socket_;
    }

    Owner socket_;
};

struct ConnectOptions {
    std::chrono::nanoseconds timeout = std::chrono::seconds{10};  ///< for all attempts together
    bool no_delay = true;                                         ///< TCP_NODELAY: send small writes at once
    bool keep_alive = false;                                      ///< SO_KEEPALIVE
    /// How long the first address is tried before the next one joins it (RFC 8305, 5).
    std::chrono::nanoseconds attempt_delay = std::chrono::milliseconds{250};
    /// How long a name's IPv4 addresses wait for its IPv6 addresses, when they are known first (RFC 8305, 3).
    std::chrono::nanoseconds resolution_delay = std::chrono::milliseconds{50};
};

/// A TCP connection.
class TcpStream : public SocketStream {
   public:
    /// Connects to one address.
    /// Errors: connection_refused and its like, timed_out, with phase::connect and the peer.
    [[nodiscard]] static task<TcpStream> connect(Address address, ConnectOptions options = {});

    /// Connects to whichever of `addresses` answers first: they are tried in order, each a little later than the one
    /// before or as soon as that has failed (RFC 8305). Losers are closed.
    /// Errors: the first address's failure, or timed_out with the first that was still being tried; with the others'
    ///         attached.
    [[nodiscard]] static task<TcpStream> connect(std::vector<Address> addresses, ConnectOptions options = {});

    /// The same with addresses that are not all known yet: begins as soon as `names` is usable and goes on with what it
    /// finds meanwhile, the families in turns. The time limit is for connecting, from there on.
    /// Errors: those of the look-up (phase::resolve) if there is no address; else as above, and attached, too, why
    ///         addresses of a family may be missing.
    [[nodiscard]] static task<TcpStream> connect(Resolution names, ConnectOptions options = {});

    /// Looks the name up and connects to what it finds, as above.
    [[nodiscard]] static task<TcpStream> connect(std::string host, std::uint16_t port, ConnectOptions options = {});

    explicit TcpStream(std::unique_ptr<SocketRecord, Abandon> socket) noexcept : SocketStream(std::move(socket)) {}
    /// TCP_NODELAY: whether small writes go at once, also while earlier ones are not acknowledged.
    /// Errors: those of setsockopt(2); closed.
    [[nodiscard]] task<> set_no_delay(bool on);

    /// Takes over a connected descriptor, which must not be used elsewhere any more.
    [[nodiscard]] static TcpStream adopt(Executor& executor, descriptor file, const Address& peer = {});
};

/// A connection over a unix socket. Where the listener has no room, connecting waits on io_uring, and fails with
/// resource_unavailable_try_again on epoll.
class UnixStream : public SocketStream {
   public:
    [[nodiscard]] static task<UnixStream> connect(Address address, ConnectOptions options = {});
    explicit UnixStream(std::unique_ptr<SocketRecord, Abandon> socket) noexcept : SocketStream(std::move(socket)) {}
    [[nodiscard]] static UnixStream adopt(Executor& executor, descriptor file, const Address& peer = {});
};

}  // namespace torc::net
