#pragma once

#include <optional>
#include <utility>
#include <variant>

#include <torc/net/tls_stream.hpp>
#include <torc/runtime/timeout.hpp>

/// What HTTP is spoken over: TCP, or TLS over it.
namespace torc::http {

namespace detail {

/// Awaits either an operation on a plain socket, which needs no coroutine, or a task of TLS.
template <class Plain, class Encrypted>
class [[nodiscard]] either_awaitable {
   public:
    template <std::size_t Which, class... Arguments>
    explicit either_awaitable(std::in_place_index_t<Which> which, Arguments&&... arguments) noexcept
        : wait_(which, std::forward<Arguments>(arguments)...) {}

    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        if (auto* plain = std::get_if<0>(&wait_)) return plain->await_suspend(self);
        return encrypted().await_suspend(self);
    }
    auto await_resume() {
        if (auto* plain = std::get_if<0>(&wait_)) return plain->await_resume();
        return encrypted().await_resume();
    }
    /// For as_result.
    auto take() {
        if (auto* plain = std::get_if<0>(&wait_)) return plain->take();
        using taken = decltype(std::get_if<0>(&wait_)->take());
        try {
            if constexpr (std::is_void_v<typename taken::value_type>) {
                await_resume();
                return taken{};
            } else {
                return taken{await_resume()};
            }
        } catch (const Error& error) {
            return taken{std::unexpected{error}};
        }
    }
    /// For with_timeout and with_deadline.
    auto limited(torc::detail::time_limit most) && {
        using limited_plain = decltype(torc::detail::limit(most, std::declval<Plain>()));
        using limited_tls = decltype(torc::detail::limit(most, std::declval<Encrypted>()));
        using limited_either = either_awaitable<limited_plain, limited_tls>;
        if (auto* plain = std::get_if<0>(&wait_)) {
            return limited_either{std::in_place_index<0>, most, std::move(*plain)};
        }
        return limited_either{std::in_place_index<1>, most, std::move(*std::get_if<1>(&wait_))};
    }

   private:
    [[nodiscard]] decltype(auto) encrypted() noexcept {
        auto* const tls = std::get_if<1>(&wait_);
        if constexpr (torc::detail::is_task<Encrypted>) {
            return typename Encrypted::awaiter{tls->state()};
        } else {
            return (*tls);
        }
    }

    std::variant<Plain, Encrypted> wait_;
};

}  // namespace detail

/// A byte stream, plain or encrypted, under one interface.
/// Lifetime: owns the connection; the destructor submits the close. Movable while nobody waits in it.
/// Requires: one reader and one writer at a time.
class Transport {
   public:
    using receive_awaitable = detail::either_awaitable<net::slice_awaitable, task<BufferSlice>>;
    using send_awaitable = detail::either_awaitable<net::gathered_send_awaitable, task<>>;

    Transport(net::TcpStream plain) noexcept : stream_(std::move(plain)) {}
    Transport(net::TlsStream encrypted) noexcept : stream_(std::move(encrypted)) {}

    /// Receives what comes next.
    /// Shape:  empty at the orderly end of the stream.
    /// Errors: those of TcpStream::receive and TlsStream::receive; an end of TLS without close_notify is
    ///         net::tls_errc::truncated.
    [[nodiscard]] receive_awaitable receive();

    /// Sends all of `first`, then all of `second`; both leave together.
    /// Lifetime: both must stay until this completes, even when cancelled.
    [[nodiscard]] send_awaitable send(std::span<const std::byte> first, std::span<const std::byte> second = {});

    /// Tells the peer that nothing more will be sent; receiving goes on.
    [[nodiscard]] task<> shutdown_write();

    /// Closes here and now and says how it went. Idempotent.
    [[nodiscard]] close_awaitable close() noexcept;

    /// The socket's record. Requires: open.
    [[nodiscard]] net::SocketRecord& record() noexcept;
    [[nodiscard]] bool is_open() const noexcept;
    [[nodiscard]] const net::Address& peer();
    /// What there is to know about the TLS connection; nothing over plain TCP.
    [[nodiscard]] std::optional<net::TlsPeerInfo> tls_info() const;
    /// The TCP stream; null over TLS.
    [[nodiscard]] net::TcpStream* plain() noexcept { return std::get_if<net::TcpStream>(&stream_); }
    /// The TLS stream; null over plain TCP.
    [[nodiscard]] net::TlsStream* tls() noexcept { return std::get_if<net::TlsStream>(&stream_); }

   private:
    std::variant<net::TcpStream, net::TlsStream> stream_;
};

}  // namespace torc::http
