#include <torc/net/socket.hpp>

#include <algorithm>
#include <array>
#include <cerrno>
#include <new>

// Theory of operation. What tasks wait for at a socket. A receive and a send are known to it from their begin until
// their task has run again; a socket that is closed before that parts from them. Operations beside them are only
// counted, and a close waits until the kernel is done with them.

namespace torc::net {
namespace {

constexpr std::size_t own_memory_bytes = 16 * 1024;
constexpr std::size_t most_at_once_bytes = std::size_t{1} << 30;

}  // namespace

receiving::receiving(SocketRecord* socket, std::span<std::byte> memory) noexcept
    : operation(op_kind::receive, nullptr, completed), socket_(socket) {
    address = memory.data();
    length = static_cast<std::uint32_t>(std::min(memory.size(), most_at_once_bytes));
}

receiving::receiving(receiving&& other) noexcept : operation(other), socket_(other.socket_) {}

receiving::~receiving() {
    TORC_ASSERT(state == op_state::idle, "a receive was destroyed while the kernel still worked on it");
}

bool receiving::begin(torc::detail::task_state& task) noexcept {
    task_ = &task;
    if (socket_ == nullptr || !socket_->is_open()) {
        refused_ = errc::closed;
        return false;
    }
    if (socket_->reader_ != nullptr) {
        refused_ = errc::busy;
        return false;
    }
    if (!enter(task)) return false;
    if (socket_->has_slice() || socket_->ended()) {
        leave();
        return false;
    }
    socket_->reader_ = this;
    const op_state borrowing = socket_->borrowing_.state;
    if (borrowing == op_state::idle) start();
    // It has memory; when the other one has ended it is started.
    if (borrowing == op_state::waiting_for_buffer && length != 0) {
        socket_->executor().driver().cancel(socket_->borrowing_);
    }
    return true;
}

void receiving::start() noexcept {
    if (length == 0) {
        if (socket_->arm()) return;
        socket_->found_no_buffer_ = 0;
        own_.reset(new (std::nothrow) std::byte[own_memory_bytes]);
        if (own_ == nullptr) {
            direct_ = true;
            result = -ENOMEM;
            wake();
            return;
        }
        address = own_.get();
        length = own_memory_bytes;
    }
    direct_ = true;
    file = &socket_->file_;
    socket_->executor().driver().submit(*this);
}

/// The record has something for this wait.
void receiving::wake() noexcept {
    woken_ = true;
    if (!socket_->is_open()) part();
    ready();
}

void receiving::part() noexcept { std::exchange(socket_, nullptr)->reader_ = nullptr; }

void receiving::completed(operation& op) noexcept {
    auto& self = static_cast<receiving&>(op);
    SocketRecord& socket = *self.socket_;
    if (op.result <= 0 && op.result != -ECANCELED) socket.ended_ = op.result;
    self.wake();
    socket.go_on_closing();
}

void receiving::cancel() noexcept {
    if (direct_) {
        socket_->executor().driver().cancel(*this);
    } else {
        part();
        end_cancelled();
    }
}

bool receiving::settle() {
    if (refused_ != errc{}) return false;
    if (socket_ != nullptr && socket_->reader_ == this) socket_->reader_ = nullptr;
    throw_if_cancelled();
    if (direct_ && result > 0) return true;
    if (socket_ == nullptr) {
        refused_ = errc::closed;
        return false;
    }
    if (!direct_ && socket_->has_slice()) return true;
    if (direct_ && result == -ECANCELED && cancel_requested) throw torc::cancelled{};
    if (!direct_) result = socket_->ended_;
    return result >= 0;
}

Error receiving::error() const {
    Error error = refused_ != errc{} ? Error{make_error_code(refused_), phase::none, "receive"}
                                     : error_from_result(result, phase::none, "receive");
    if (socket_ != nullptr && !socket_->peer().empty()) error.with_peer(socket_->peer().to_string());
    return error;
}

std::size_t receive_awaitable::received() noexcept {
    if (direct_) return static_cast<std::size_t>(operation::result);
    if (!socket_->has_slice()) return 0;
    // Bytes that a borrowing receive brought earlier come first.
    BufferSlice& first = socket_->next_slice_;
    const std::size_t count = std::min<std::size_t>(first.size(), length);
    std::copy_n(first.bytes().data(), count, static_cast<std::byte*>(address));
    first.consume(count);
    if (first.empty()) static_cast<void>(socket_->take_slice());
    return count;
}

std::size_t receive_awaitable::await_resume() {
    if (!settle()) torc::detail::throw_error(error(), task_);
    return received();
}

torc::result<std::size_t> receive_awaitable::take() {
    if (!settle()) return std::unexpected{error()};
    return received();
}

BufferSlice slice_awaitable::received() noexcept {
    if (direct_) return BufferSlice{std::move(own_), static_cast<std::size_t>(operation::result)};
    return socket_->take_slice();
}

BufferSlice slice_awaitable::await_resume() {
    if (!settle()) torc::detail::throw_error(error(), task_);
    return received();
}

torc::result<BufferSlice> slice_awaitable::take() {
    if (!settle()) return std::unexpected{error()};
    return received();
}

sending::sending(SocketRecord* socket, std::span<const std::byte> bytes) noexcept
    : operation(op_kind::send, nullptr, completed), left_(bytes), socket_(socket) {
    whole = true;
}

sending::sending(sending&& other) noexcept : operation(other), left_(other.left_), socket_(other.socket_) {}

sending::~sending() {
    TORC_ASSERT(state == op_state::idle, "a send was destroyed while the kernel still worked on it");
}

bool sending::begin(torc::detail::task_state& task) noexcept {
    task_ = &task;
    if (socket_ == nullptr || !socket_->is_open()) {
        refused_ = errc::closed;
    } else if (socket_->writer_ != nullptr) {
        refused_ = errc::busy;
    } else if (socket_->output_broken_) {
        operation::result = -EPIPE;
        return false;
    }
    if (refused_ != errc{} || !enter(task)) return false;
    if (left_.empty()) {
        leave();
        return false;
    }
    socket_->writer_ = this;
    submit();
    return true;
}

void sending::submit() noexcept {
    file = &socket_->file_;
    if (operation::kind == op_kind::send_vector) {
        static_cast<gathered_send_awaitable*>(this)->gather();
    } else {
        address = const_cast<std::byte*>(left_.data());
        length = static_cast<std::uint32_t>(std::min(left_.size(), most_at_once_bytes));
    }
    socket_->executor().driver().submit(*this);
}

void sending::completed(operation& op) noexcept {
    auto& self = static_cast<sending&>(op);
    SocketRecord& socket = *self.socket_;
    if (op.result > 0) {
        self.begun_ = true;
        const auto sent_bytes = static_cast<std::size_t>(op.result);
        if (op.kind == op_kind::send_vector) {
            static_cast<gathered_send_awaitable&>(self).consume(sent_bytes);
        } else {
            self.left_ = self.left_.subspan(sent_bytes);
        }
        if (!self.left_.empty() && !op.cancel_requested) {
            self.submit();
            return;
        }
    }
    if (self.begun_ && !self.left_.empty()) socket.output_broken_ = true;
    if (!socket.is_open()) self.part();
    self.ready();
    socket.go_on_closing();
}

void sending::part() noexcept { std::exchange(socket_, nullptr)->writer_ = nullptr; }

void sending::cancel() noexcept { socket_->executor().driver().cancel(*this); }

bool sending::settle() {
    if (refused_ != errc{}) return false;
    if (socket_ != nullptr && socket_->writer_ == this) socket_->writer_ = nullptr;
    throw_if_cancelled();
    if (left_.empty() && operation::result >= 0) return true;
    if (socket_ == nullptr) {
        refused_ = errc::closed;
        return false;
    }
    if (cancel_requested && (operation::result == -ECANCELED || operation::result > 0)) throw torc::cancelled{};
    return false;
}

Error sending::error() const {
    Error error = refused_ != errc{} ? Error{make_error_code(refused_), phase::send, "send"}
                                     : error_from_result(operation::result, phase::send, "send");
    if (socket_ != nullptr && !socket_->peer().empty()) error.with_peer(socket_->peer().to_string());
    return error;
}

void sending::await_resume() {
    if (!settle()) torc::detail::throw_error(error(), task_);
}

torc::result<void> sending::take() {
    if (!settle()) return std::unexpected{error()};
    return {};
}

gathered_send_awaitable::gathered_send_awaitable(SocketRecord* socket, std::span<const std::byte> first,
                                                 std::span<const std::byte> second) noexcept
    : sending(socket, first.empty() ? second : first) {
    if (first.empty() || second.empty()) return;
    behind_ = second;
    operation::kind = op_kind::send_vector;
}

gathered_send_awaitable::gathered_send_awaitable(gathered_send_awaitable&& other) noexcept
    : sending(static_cast<sending&&>(other)), behind_(other.behind_) {}

void gathered_send_awaitable::gather() noexcept {
    std::size_t room = most_at_once_bytes;
    const std::array<std::span<const std::byte>, 2> both{left_, behind_};
    for (std::size_t each = 0; each < both.size(); ++each) {
        const std::size_t size = std::min(both[each].size(), room);
        parts_[each] = {const_cast<std::byte*>(both[each].data()), size};
        room -= size;
    }
    message_.msg_iov = parts_.data();
    message_.msg_iovlen = parts_.size();
    address = &message_;
}

/// What is left once all of the first part has gone is a send like any other.
void gathered_send_awaitable::consume(std::size_t sent_bytes) noexcept {
    const std::size_t of_first = std::min(sent_bytes, left_.size());
    left_ = left_.subspan(of_first);
    if (!left_.empty()) return;
    left_ = std::exchange(behind_, {}).subspan(sent_bytes - of_first);
    operation::kind = op_kind::send;
}

side_awaitable::side_awaitable(op_kind what, SocketRecord& socket) noexcept
    : operation(what, nullptr, completed), socket_(&socket) {}

side_awaitable::~side_awaitable() {
    TORC_ASSERT(state == op_state::idle, "an operation was destroyed while the kernel still worked on it");
}

bool side_awaitable::begin(torc::detail::task_state& task) noexcept {
    task_ = &task;
    refused_ = !socket_->is_open();
    if (refused_ || !enter(task)) return false;
    ++socket_->side_operations_;
    file = &socket_->file_;
    task.executor->driver().submit(*this);
    return true;
}

void side_awaitable::completed(operation& op) noexcept {
    auto& self = static_cast<side_awaitable&>(op);
    SocketRecord& socket = *std::exchange(self.socket_, nullptr);
    --socket.side_operations_;
    self.ready();
    socket.go_on_closing();
}

int side_awaitable::outcome() const {
    if (refused_) throw Error{errc::closed, phase::none, to_string(operation::kind)};
    throw_if_cancelled();
    if (operation::result == -ECANCELED && cancel_requested) throw torc::cancelled{};
    return operation::result;
}

}  // namespace torc::net
