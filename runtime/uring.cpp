#include "uring_driver.hpp"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <system_error>

#include <torc/runtime/assert.hpp>

// The io_uring driver.
//
// Theory of operation. One ring; only the executor's thread touches it. A turn moves the queued chains into the
// submission queue, returns freed buffers to the kernel, enters the kernel once (submit, and wait unless told to poll),
// and delivers what is in the completion queue. `user_data` is the address of the operation record: a record can not be
// reused or die before its terminal completion, so a completion always finds its own. Cancel requests carry a tag
// instead; of their own completions only those that found nothing say anything, see below.
//
// A cancel is put into the submission queue at once, so it precedes any later operation that reuses the same record,
// and the kernel, which starts entries in order, can never apply it to the wrong one. It may find nothing although its
// operation is in flight: the next record of a chain begins in the kernel only some time after the one before it has
// ended. So every operation that is to end stays on a list until it has, and is asked for again after a cancel that
// found nothing.
//
// Bounds. A turn submits no more operations than the completion queue has entries, the rest follows in the next one.
// How many wait in the kernel has no bound but memory: a server's idle connections each wait for a request, and one
// that was held back for them would wait for ever. When more of them end at once than the queue takes, the kernel keeps
// the rest (IORING_FEAT_NODROP, Linux 5.5) and gives it out with the next entry, as it does with what multishot
// operations post.

namespace torc::detail {
namespace {

/// How often a shutdown is asked for that no thread could be made for.
constexpr std::uint32_t most_shutdowns = 8;

}  // namespace

io_uring_sqe* UringDriver::entry() noexcept {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    while (sqe == nullptr) {
        io_uring_submit(&ring_);
        sqe = io_uring_get_sqe(&ring_);
    }
    return sqe;
}

/// One poll for all wake-ups: each write completes it once more. Nobody reads the counter.
void UringDriver::watch_wake() noexcept {
    io_uring_sqe* const sqe = entry();
    io_uring_prep_poll_multishot(sqe, wake_fd_, POLLIN);
    sqe->user_data = tag_wake;
}

void UringDriver::wake() noexcept {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(wake_fd_, &one, sizeof one);
}

void UringDriver::cancel_in_flight(operation& op) noexcept {
    if (op.previous == nullptr && op.next == nullptr && cancelling_.first != &op) cancelling_.push(op);
    ask_to_cancel(op);
}

void UringDriver::ask_to_cancel(operation& op) noexcept {
    if (io_uring_sq_space_left(&ring_) == 0) io_uring_submit(&ring_);
    io_uring_sqe* const sqe = io_uring_get_sqe(&ring_);
    if (sqe == nullptr) {
        cancel_missed_ = true;  // the next turn asks again
        return;
    }
    io_uring_prep_cancel(sqe, &op, 0);
    sqe->user_data = tag_cancel;
}

void UringDriver::cancel_again() noexcept {
    cancel_missed_ = false;
    for (operation* op = cancelling_.first; op != nullptr; op = op->next) ask_to_cancel(*op);
}

/// The terminal completion.
void UringDriver::end(operation& op, int result, int buffer_id) noexcept {
    if (op.cancel_requested) cancelling_.remove(op);
    finish(op, result, false, buffer_id);
}

void UringDriver::fill_queue() noexcept {
    unsigned submitted = 0;
    while (operation* const first = peek_queued()) {
        unsigned length = 0;
        for (const operation* op = first; op != nullptr; op = op->chain) ++length;
        TORC_ASSERT(length <= ring_.sq.ring_entries, "a chain is longer than the submission queue");
        if (submitted != 0 && submitted + length > uring_completion_entries) return;
        submitted += length;
        // Links do not span submissions.
        if (io_uring_sq_space_left(&ring_) < length) {
            io_uring_submit(&ring_);
            if (io_uring_sq_space_left(&ring_) < length) return;  // it takes nothing now; the next turn asks again
        }
        if (first->kind == op_kind::shutdown && !first->file->direct) {
            if (!shut_down(*first)) return;
            continue;
        }
        take_queued();
        if (first->kind == op_kind::socket && first->chain != nullptr && free_slots_.empty()) {
            refuse_chain(*first, -EMFILE);
            continue;
        }
        for (operation* op = first; op != nullptr; op = op->chain) {
            start(*op);
            prepare(*op);
        }
    }
}

/// Done here and now: the kernel has a worker thread of the process do it, which there may be no right to. False if it
/// has to wait, because what was submitted before comes first.
bool UringDriver::shut_down(operation& op) noexcept {
    TORC_ASSERT(op.chain == nullptr, "a shutdown stands alone");
    if (io_uring_sq_ready(&ring_) > 0) io_uring_submit(&ring_);
    if (io_uring_sq_ready(&ring_) > 0) return false;
    take_queued();
    start(op);
    end(op, ::shutdown(op.file->value, op.flags) == 0 ? 0 : -errno);
    return true;
}

void UringDriver::prepare(operation& op) noexcept {
    io_uring_sqe* const sqe = entry();
    descriptor* const file = op.file;
    const int fd = file != nullptr ? file->value : -1;
    switch (op.kind) {
        case op_kind::nop: io_uring_prep_nop(sqe); break;
        case op_kind::socket:
            if (chains_open() && !free_slots_.empty()) {
                *file = {free_slots_.back(), true};
                free_slots_.pop_back();
                io_uring_prep_socket_direct(sqe, op.flags, static_cast<int>(op.length), static_cast<int>(op.offset),
                                            static_cast<unsigned>(file->value), 0);
            } else {
                io_uring_prep_socket(sqe, op.flags, static_cast<int>(op.length) | SOCK_CLOEXEC,
                                     static_cast<int>(op.offset), 0);
            }
            break;
        case op_kind::connect: io_uring_prep_connect(sqe, fd, static_cast<sockaddr*>(op.address), op.length); break;
        case op_kind::accept:
            if (op.multishot && can_.multishot_accept) {
                io_uring_prep_multishot_accept(sqe, fd, nullptr, nullptr, SOCK_CLOEXEC);
            } else {
                io_uring_prep_accept(sqe, fd, nullptr, nullptr, SOCK_CLOEXEC);
            }
            break;
        case op_kind::receive:
            if (!op.select_buffer) {
                io_uring_prep_recv(sqe, fd, op.address, op.length, op.flags);
                break;
            }
            io_uring_prep_recv(sqe, fd, nullptr, 0, op.flags);
            if (op.multishot && can_.multishot_receive) sqe->ioprio |= IORING_RECV_MULTISHOT;
            sqe->buf_group = uring_buffer_group;
            break;
        case op_kind::send:
            io_uring_prep_send(sqe, fd, op.address, op.length, op.flags | MSG_NOSIGNAL | (op.whole ? MSG_WAITALL : 0));
            break;
        case op_kind::receive_message:
            io_uring_prep_recvmsg(sqe, fd, static_cast<msghdr*>(op.address), static_cast<unsigned>(op.flags));
            break;
        case op_kind::send_message:
        case op_kind::send_vector:
            io_uring_prep_sendmsg(sqe, fd, static_cast<msghdr*>(op.address),
                                  static_cast<unsigned>(op.flags | MSG_NOSIGNAL | (op.whole ? MSG_WAITALL : 0)));
            break;
        case op_kind::set_option: prepare_option(op, sqe); break;
        case op_kind::poll: io_uring_prep_poll_add(sqe, fd, static_cast<unsigned>(op.flags)); break;
        case op_kind::shutdown: io_uring_prep_shutdown(sqe, fd, op.flags); break;
        case op_kind::close:
            if (file->direct) {
                io_uring_prep_close_direct(sqe, static_cast<unsigned>(fd));
            } else {
                io_uring_prep_close(sqe, fd);
            }
            break;
    }
    const bool fixed = file != nullptr && file->direct && op.kind != op_kind::socket && op.kind != op_kind::close;
    unsigned flags = fixed ? IOSQE_FIXED_FILE : 0U;
    if (op.select_buffer) flags |= IOSQE_BUFFER_SELECT;
    if (op.chain != nullptr) flags |= op.link == op_link::hard ? IOSQE_IO_HARDLINK : IOSQE_IO_LINK;
    sqe->flags |= static_cast<std::uint8_t>(flags);
    sqe->user_data = reinterpret_cast<std::uint64_t>(&op);
}

void UringDriver::prepare_option(operation& op, io_uring_sqe* sqe) noexcept {
    const auto level = static_cast<int>(op.offset >> 32);
    const auto name = static_cast<int>(op.offset & 0xffffffffU);
    if (can_.ring_options) return prepare_setsockopt(sqe, op.file->value, level, name, op.address, op.length);
    // Now, and told with the completion of a nop. What opens the descriptor never stands before it in the chain here.
    op.result = ::setsockopt(op.file->value, level, name, op.address, op.length) == 0 ? 0 : -errno;
    io_uring_prep_nop(sqe);
}

void UringDriver::lend_buffers() noexcept {
    int added = 0;
    const int mask = io_uring_buf_ring_mask(static_cast<std::uint32_t>(buffers_.count()));
    for (int id = buffers_.take(); id >= 0; id = buffers_.take(), ++added) {
        const std::span<std::byte> buffer = buffers_.buffer(static_cast<std::uint16_t>(id));
        io_uring_buf_ring_add(buffer_ring_, buffer.data(), static_cast<unsigned>(buffer.size()),
                              static_cast<std::uint16_t>(id), mask, added);
    }
    if (added > 0) io_uring_buf_ring_advance(buffer_ring_, added);
}

void UringDriver::turn(Clock::time_point deadline) {
    delivered_ = false;
    if (cancel_missed_) cancel_again();
    deadline = serve_waiting(deadline);
    lend_buffers();  // before anything is submitted that could want one
    if (has_queued()) fill_queue();
    enter(delivered_ || has_queued() ? Clock::time_point::min() : deadline);
    deliver();
}

void UringDriver::enter(Clock::time_point deadline) {
    ++statistics_.turns;
    int result = 0;
    if (deadline == Clock::never) {
        result = io_uring_submit_and_wait(&ring_, 1);
    } else if (const Clock::time_point present = deadline == Clock::time_point::min() ? deadline : now();
               deadline <= present || io_uring_cq_ready(&ring_) > 0) {
        // Also when completions are there already (a full submission queue was flushed): the call below would then
        // enter the kernel without asking for events, and with DEFER_TASKRUN that is when it does the work it put off.
        result = io_uring_submit_and_get_events(&ring_);
    } else {
        const Clock::duration left = deadline - present;
        __kernel_timespec limit{};
        limit.tv_sec = std::chrono::duration_cast<std::chrono::seconds>(left).count();
        limit.tv_nsec = (left % std::chrono::seconds{1}).count();
        io_uring_cqe* cqe = nullptr;
        result = io_uring_submit_and_wait_timeout(&ring_, &cqe, 1, &limit, nullptr);
    }
    // ETIME: the deadline. EINTR: a signal; its handler woke us if it had to. EAGAIN, EBUSY: the kernel is short of
    // memory or of completion space for the moment; what was not taken stays in the submission queue for the next turn.
    if (result < 0 && result != -ETIME && result != -EINTR && result != -EAGAIN && result != -EBUSY) {
        throw std::system_error{-result, std::generic_category(), "io_uring_enter"};
    }
}

void UringDriver::deliver() noexcept {
    unsigned head = 0;
    unsigned count = 0;
    io_uring_cqe* cqe = nullptr;
    // Only what is there: io_uring_peek_cqe would enter the kernel for what came meanwhile, which the next turn does.
    io_uring_for_each_cqe(&ring_, head, cqe) {
        ++count;
        if (cqe->user_data > tag_last) {
            deliver(*reinterpret_cast<operation*>(cqe->user_data), cqe->res, cqe->flags);
        } else if (cqe->user_data == tag_wake) {
            if ((cqe->flags & IORING_CQE_F_MORE) == 0) watch_wake();  // the completion queue was full
        } else if (cqe->user_data == tag_cancel && cqe->res == -ENOENT) {
            cancel_missed_ = true;  // it has ended, and is off the list or about to be, or it has not begun
        }
    }
    io_uring_cq_advance(&ring_, count);
}

void UringDriver::deliver(operation& op, int result, unsigned flags) noexcept {
    const bool more = (flags & IORING_CQE_F_MORE) != 0;
    const int buffer_id = (flags & IORING_CQE_F_BUFFER) != 0 ? static_cast<int>(flags >> IORING_CQE_BUFFER_SHIFT) : -1;
    switch (op.kind) {
        case op_kind::socket:
            if (result >= 0 && !op.file->direct) *op.file = {result, false};
            if (result < 0) {
                if (op.file->direct) free_slot(op.file->value);
                *op.file = {};
            }
            break;
        case op_kind::close:
            if (op.file->direct && result != -ECANCELED) free_slot(op.file->value);
            break;
        case op_kind::accept:
        case op_kind::receive: {
            if (!op.multishot) break;
            const bool accepts = op.kind == op_kind::accept;
            bool& supported = accepts ? can_.multishot_accept : can_.multishot_receive;
            if (result == -EINVAL && supported) {
                supported = false;
                return prepare_again(op);
            }
            // It was something else that was wrong with it.
            if (result == -EINVAL) supported = accepts ? may_.multishot_accept : may_.multishot_receive;
            if (!supported && result > 0 && !more && !op.cancel_requested) {
                // Stands in for multishot: deliver, then ask for the next one, unless that was the moment to stop.
                finish(op, result, true, buffer_id);
                return op.cancel_requested ? end(op, -ECANCELED) : prepare_again(op);
            }
            break;
        }
        case op_kind::connect:
            // One that waits on a thread of the kernel, as for room in a unix socket's backlog, is interrupted.
            if (result == -EINTR && op.cancel_requested) result = -ECANCELED;
            break;
        case op_kind::set_option:
            if (!can_.ring_options && result == 0) result = op.result;
            break;
        case op_kind::shutdown:
            // Nobody cancelled it: there was no thread to do it. Signals may have kept the kernel from making one.
            if (result != -ECANCELED || op.cancel_requested) break;
            if (++op.done_bytes < most_shutdowns) return prepare_again(op);
            result = -EAGAIN;
            break;
        default: break;
    }
    if (more) return finish(op, result, true, buffer_id);
    end(op, result, buffer_id);
}

}  // namespace torc::detail
