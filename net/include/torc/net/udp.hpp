#pragma once

#include <memory>
#include <span>

#include <torc/net/address.hpp>
#include <torc/runtime/close.hpp>
#include <torc/runtime/leaf.hpp>

/// Datagrams.
namespace torc::net {

class DatagramRecord;

/// What arrived.
struct Datagram {
    std::size_t size_bytes = 0;  ///< how much of it fitted the buffer
    Address from;
    bool truncated = false;  ///< it was longer than the buffer; the rest is gone
};

namespace detail {

/// One message of sendmsg or recvmsg.
class message_awaitable : public torc::detail::leaf, protected operation {
   public:
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        return begin(self.promise());
    }
    void cancel() noexcept override;
    [[nodiscard]] std::string describe() const override { return to_string(operation::kind); }

   protected:
    message_awaitable(op_kind what, DatagramRecord* socket, std::span<std::byte> bytes, const Address& peer) noexcept;
    message_awaitable(message_awaitable&& other) noexcept;
    ~message_awaitable();

    /// The bytes moved; throws `cancelled`.
    [[nodiscard]] torc::result<std::size_t> settle();

    Address peer_;            // where it goes, or came from
    bool truncated_ = false;  // of a receive that brought something

   private:
    friend class net::DatagramRecord;
    bool begin(torc::detail::task_state& task) noexcept;
    static void completed(operation& op) noexcept;

    DatagramRecord* socket_;
    std::span<std::byte> bytes_;
    std::error_code refused_;
    bool closed_meanwhile_ = false;
};

}  // namespace detail

class [[nodiscard("co_await it")]] send_datagram_awaitable final : public detail::message_awaitable {
   public:
    send_datagram_awaitable(DatagramRecord* socket, std::span<const std::byte> bytes, const Address& to) noexcept;
    void await_resume();
    torc::result<void> take();  ///< for as_result
};

class [[nodiscard("co_await it")]] receive_datagram_awaitable final : public detail::message_awaitable {
   public:
    receive_datagram_awaitable(DatagramRecord* socket, std::span<std::byte> buffer) noexcept;
    Datagram await_resume();
    torc::result<Datagram> take();  ///< for as_result
};

/// A UDP socket.
/// Lifetime: as of streams: owns the socket, the destructor submits the close, the task whose frame is left awaits it.
/// Requires: one reader and one writer at a time; the executor's thread.
class UdpSocket {
   public:
    /// Opens a socket bound to `address`; port 0 lets the kernel choose.
    /// Errors: address_in_use and its like, with the address.
    [[nodiscard]] static UdpSocket bind(const Address& address);

    /// Sends one datagram.
    /// Lifetime: `bytes` is the kernel's until this completes, even when cancelled.
    /// Errors:   message_size if it is too long for one, network_unreachable and their like.
    [[nodiscard]] send_datagram_awaitable send_to(std::span<const std::byte> bytes, const Address& to) noexcept {
        return {socket_.get(), bytes, to};
    }
    /// Receives one datagram, of any length, also 0.
    /// Lifetime: `buffer` is the kernel's until this completes, even when cancelled.
    /// Errors:   `errc::busy`, `errc::closed`. That nobody took an earlier datagram is none: the socket is connected to
    ///           nobody, and the kernel tells only those that are.
    [[nodiscard]] receive_datagram_awaitable receive_from(std::span<std::byte> buffer) noexcept {
        return {socket_.get(), buffer};
    }
    [[nodiscard]] close_awaitable close() noexcept;
    [[nodiscard]] bool is_open() const noexcept;
    [[nodiscard]] const Address& local() const noexcept;

   private:
    struct Abandon {
        void operator()(DatagramRecord* record) const noexcept;
    };
    explicit UdpSocket(DatagramRecord* socket) noexcept : socket_(socket) {}
    std::unique_ptr<DatagramRecord, Abandon> socket_;
};

}  // namespace torc::net
