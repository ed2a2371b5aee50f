#include <torc/net/socket.hpp>

#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <new>

// Theory of operation. Three things can be in flight on a socket: the record's borrowing receive, a receive into a
// caller's memory, a send from it. The first outlives waits: cancelling a task that waits for a slice only takes it off
// the socket, and what arrives later is there for the next one, so a cancel can never lose bytes. The other two end
// with their await.
//
// The borrowing receive is multishot while `keep_receiving_` is set. It ends by itself when the executor's buffers run
// out: the next slice then waits for one or, where that is hopeless or has failed a few times, brings its own memory.
// It is cancelled when slices pile up because nobody takes them; the next receive arms it again. So a slow reader holds
// a bounded number of buffers.
//
// Closing shuts nothing down first: once the terminal completions have come nobody else holds the socket, so closing it
// sends the FIN; and the kernel runs every shutdown operation on a worker thread.

namespace torc::net {
namespace {

constexpr std::size_t most_later_slices = 7;
constexpr int most_tries_to_borrow = 8;
constexpr std::size_t own_memory_bytes = 16 * 1024;
constexpr std::size_t most_at_once_bytes = std::size_t{1} << 30;

std::error_code kernel_code(int result) noexcept { return {-result, std::generic_category()}; }

}  // namespace

struct SocketRecord::Closing {
    struct step : operation {
        SocketRecord* owner = nullptr;
    };
    struct grace_timer : torc::detail::Timer {
        using Timer::Timer;
        SocketRecord* owner = nullptr;
    };
    std::vector<std::byte> farewell;
    std::array<step, 2> steps;
    grace_timer grace{grace_over};
    int pending = 0;
    std::error_code error;
};

SocketRecord::SocketRecord(Executor& executor, descriptor file) noexcept
    : close_record(executor), file_(file), borrowing_(op_kind::receive, &file_, received) {
    borrowing_.owner = this;
    borrowing_.select_buffer = true;
}

SocketRecord::~SocketRecord() = default;

void SocketRecord::set_farewell(std::span<const std::byte> bytes) {
    if (!closing_) closing_ = std::make_unique<Closing>();
    closing_->farewell.assign(bytes.begin(), bytes.end());
}

/// False if a slice should rather bring its own memory.
bool SocketRecord::arm() noexcept {
    borrowing_.multishot = keep_receiving_;
    Driver& driver = executor().driver();
    if (found_no_buffer_ > 0) return found_no_buffer_ < most_tries_to_borrow && driver.submit_when_lent(borrowing_);
    driver.submit(borrowing_);
    return true;
}

void SocketRecord::keep_for_later(BufferSlice&& slice) noexcept {
    try {
        later_slices_.push_back(std::move(slice));
    } catch (const std::bad_alloc&) {
        // These bytes are lost, so nothing that comes behind them may be taken for what follows.
        ended_ = -ENOMEM;
        if (borrowing_.more) executor().driver().cancel(borrowing_);
    }
}

BufferSlice SocketRecord::take_slice() noexcept {
    BufferSlice slice = std::move(next_slice_);
    if (!later_slices_.empty()) {
        next_slice_ = std::move(later_slices_[first_later_++]);
        if (first_later_ == later_slices_.size()) {
            later_slices_.clear();
            first_later_ = 0;
        }
    }
    return slice;
}

void SocketRecord::received(operation& op) noexcept {
    SocketRecord& self = *static_cast<borrowing_receive&>(op).owner;
    if (op.result > 0) {
        self.found_no_buffer_ = 0;
        BufferSlice slice{self.executor().driver().buffers(), static_cast<std::uint16_t>(op.buffer_id),
                          static_cast<std::size_t>(op.result)};
        if (self.is_open() && !self.ended()) {
            if (self.has_slice()) {
                self.keep_for_later(std::move(slice));
            } else {
                self.next_slice_ = std::move(slice);
            }
        }
    } else if (op.result == -ENOBUFS) {
        ++self.found_no_buffer_;
    } else if (op.result != -ECANCELED) {
        self.ended_ = op.result;
    }
    if (!self.is_open()) {
        if (!op.more) self.go_on_closing();
        return;
    }
    if (self.reader_ != nullptr && !self.reader_->woken_) {
        if (self.has_slice() || self.ended()) {
            self.reader_->wake();
        } else if (!op.more) {
            self.reader_->start();
        }
    }
    if (op.more && self.later_slices_.size() - self.first_later_ >= most_later_slices && !op.cancel_requested) {
        self.executor().driver().cancel(op);
    }
}

void SocketRecord::start_close() noexcept {
    Driver& driver = executor().driver();
    if (reader_ != nullptr) {
        if (reader_->woken_) {
            reader_->part();
        } else if (reader_->direct_) {
            driver.cancel(*reader_);
        } else {
            reader_->wake();
        }
    }
    if (writer_ != nullptr) {
        if (writer_->operation::state == op_state::idle) {
            writer_->part();
        } else {
            driver.cancel(*writer_);
        }
    }
    driver.cancel(borrowing_);
    go_on_closing();
}

void SocketRecord::go_on_closing() noexcept {
    if (is_open() || close_submitted_) return;
    if (reader_ != nullptr || writer_ != nullptr || borrowing_.state != op_state::idle) return;
    if (side_operations_ > 0) return;
    close_submitted_ = true;
    next_slice_.release();
    later_slices_.clear();
    if (!file_.open()) {
        close_done({});
    } else if (closing_ && !closing_->farewell.empty() && !output_broken_) {
        submit_close_chain();
    } else {
        submit_close();
    }
}

/// The borrowing receive has ended for good, and lends its record.
void SocketRecord::submit_close() noexcept {
    borrowing_.kind = op_kind::close;
    borrowing_.multishot = borrowing_.select_buffer = false;
    borrowing_.complete = closed;
    executor().driver().submit(borrowing_);
}

void SocketRecord::closed(operation& op) noexcept {
    SocketRecord& self = *static_cast<borrowing_receive&>(op).owner;
    self.close_done(op.result < 0 ? kernel_code(op.result) : std::error_code{});
}

void SocketRecord::submit_close_chain() noexcept {
    auto& [farewell, close] = closing_->steps;
    farewell.kind = op_kind::send;
    farewell.address = closing_->farewell.data();
    farewell.length = static_cast<std::uint32_t>(closing_->farewell.size());
    farewell.whole = true;
    farewell.chain = &close;
    close.kind = op_kind::close;
    for (Closing::step& each : closing_->steps) {
        each.complete = step_done;
        each.file = &file_;
        each.owner = this;
        each.link = op_link::hard;
    }
    closing_->pending = 2;
    Driver& driver = executor().driver();
    // A peer that does not read could hold the farewell up.
    closing_->grace.owner = this;
    executor().timers().arm(closing_->grace, driver.now() + executor().options().close_grace);
    driver.submit(farewell);
}

void SocketRecord::grace_over(torc::detail::Timer& timer) noexcept {
    SocketRecord& self = *static_cast<Closing::grace_timer&>(timer).owner;
    self.executor().driver().cancel(self.closing_->steps[0]);
}

void SocketRecord::step_done(operation& op) noexcept {
    SocketRecord& self = *static_cast<Closing::step&>(op).owner;
    Closing& closing = *self.closing_;
    const bool short_farewell =
        op.kind == op_kind::send && op.result >= 0 && static_cast<std::uint32_t>(op.result) < op.length;
    if (op.kind == op_kind::send) self.executor().timers().disarm(closing.grace);
    if (op.result < 0 && !closing.error) {
        closing.error = op.result == -ECANCELED ? make_error_code(errc::timed_out) : kernel_code(op.result);
    }
    if (short_farewell) closing.error = op.cancel_requested ? make_error_code(errc::timed_out) : kernel_code(-EPIPE);
    if (--closing.pending == 0) self.close_done(closing.error);
}

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
    Error error{refused_ != errc{} ? make_error_code(refused_) : kernel_code(result), phase::none, "receive"};
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
    const std::error_code code = refused_ != errc{} ? make_error_code(refused_) : kernel_code(operation::result);
    Error error{code, phase::send, "send"};
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
    : operation(what, nullptr, completed), executor_(socket.executor()), socket_(&socket) {}

side_awaitable::~side_awaitable() {
    TORC_ASSERT(state == op_state::idle, "an operation was destroyed while the kernel still worked on it");
}

bool side_awaitable::begin(torc::detail::task_state& task) noexcept {
    task_ = &task;
    refused_ = !socket_->is_open();
    if (refused_ || !enter(task)) return false;
    ++socket_->side_operations_;
    file = &socket_->file_;
    executor_.driver().submit(*this);
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
