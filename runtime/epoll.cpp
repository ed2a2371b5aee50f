#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>
#include <new>
#include <optional>
#include <system_error>
#include <vector>

#include <torc/runtime/assert.hpp>
#include <torc/runtime/error.hpp>

#include "drivers.hpp"

// The epoll driver: the same operations, emulated by readiness.
//
// Theory of operation. An operation is tried at once; if it would block it waits in its descriptor's list of readers or
// writers until an edge arrives, and is tried again. A descriptor is registered once, edge-triggered for both
// directions, when its first operation has to wait; closing it ends the registration. Descriptors that are not ours
// (`poll`) are deregistered as soon as nothing waits on them, because their owner may close them behind our back.
//
// Sockets are non-blocking, opened so or made so by accept. The records of a chain run one after the other: a failed
// soft link ends the rest with ECANCELED, as in the kernel. Cancelled records are taken off their list at once and
// finished in the next turn, so that here too `complete` is called only from a turn.

namespace torc::detail {
namespace {

struct FileState {
    operation_list read;
    operation_list write;
    bool registered = false;
    bool more = false;  // an end, an error or urgent bytes were announced: a short receive did not take all there is
};

/// Few, so that what is received in a turn, and the frames of those that wait for it, are still in the cache when its
/// tasks send their answers.
constexpr std::size_t most_events = 16;

constexpr std::size_t block_files = 64;
using FileBlock = std::array<FileState, block_files>;

class EpollDriver final : public Driver {
   public:
    explicit EpollDriver(const DriverOptions& options);
    ~EpollDriver() override;

    void turn(Clock::time_point deadline) override;
    void wake() noexcept override;
    [[nodiscard]] std::string_view name() const noexcept override { return "epoll"; }
    [[nodiscard]] bool chains_open() const noexcept override { return true; }

   private:
    void cancel_in_flight(operation& op) noexcept override;

    void run(operation& op) noexcept;
    void end(operation& op, int result, int buffer_id = -1) noexcept;
    std::optional<int> attempt(operation& op, int& buffer_id) noexcept;
    std::optional<int> attempt_accept(operation& op) noexcept;
    std::optional<int> attempt_receive(operation& op, int& buffer_id) noexcept;
    std::optional<int> attempt_send(operation& op) noexcept;
    void retry(operation_list& waiters) noexcept;
    void wait_for(operation& op) noexcept;
    void forget(int fd) noexcept;
    int wait_events(Clock::time_point deadline);

    /// What is waiting on a descriptor; null if nothing ever has.
    [[nodiscard]] FileState* known_state_of(int fd) noexcept {
        const auto index = static_cast<std::size_t>(fd);
        return index / block_files < files_.size() ? &(*files_[index / block_files])[index % block_files] : nullptr;
    }
    [[nodiscard]] FileState& state_of(int fd) {
        FileState* known = known_state_of(fd);
        for (; known == nullptr; known = known_state_of(fd)) files_.push_back(std::make_unique<FileBlock>());
        return *known;
    }

    int epoll_fd_ = -1;
    int wake_fd_ = -1;
    bool nanoseconds_ = true;                        // epoll_pwait2, Linux 5.11
    std::vector<std::unique_ptr<FileBlock>> files_;  // blocks: growing moves no list, for they are worked on meanwhile
    operation_list cancelled_;
    std::array<epoll_event, most_events> events_{};
};

bool writes(const operation& op) noexcept {
    switch (op.kind) {
        case op_kind::connect:
        case op_kind::send:
        case op_kind::send_message:
        case op_kind::send_vector: return true;
        case op_kind::poll: return (op.flags & POLLIN) == 0;
        default: return false;
    }
}

bool refuses_to_wait(const operation& op) noexcept {
    return (op.flags & MSG_DONTWAIT) != 0 && op.kind != op_kind::poll;
}

/// A call's return value the way the kernel gives it in a completion; nothing when it would block.
std::optional<int> result_of(std::ptrdiff_t returned) noexcept {
    if (returned >= 0) return static_cast<int>(returned);
    if (errno == EAGAIN) return std::nullopt;
    return -errno;
}

template <class Call>
std::optional<int> uninterrupted(Call call) noexcept {
    std::ptrdiff_t returned = call();
    while (returned < 0 && errno == EINTR) returned = call();
    return result_of(returned);
}

/// Which of these events there are now, 0 for none, or -errno. A signal interrupts poll even where it does not wait;
/// the edge that this is asked after would be lost with it.
int readiness(int fd, short events) noexcept {
    pollfd state{.fd = fd, .events = events, .revents = 0};
    const std::optional<int> count = uninterrupted([&state] { return ::poll(&state, 1, 0); });
    return count && *count < 0 ? *count : state.revents;
}

EpollDriver::EpollDriver(const DriverOptions& options)
    : Driver(options), epoll_fd_(::epoll_create1(EPOLL_CLOEXEC)), wake_fd_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
    epoll_event event{.events = EPOLLIN | EPOLLET, .data = {.fd = wake_fd_}};
    if (epoll_fd_ < 0 || wake_fd_ < 0 || ::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, wake_fd_, &event) != 0) {
        const int error = errno;
        if (epoll_fd_ >= 0) ::close(epoll_fd_);
        if (wake_fd_ >= 0) ::close(wake_fd_);
        throw Error{std::error_code{error, std::generic_category()}, phase::none, "epoll"};
    }
}

EpollDriver::~EpollDriver() {
    TORC_ASSERT(statistics_.in_flight == 0, "an executor was destroyed with operations in flight");
    ::close(epoll_fd_);
    ::close(wake_fd_);
}

/// Nobody reads the counter: with EPOLLET each write is an event of its own.
void EpollDriver::wake() noexcept {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(wake_fd_, &one, sizeof one);
}

void EpollDriver::cancel_in_flight(operation& op) noexcept {
    // A follower of a chain that is not its turn yet is in no list; it falls with the record before it.
    if (op.file == nullptr || op.file->value < 0) return;
    FileState* const state = known_state_of(op.file->value);
    if (state == nullptr) return;
    operation_list& waiters = writes(op) ? state->write : state->read;
    const operation* at = waiters.first;
    while (at != nullptr && at != &op) at = at->next;
    if (at == nullptr) return;
    waiters.remove(op);
    cancelled_.push(op);
}

void EpollDriver::turn(Clock::time_point deadline) {
    delivered_ = false;
    deadline = serve_waiting(deadline);
    while (operation* const first = peek_queued()) {
        take_queued();
        for (operation* op = first; op != nullptr; op = op->chain) start(*op);
        run(*first);
    }
    while (!cancelled_.empty()) {
        operation& op = *cancelled_.first;
        cancelled_.remove(op);
        if (op.kind == op_kind::poll) forget(op.file->value);
        // What a `whole` send already gave away is its result; the bytes can not be taken back.
        end(op, op.done_bytes > 0 && op.kind == op_kind::send ? static_cast<int>(op.done_bytes) : -ECANCELED);
    }
    const int count = wait_events(delivered_ ? Clock::time_point::min() : deadline);
    for (int index = 0; index < count; ++index) {
        const epoll_event& event = events_[static_cast<std::size_t>(index)];
        if (event.data.fd == wake_fd_) continue;
        constexpr std::uint32_t for_both = EPOLLERR | EPOLLHUP;
        FileState& state = state_of(event.data.fd);
        if ((event.events & (EPOLLRDHUP | EPOLLPRI | for_both)) != 0) state.more = true;
        if ((event.events & (EPOLLIN | EPOLLRDHUP | EPOLLPRI | for_both)) != 0) retry(state.read);
        if ((event.events & (EPOLLOUT | for_both)) != 0) retry(state.write);
    }
}

int EpollDriver::wait_events(Clock::time_point deadline) {
    ++statistics_.turns;
    const bool timed = deadline != Clock::never && deadline != Clock::time_point::min();
    const Clock::time_point present = timed ? now() : deadline;
    const Clock::duration left = deadline > present ? deadline - present : Clock::duration::zero();
    const int most = static_cast<int>(events_.size());
    int count = -1;
    if (nanoseconds_) {
        const timespec limit{.tv_sec = left / std::chrono::seconds{1},
                             .tv_nsec = (left % std::chrono::seconds{1}).count()};
        count = ::epoll_pwait2(epoll_fd_, events_.data(), most, deadline == Clock::never ? nullptr : &limit, nullptr);
        if (count < 0 && (errno == ENOSYS || errno == EPERM)) nanoseconds_ = false;
    }
    if (!nanoseconds_) {
        const auto limit = std::chrono::ceil<std::chrono::milliseconds>(left).count();
        count = ::epoll_wait(epoll_fd_, events_.data(), most,
                             deadline == Clock::never ? -1 : static_cast<int>(std::min<std::int64_t>(limit, 1 << 30)));
    }
    if (count < 0 && errno != EINTR) throw std::system_error{errno, std::generic_category(), "epoll_wait"};
    return count;
}

void EpollDriver::retry(operation_list& waiters) noexcept {
    // Completions only make tasks ready, so nothing joins the list meanwhile but what waits again at its end.
    const operation* const last = waiters.last;
    for (operation* op = waiters.first; op != nullptr;) {
        operation* const following = op == last ? nullptr : op->next;
        waiters.remove(*op);
        run(*op);
        op = following;
    }
}

/// Tries an operation; it ends, or waits for an edge.
void EpollDriver::run(operation& op) noexcept {
    int buffer_id = -1;
    const std::optional<int> result = attempt(op, buffer_id);
    if (result) {
        end(op, *result, buffer_id);
    } else if (refuses_to_wait(op)) {
        end(op, op.done_bytes > 0 ? static_cast<int>(op.done_bytes) : -EAGAIN);
    } else {
        wait_for(op);
    }
}

/// Ends one record and goes on with its chain.
void EpollDriver::end(operation& op, int result, int buffer_id) noexcept {
    operation* const following = finish_linked(op, result, buffer_id);
    if (following != nullptr) run(*following);
}

void EpollDriver::wait_for(operation& op) noexcept {
    if (op.cancel_requested) {
        cancelled_.push(op);
        return;
    }
    const int fd = op.file->value;
    FileState* found = nullptr;
    try {
        found = &state_of(fd);
    } catch (const std::bad_alloc&) {
        return end(op, -ENOMEM);
    }
    FileState& state = *found;
    (writes(op) ? state.write : state.read).push(op);
    if (state.registered) return;
    epoll_event event{.events = EPOLLIN | EPOLLPRI | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data = {.fd = fd}};
    if (::epoll_ctl(epoll_fd_, EPOLL_CTL_ADD, fd, &event) == 0 || errno == EEXIST) {
        state.registered = true;
        return;
    }
    const int error = errno;
    (writes(op) ? state.write : state.read).remove(op);
    end(op, -error);
}

/// Ends the registration of a descriptor that is not ours once nothing waits on it.
void EpollDriver::forget(int fd) noexcept {
    FileState* const state = known_state_of(fd);
    if (state == nullptr || !state->registered || !state->read.empty() || !state->write.empty()) return;
    ::epoll_ctl(epoll_fd_, EPOLL_CTL_DEL, fd, nullptr);
    state->registered = state->more = false;
}

std::optional<int> EpollDriver::attempt(operation& op, int& buffer_id) noexcept {
    const int fd = op.file != nullptr ? op.file->value : -1;
    switch (op.kind) {
        case op_kind::nop: return 0;
        case op_kind::socket: {
            const int type = static_cast<int>(op.length) | SOCK_NONBLOCK | SOCK_CLOEXEC;
            const int opened = ::socket(op.flags, type, static_cast<int>(op.offset));
            if (opened < 0) return -errno;
            *op.file = {opened, false};
            return 0;
        }
        case op_kind::connect: {
            if (op.done_bytes == 0) {
                if (::connect(fd, static_cast<const sockaddr*>(op.address), op.length) == 0) return 0;
                if (errno != EINPROGRESS && errno != EINTR) return -errno;
                op.done_bytes = 1;  // begun
            }
            const int ready = readiness(fd, POLLOUT);
            if (ready == 0) return std::nullopt;
            if (ready < 0) return ready;
            int error = 0;
            socklen_t size = sizeof error;
            ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size);
            return -error;
        }
        case op_kind::accept: return attempt_accept(op);
        case op_kind::receive: return attempt_receive(op, buffer_id);
        case op_kind::send: return attempt_send(op);
        case op_kind::receive_message:
            return uninterrupted(
                [&] { return ::recvmsg(fd, static_cast<msghdr*>(op.address), op.flags | MSG_DONTWAIT); });
        case op_kind::send_message:
        case op_kind::send_vector:
            return uninterrupted([&] {
                return ::sendmsg(fd, static_cast<msghdr*>(op.address), op.flags | MSG_NOSIGNAL | MSG_DONTWAIT);
            });
        case op_kind::set_option:
            return ::setsockopt(fd, static_cast<int>(op.offset >> 32), static_cast<int>(op.offset & 0xffffffffU),
                                op.address, op.length) == 0
                       ? 0
                       : -errno;
        case op_kind::poll: {
            const int ready = readiness(fd, static_cast<short>(op.flags));
            if (ready == 0) return std::nullopt;
            forget(fd);
            return ready;
        }
        case op_kind::shutdown: return ::shutdown(fd, op.flags) == 0 ? 0 : -errno;
        case op_kind::close: {
            if (FileState* const state = known_state_of(fd)) state->registered = state->more = false;
            return ::close(fd) == 0 ? 0 : -errno;
        }
    }
    return -EINVAL;
}

std::optional<int> EpollDriver::attempt_accept(operation& op) noexcept {
    for (;;) {
        const int accepted = ::accept4(op.file->value, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (accepted < 0) {
            if (errno == EAGAIN) return std::nullopt;
            if (errno == EINTR || errno == ECONNABORTED) continue;
            return -errno;
        }
        if (!op.multishot) return accepted;
        finish(op, accepted, true);
        if (op.cancel_requested) return -ECANCELED;
    }
}

std::optional<int> EpollDriver::attempt_receive(operation& op, int& buffer_id) noexcept {
    const int flags = op.flags | MSG_DONTWAIT;
    if (!op.select_buffer) {
        return uninterrupted([&] { return ::recv(op.file->value, op.address, op.length, flags); });
    }
    for (;;) {
        const int id = buffers_.take();
        if (id < 0) return -ENOBUFS;
        const std::span<std::byte> buffer = buffers_.buffer(static_cast<std::uint16_t>(id));
        const auto result = uninterrupted([&] { return ::recv(op.file->value, buffer.data(), buffer.size(), flags); });
        if (!result || *result <= 0) {
            buffers_.give_back(static_cast<std::uint16_t>(id));
            return result;
        }
        if (!op.multishot) {
            buffer_id = id;
            return result;
        }
        const bool all_of_it = static_cast<std::size_t>(*result) < buffer.size();
        finish(op, *result, true, id);
        if (op.cancel_requested) return -ECANCELED;
        // What was short took all there was, but for what is behind urgent bytes; for more there will be an edge.
        const FileState* const state = known_state_of(op.file->value);
        if (all_of_it && state != nullptr && !state->more) return std::nullopt;
    }
}

std::optional<int> EpollDriver::attempt_send(operation& op) noexcept {
    const auto* const bytes = static_cast<const std::byte*>(op.address);
    for (;;) {
        const auto result = uninterrupted([&] {
            return ::send(op.file->value, bytes + op.done_bytes, op.length - op.done_bytes,
                          op.flags | MSG_NOSIGNAL | MSG_DONTWAIT);
        });
        if (!result) return std::nullopt;
        if (*result < 0) return op.done_bytes > 0 ? static_cast<int>(op.done_bytes) : *result;
        op.done_bytes += static_cast<std::uint32_t>(*result);
        if (!op.whole || op.done_bytes == op.length) return static_cast<int>(op.done_bytes);
    }
}

}  // namespace

std::unique_ptr<Driver> make_epoll_driver(const DriverOptions& options) {
    return std::make_unique<EpollDriver>(options);
}

}  // namespace torc::detail
