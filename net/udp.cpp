#include <torc/net/udp.hpp>

#include <sys/socket.h>
#include <sys/uio.h>

#include <cerrno>

#include "bound_socket.hpp"

// Theory of operation. A datagram is one sendmsg or recvmsg of the ring. The record owns the descriptor and knows the
// two operations that may be in flight; closing cancels them, awaits their ends, and then closes. So the headers that
// the kernel reads and writes meanwhile lie in the record, one for each direction. What it wrote is taken out of them
// as the operation ends: the next one may begin before the task of this one has run.

namespace torc::net {

class DatagramRecord final : public close_record {
   public:
    DatagramRecord(Executor& executor, const descriptor& file, const Address& local) noexcept
        : close_record(executor), file_(file), local_(local), close_(op_kind::close, &file_, closed) {
        close_.owner = this;
    }
    [[nodiscard]] const Address& local() const noexcept { return local_; }

   private:
    friend class detail::message_awaitable;
    struct closing_operation : operation {
        using operation::operation;
        DatagramRecord* owner = nullptr;
    };

    /// What one message needs besides its bytes.
    struct Headers {
        msghdr message{};
        iovec part{};
        sockaddr_storage from{};
    };

    void start_close() noexcept override {
        for (detail::message_awaitable* each : {reader_, writer_}) {
            if (each == nullptr) continue;
            each->closed_meanwhile_ = true;
            executor().driver().cancel(*each);
        }
        go_on_closing();
    }
    void go_on_closing() noexcept {
        if (is_open() || reader_ != nullptr || writer_ != nullptr) return;
        executor().driver().submit(close_);
    }
    static void closed(operation& op) noexcept {
        static_cast<closing_operation&>(op).owner->close_done(
            op.result < 0 ? std::error_code{-op.result, std::generic_category()} : std::error_code{});
    }

    descriptor file_;
    Address local_;
    closing_operation close_;
    detail::message_awaitable* reader_ = nullptr;
    detail::message_awaitable* writer_ = nullptr;
    Headers reading_;
    Headers writing_;
};

namespace detail {

message_awaitable::message_awaitable(op_kind what, DatagramRecord* socket, std::span<std::byte> bytes,
                                     const Address& peer) noexcept
    : operation(what, nullptr, completed), peer_(peer), socket_(socket), bytes_(bytes) {}

message_awaitable::message_awaitable(message_awaitable&& other) noexcept
    : operation(other), peer_(other.peer_), socket_(other.socket_), bytes_(other.bytes_) {}

message_awaitable::~message_awaitable() {
    TORC_ASSERT(state == op_state::idle, "a datagram operation was destroyed while the kernel still worked on it");
}

bool message_awaitable::begin(torc::detail::task_state& task) noexcept {
    task_ = &task;
    if (socket_ == nullptr || !socket_->is_open()) {
        refused_ = make_error_code(errc::closed);
        return false;
    }
    const bool receives = operation::kind == op_kind::receive_message;
    message_awaitable*& place = receives ? socket_->reader_ : socket_->writer_;
    if (place != nullptr) {
        refused_ = make_error_code(errc::busy);
        return false;
    }
    if (!enter(task)) return false;
    place = this;
    DatagramRecord::Headers& headers = receives ? socket_->reading_ : socket_->writing_;
    headers.part = {bytes_.data(), bytes_.size()};
    headers.message = {};
    headers.message.msg_iov = &headers.part;
    headers.message.msg_iovlen = 1;
    headers.message.msg_name = receives ? &headers.from : static_cast<void*>(const_cast<sockaddr*>(peer_.data()));
    headers.message.msg_namelen = receives ? sizeof headers.from : peer_.size();
    address = &headers.message;
    file = &socket_->file_;
    socket_->executor().driver().submit(*this);
    return true;
}

void message_awaitable::completed(operation& op) noexcept {
    auto& self = static_cast<message_awaitable&>(op);
    DatagramRecord& socket = *self.socket_;
    if (op.kind == op_kind::receive_message) {
        socket.reader_ = nullptr;
        const DatagramRecord::Headers& headers = socket.reading_;
        if (op.result >= 0) {
            self.peer_ =
                Address::from_sockaddr(reinterpret_cast<const sockaddr*>(&headers.from), headers.message.msg_namelen);
            self.truncated_ = (headers.message.msg_flags & MSG_TRUNC) != 0;
        }
    } else {
        socket.writer_ = nullptr;
    }
    self.ready();
    if (!socket.is_open()) socket.go_on_closing();
}

void message_awaitable::cancel() noexcept { socket_->executor().driver().cancel(*this); }

torc::result<std::size_t> message_awaitable::settle() {
    const char* const what = to_string(operation::kind);
    if (refused_) return std::unexpected{Error{refused_, phase::none, what}};
    throw_if_cancelled();
    if (operation::result >= 0) return static_cast<std::size_t>(operation::result);
    if (closed_meanwhile_) return std::unexpected{Error{errc::closed, phase::none, what}};
    if (operation::result == -ECANCELED && cancel_requested) throw torc::cancelled{};
    Error error = error_from_result(operation::result, phase::none, what);
    if (!peer_.empty()) error.with_peer(peer_.to_string());
    return std::unexpected{std::move(error)};
}

}  // namespace detail

send_datagram_awaitable::send_datagram_awaitable(DatagramRecord* socket, std::span<const std::byte> bytes,
                                                 const Address& to) noexcept
    : message_awaitable(op_kind::send_message, socket, {const_cast<std::byte*>(bytes.data()), bytes.size()}, to) {}

torc::result<void> send_datagram_awaitable::take() {
    auto sent = settle();
    if (!sent) return std::unexpected{std::move(sent).error()};
    return {};
}

void send_datagram_awaitable::await_resume() {
    auto sent = take();
    if (!sent) torc::detail::throw_error(std::move(sent).error(), task_);
}

receive_datagram_awaitable::receive_datagram_awaitable(DatagramRecord* socket, std::span<std::byte> buffer) noexcept
    : message_awaitable(op_kind::receive_message, socket, buffer, {}) {}

torc::result<Datagram> receive_datagram_awaitable::take() {
    auto received = settle();
    if (!received) return std::unexpected{std::move(received).error()};
    return Datagram{*received, peer_, truncated_};
}

Datagram receive_datagram_awaitable::await_resume() {
    auto received = take();
    if (!received) torc::detail::throw_error(std::move(received).error(), task_);
    return *received;
}

UdpSocket UdpSocket::bind(const Address& address) {
    Executor& executor = Executor::here();
    const BoundSocket bound = bind_socket(executor.driver(), address, "bind", {.type = SOCK_DGRAM});
    return UdpSocket{take_over<DatagramRecord>(executor, bound.file, bound.local)};
}

close_awaitable UdpSocket::close() noexcept { return close_awaitable{socket_.get()}; }
bool UdpSocket::is_open() const noexcept { return socket_ != nullptr && socket_->is_open(); }
const Address& UdpSocket::local() const noexcept { return socket_->local(); }
void UdpSocket::Abandon::operator()(DatagramRecord* record) const noexcept { close_record::abandon(record); }

}  // namespace torc::net
