#include <torc/net/listener.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <new>

#include "bound_socket.hpp"

// Theory of operation. The accept is multishot and stays armed while somebody accepts from time to time: descriptors
// come without being asked for again and wait in a queue, so a cancelled accept loses none. When too many wait, the
// accept is cancelled and further connections stay in the kernel's backlog, where they belong. Opening the socket waits
// for nothing.

namespace torc::net {
namespace {

constexpr std::size_t most_queued = 64;

}  // namespace

ListenerRecord::ListenerRecord(Executor& executor, const descriptor& file, const Address& local, bool no_delay) noexcept
    : close_record(executor),
      file_(file),
      local_(local),
      no_delay_(no_delay && !local.is_unix()),
      accept_(op_kind::accept, &file_, accepted),
      close_(op_kind::close, &file_, closed) {
    accept_.owner = close_.owner = this;
    accept_.multishot = true;
}

TcpListener TcpListener::bind(const Address& address, const ListenOptions& options) {
    Executor& executor = Executor::here();
    const bool unlinks = options.unlink_first && address.is_unix() && !address.path().starts_with('@');
    BoundSocket bound = bind_socket(executor.driver(), address, "listen",
                                    {.type = SOCK_STREAM,
                                     .backlog = std::max(options.backlog, 1),
                                     .reuse_address = true,
                                     .reuse_port = options.reuse_port,
                                     .v6_only = options.v6_only,
                                     .unlink_first = unlinks});
    return TcpListener{take_over<ListenerRecord>(executor, bound.file, bound.local, options.no_delay)};
}

void ListenerRecord::arm() noexcept {
    if (accept_.state != op_state::idle) return;
    failure_ = 0;
    executor().driver().submit(accept_);
}

void ListenerRecord::accepted(operation& op) noexcept {
    ListenerRecord& self = *static_cast<owned_operation&>(op).owner;
    if (op.result >= 0) {
        try {
            self.queued_.push_back(op.result);
        } catch (const std::bad_alloc&) {
            descriptor refused{op.result, false};
            self.executor().driver().discard(refused);
            self.failure_ = -ENOMEM;
        }
    } else if (op.result != -ECANCELED) {
        self.failure_ = op.result;
    }
    if (!self.is_open()) {
        // On the account of the task that closes us, which can not end before we are closed.
        torc::detail::task_state* const before = self.executor().set_running(self.account());
        self.close_queued();
        self.executor().set_running(before);
        if (!op.more) self.submit_close();
        return;
    }
    if (self.waiter_ != nullptr && !self.waiter_->woken_) {
        if (self.has_queued() || self.failure_ != 0) {
            self.waiter_->woken_ = true;
            self.waiter_->ready();
        } else if (!op.more) {
            self.arm();
        }
    }
    if (op.more && self.queued_.size() - self.first_queued_ >= most_queued && !op.cancel_requested) {
        self.executor().driver().cancel(op);
    }
}

int ListenerRecord::take_queued() noexcept {
    const int fd = queued_[first_queued_++];
    if (!has_queued()) {
        queued_.clear();
        first_queued_ = 0;
    }
    return fd;
}

void ListenerRecord::close_queued() noexcept {
    while (has_queued()) {
        try {
            static_cast<void>(TcpStream::adopt(executor(), {take_queued(), false}));
        } catch (const std::bad_alloc&) {
            // It is closed all the same.
        }
    }
}

void ListenerRecord::start_close() noexcept {
    if (waiter_ != nullptr) {
        waiter_->refused_ = errc::closed;
        if (!waiter_->woken_) waiter_->ready();
        waiter_ = nullptr;
    }
    close_queued();
    if (accept_.state == op_state::idle) {
        submit_close();
    } else {
        executor().driver().cancel(accept_);
    }
}

void ListenerRecord::submit_close() noexcept { executor().driver().submit(close_); }

void ListenerRecord::closed(operation& op) noexcept {
    ListenerRecord& self = *static_cast<owned_operation&>(op).owner;
    self.close_done(op.result < 0 ? std::error_code{-op.result, std::generic_category()} : std::error_code{});
}

bool accept_awaitable::begin(torc::detail::task_state& task) noexcept {
    task_ = &task;
    if (listener_ == nullptr || !listener_->is_open()) {
        refused_ = errc::closed;
    } else if (listener_->waiter_ != nullptr) {
        refused_ = errc::busy;
    }
    if (refused_ != errc{} || !enter(task)) return false;
    if (listener_->has_queued()) {
        leave();
        return false;
    }
    listener_->waiter_ = this;
    listener_->arm();
    return true;
}

void accept_awaitable::cancel() noexcept {
    listener_->waiter_ = nullptr;
    end_cancelled();
}

torc::result<TcpStream> accept_awaitable::take() {
    if (refused_ != errc{}) return std::unexpected{Error{refused_, phase::none, "accept"}};
    throw_if_cancelled();
    ListenerRecord& listener = *listener_;
    if (listener.waiter_ == this) listener.waiter_ = nullptr;
    if (!listener.has_queued()) {
        return std::unexpected{error_from_result(std::exchange(listener.failure_, 0), phase::none, "accept")};
    }
    const descriptor accepted{listener.take_queued(), false};
    if (listener.no_delay_) listener.executor().driver().set_option(accepted, IPPROTO_TCP, TCP_NODELAY, 1);
    return TcpStream::adopt(listener.executor(), accepted);
}

TcpStream accept_awaitable::await_resume() {
    auto taken = take();
    if (!taken) torc::detail::throw_error(std::move(taken).error(), task_);
    return std::move(*taken);
}

}  // namespace torc::net
