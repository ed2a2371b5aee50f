#pragma once

#include <sys/socket.h>

#include <array>
#include <cstddef>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include <torc/net/address.hpp>
#include <torc/runtime/close.hpp>
#include <torc/runtime/leaf.hpp>

/// The record behind every connected socket: what the kernel may be working on, and how it is closed.
///
/// Who owns what. The handle (TcpStream, UnixStream, UdpSocket) owns the record until its scope ends; then the record
/// owns itself until the descriptor is closed. The record owns the descriptor, the receive that borrows the executor's
/// buffers, and the slices it brought that nobody took yet. Receives and sends with the caller's memory are records in
/// the caller's frame, which the socket knows as `reader_` and `writer_` from their begin until their task has run
/// again; when it is closed before that, it parts from them, because it may be gone by then.
///
/// A close: new operations are refused; what is in flight is cancelled, and its terminal completions are awaited; then
/// one chain of hard links sends the farewell and closes.
namespace torc::net {

class SocketRecord final : public close_record {
   public:
    explicit SocketRecord(Executor& executor, descriptor file = {}) noexcept;

    [[nodiscard]] descriptor& file() noexcept { return file_; }
    [[nodiscard]] Address& peer() noexcept { return peer_; }

    /// Borrowed receives stay armed and bring slice after slice without being asked again. Right for a connection that
    /// lives long; without it every slice is asked for, and closing finds nothing in flight.
    void keep_receiving(bool on) noexcept { keep_receiving_ = on; }

    /// What to send as the last thing (a TLS close_notify). Ignored once a send was cut short.
    void set_farewell(std::span<const std::byte> bytes);

    [[nodiscard]] bool output_broken() const noexcept { return output_broken_; }

   private:
    friend class receiving;
    friend class receive_awaitable;
    friend class slice_awaitable;
    friend class sending;
    friend class side_awaitable;

    ~SocketRecord() override;
    void start_close() noexcept override;

    /// The receive that borrows buffers; it belongs to the record, because it may outlive any one wait for it.
    struct borrowing_receive : operation {
        using operation::operation;
        SocketRecord* owner = nullptr;
    };

    [[nodiscard]] bool has_slice() const noexcept { return !next_slice_.empty(); }
    [[nodiscard]] bool ended() const noexcept { return ended_ <= 0; }
    void keep_for_later(BufferSlice&& slice) noexcept;
    [[nodiscard]] BufferSlice take_slice() noexcept;
    [[nodiscard]] bool arm() noexcept;
    static void received(operation& op) noexcept;
    void go_on_closing() noexcept;
    void submit_close_chain() noexcept;
    void submit_close() noexcept;
    static void step_done(operation& op) noexcept;
    static void closed(operation& op) noexcept;
    static void grace_over(torc::detail::Timer& timer) noexcept;

    /// What only a close with a farewell needs; made when there is one to keep, so that closing needs no memory.
    struct Closing;

    descriptor file_;
    Address peer_;
    borrowing_receive borrowing_;
    BufferSlice next_slice_;                 // not yet taken; empty if there is none
    std::vector<BufferSlice> later_slices_;  // behind it: from `first_later_` on
    class receiving* reader_ = nullptr;
    class sending* writer_ = nullptr;
    std::uint32_t first_later_ = 0;
    std::uint32_t side_operations_ = 0;
    std::unique_ptr<Closing> closing_;
    int ended_ = 1;                     // what ended the stream: 0 or a negative errno; 1 while it goes on
    std::uint8_t found_no_buffer_ = 0;  // how often in a row the borrowing receive did not
    bool keep_receiving_ = true;
    bool output_broken_ = false;
    bool close_submitted_ = false;
};

/// One wait for bytes, into the caller's memory or as a slice.
class receiving : public torc::detail::leaf, protected operation {
   public:
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        return begin(self.promise());
    }
    void cancel() noexcept override;
    [[nodiscard]] std::string describe() const override { return "receive"; }

   protected:
    receiving(SocketRecord* socket, std::span<std::byte> memory) noexcept;
    receiving(receiving&& other) noexcept;
    ~receiving();

    /// Throws `cancelled`; says whether it ended without an `error`, with bytes or the end of the stream.
    [[nodiscard]] bool settle();
    [[nodiscard]] Error error() const;

    bool direct_ = false;  // it was received by this operation itself, not by the record's
    bool woken_ = false;   // its task is ready; until that has run, the socket's reading side is still taken
    SocketRecord* socket_;
    std::unique_ptr<std::byte[]> own_;  // a slice's memory when the executor had none to lend

   private:
    friend class SocketRecord;
    bool begin(torc::detail::task_state& task) noexcept;
    void start() noexcept;
    void wake() noexcept;
    void part() noexcept;
    static void completed(operation& op) noexcept;

    errc refused_{};
};

/// Receives into the caller's memory. See SocketStream::receive.
class [[nodiscard("co_await it")]] receive_awaitable final : public receiving {
   public:
    receive_awaitable(SocketRecord* socket, std::span<std::byte> buffer) noexcept : receiving(socket, buffer) {}
    std::size_t await_resume();
    torc::result<std::size_t> take();  ///< for as_result

   private:
    std::size_t received() noexcept;
};

/// Receives a borrowed slice. See SocketStream::receive.
class [[nodiscard("co_await it")]] slice_awaitable final : public receiving {
   public:
    explicit slice_awaitable(SocketRecord* socket) noexcept : receiving(socket, {}) {}
    BufferSlice await_resume();
    torc::result<BufferSlice> take();  ///< for as_result

   private:
    BufferSlice received() noexcept;
};

/// One send of all of the caller's memory.
class sending : public torc::detail::leaf, protected operation {
   public:
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        return begin(self.promise());
    }
    void await_resume();
    torc::result<void> take();  ///< for as_result
    void cancel() noexcept override;
    [[nodiscard]] std::string describe() const override { return "send"; }

   protected:
    sending(SocketRecord* socket, std::span<const std::byte> bytes) noexcept;
    sending(sending&& other) noexcept;
    ~sending();

    std::span<const std::byte> left_;

   private:
    friend class SocketRecord;
    bool begin(torc::detail::task_state& task) noexcept;
    void submit() noexcept;
    void part() noexcept;
    static void completed(operation& op) noexcept;

    [[nodiscard]] bool settle();
    [[nodiscard]] Error error() const;

    bool begun_ = false;  // the kernel took a part
    errc refused_{};
    SocketRecord* socket_;
};

/// See SocketStream::send.
class [[nodiscard("co_await it")]] send_awaitable final : public sending {
   public:
    send_awaitable(SocketRecord* socket, std::span<const std::byte> bytes) noexcept : sending(socket, bytes) {}
};

/// Sends what lies in two places. See SocketStream::send.
class [[nodiscard("co_await it")]] gathered_send_awaitable final : public sending {
   public:
    gathered_send_awaitable(SocketRecord* socket, std::span<const std::byte> first,
                            std::span<const std::byte> second) noexcept;
    gathered_send_awaitable(gathered_send_awaitable&& other) noexcept;

   private:
    friend class sending;
    void gather() noexcept;
    void consume(std::size_t sent_bytes) noexcept;

    std::span<const std::byte> behind_;  // what follows `left_`
    std::array<iovec, 2> parts_{};
    msghdr message_{};
};

/// An operation of the socket that neither receives nor sends, such as a shutdown: one that soon ends by itself, so
/// that a close waits for it.
class side_awaitable : public torc::detail::leaf, protected operation {
   public:
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        return begin(self.promise());
    }
    void cancel() noexcept override { task_->executor->driver().cancel(*this); }
    [[nodiscard]] std::string describe() const override { return to_string(operation::kind); }

   protected:
    side_awaitable(op_kind what, SocketRecord& socket) noexcept;
    ~side_awaitable();
    /// What the kernel said, a negative errno for a failure. Throws `cancelled`, and `Error` (closed).
    [[nodiscard]] int outcome() const;

   private:
    bool begin(torc::detail::task_state& task) noexcept;
    static void completed(operation& op) noexcept;

    bool refused_ = false;
    SocketRecord* socket_;  // null once it ended
};

}  // namespace torc::net
