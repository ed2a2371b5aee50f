#include <torc/net/socket.hpp>

#include <array>
#include <cerrno>

// Theory of operation. Four things can be in flight on a socket: the record's borrowing receive, a receive into a
// caller's memory, a send from it, and operations beside them, such as a shutdown. The first outlives waits: cancelling
// a task that waits for a slice only takes it off the socket, and what arrives later is there for the next one, so a
// cancel can never lose bytes. The others end with their await.
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

}  // namespace torc::net
