#include <torc/runtime/driver.hpp>

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <mutex>
#include <utility>

#include <torc/runtime/assert.hpp>
#include <torc/runtime/error.hpp>

#include "drivers.hpp"

// Theory of operation. What all drivers share: the queue of submitted chains (linked by `next` through their first
// records, so that a chain is started whole or not at all), the receives that wait for a buffer, the one place where an
// operation ends, and the choice of driver at the start of an executor.
//
// When all buffers are lent, a receive that waits for the next one is cheaper than one with memory of its own: less is
// under way at once, and it stays in the cache. But who has the buffers may keep them, say for a peer that does not
// read. So no more receives wait than have a prospect of a buffer, going by how many were given back of late.

namespace torc {
namespace {

/// How long busy tasks may keep a driver from its turn.
constexpr Clock::duration longest_busy = std::chrono::microseconds{20};

/// In what time buffers given back are counted.
constexpr Clock::duration lately = std::chrono::milliseconds{2};

/// Receives that cease to wait for a buffer in one turn, because few come back: each is going to bring its own memory.
constexpr std::size_t most_let_go = 16;

}  // namespace

const char* to_string(op_kind kind) noexcept {
    switch (kind) {
        case op_kind::nop: return "nop";
        case op_kind::socket: return "socket";
        case op_kind::connect: return "connect";
        case op_kind::accept: return "accept";
        case op_kind::receive: return "receive";
        case op_kind::send:
        case op_kind::send_vector: return "send";
        case op_kind::receive_message: return "receive message";
        case op_kind::send_message: return "send message";
        case op_kind::set_option: return "set option";
        case op_kind::poll: return "poll";
        case op_kind::shutdown: return "shutdown";
        case op_kind::close: return "close";
    }
    return "unknown operation";
}

Clock::time_point Driver::now() const noexcept {
    return Clock::time_point{std::chrono::steady_clock::now().time_since_epoch()};
}

Clock::time_point Driver::roughly_now() const noexcept {
    timespec time{};
    ::clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
    return Clock::time_point{std::chrono::seconds{time.tv_sec} + std::chrono::nanoseconds{time.tv_nsec}};
}

void Driver::submit(operation& first) noexcept {
    for (operation* op = &first; op != nullptr; op = op->chain) {
        TORC_ASSERT(op->state == op_state::idle, "an operation record was submitted again before its last completion");
        op->state = op_state::queued;
        op->cancel_requested = false;
        op->done_bytes = 0;
    }
    queue(first);
    if (hears_submissions_) submitted(first);
}

void Driver::queue(operation& first) noexcept {
    first.state = op_state::queued;
    first.next = nullptr;
    (queue_tail_ != nullptr ? queue_tail_->next : queue_head_) = &first;
    queue_tail_ = &first;
}

bool Driver::submit_when_lent(operation& op) noexcept {
    TORC_ASSERT(op.state == op_state::idle && op.select_buffer && op.chain == nullptr,
                "only a receive that borrows waits for a buffer");
    if (buffers_.lent() == buffers_.count()) {
        count_given_back(now());
        if (statistics_.waiting_for_buffer >= most_waiting()) return false;
    }
    op.state = op_state::waiting_for_buffer;
    op.cancel_requested = false;
    waiting_.push(op);
    ++statistics_.waiting_for_buffer;
    return true;
}

bool Driver::due() noexcept {
    const Clock::time_point present = now();
    // In a simulation time goes on only in turns.
    if (present < due_at_ && !has_queued() && !simulated()) return false;
    due_at_ = present + longest_busy;
    return true;
}

void Driver::count_given_back(Clock::time_point present) noexcept {
    const Clock::duration passed = present - counted_at_;
    if (passed < lately) return;
    const std::uint64_t before = std::exchange(counted_, buffers_.returned());
    given_back_lately_ =
        (counted_ - before) * static_cast<std::uint64_t>(lately.count()) / static_cast<std::uint64_t>(passed.count());
    counted_at_ = present;
}

void Driver::stop_waiting(operation& op) noexcept {
    waiting_.remove(op);
    --statistics_.waiting_for_buffer;
    queue(op);
}

Clock::time_point Driver::serve_those_waiting(Clock::time_point deadline) noexcept {
    count_given_back(now());
    const std::size_t waiting = statistics_.waiting_for_buffer;
    const std::size_t lendable = buffers_.count() - buffers_.lent();
    const std::size_t hopeful = lendable + most_waiting();
    const std::size_t hopeless = waiting > hopeful ? waiting - hopeful : 0;
    // They come before what was submitted since, which would take the buffers away from them.
    operation* const others = std::exchange(queue_head_, nullptr);
    operation* const last_other = std::exchange(queue_tail_, nullptr);
    for (std::size_t count = lendable + std::min(hopeless, most_let_go); count > 0 && !waiting_.empty(); --count) {
        stop_waiting(*waiting_.first);
    }
    if (others != nullptr) {
        (queue_tail_ != nullptr ? queue_tail_->next : queue_head_) = others;
        queue_tail_ = last_other;
    }
    if (waiting_.empty()) return deadline;
    // Not all of them may need the buffer they were called for: those behind them are looked at again at once.
    const bool again = lendable > 0 || hopeless > most_let_go;
    return again ? Clock::time_point::min() : std::min(deadline, counted_at_ + lately);
}

void Driver::submitted(operation&) noexcept {}

void Driver::cancel(operation& op) noexcept {
    if (op.state == op_state::idle) return;
    if (!op.cancel_requested) ++statistics_.cancels_requested;
    op.cancel_requested = true;
    if (op.state == op_state::waiting_for_buffer) stop_waiting(op);
    if (op.state == op_state::in_flight) cancel_in_flight(op);
}

operation* Driver::peek_queued() noexcept {
    while (queue_head_ != nullptr) {
        operation& head = *queue_head_;
        if (fail_at_ > statistics_.submitted && failing_ == nullptr) choose_failing(head);
        int result = head.cancel_requested ? -ECANCELED : 0;
        if (&head == failing_ && head.kind != op_kind::close) result = -failure_;
        const bool survives = head.link == op_link::hard && head.chain != nullptr;
        if (result != 0 && survives) {
            // What follows a hard link runs whatever became of this one: a close must not fall with its farewell.
            operation& following = *head.chain;
            following.next = head.next;
            if (queue_tail_ == &head) queue_tail_ = &following;
            queue_head_ = &following;
            start(head);
            finish(head, result);
            continue;
        }
        for (const operation* op = head.chain; op != nullptr && result == 0; op = op->chain) {
            if (op->cancel_requested) result = -ECANCELED;
        }
        if (result == 0) return &head;
        refuse_chain(*take_queued(), result);
    }
    return nullptr;
}

/// Finds out whether one of a chain's records is the one that is to fail.
void Driver::choose_failing(operation& first) noexcept {
    std::uint64_t number = statistics_.submitted;
    for (operation* op = &first; op != nullptr; op = op->chain) {
        if (++number != fail_at_) continue;
        failure_ = fail_with_(op->kind);
        if (failure_ != 0) failing_ = op;
    }
}

void Driver::refuse_chain(operation& first, int result) noexcept {
    for (operation* op = &first; op != nullptr; result = -ECANCELED) {
        operation* const following = op->chain;
        start(*op);
        finish(*op, result);
        op = following;
    }
}

operation* Driver::take_queued() noexcept {
    operation* const first = queue_head_;
    queue_head_ = first->next;
    if (queue_head_ == nullptr) queue_tail_ = nullptr;
    return first;
}

void Driver::start(operation& op) noexcept {
    op.next = op.previous = nullptr;
    op.state = op_state::in_flight;
    ++statistics_.in_flight;
    ++statistics_.submitted;
}

void Driver::finish(operation& op, int result, bool more, int buffer_id) noexcept {
    if (&op == failing_ && !more) {
        failing_ = nullptr;
        result = -failure_;
    }
    op.result = result;
    op.more = more;
    op.buffer_id = buffer_id;
    delivered_ = true;
    ++statistics_.completions;
    if ((op.kind == op_kind::socket || op.kind == op_kind::accept) && result >= 0) ++statistics_.open_descriptors;
    if (op.kind == op_kind::close && result != -ECANCELED) {
        *op.file = {};
        --statistics_.open_descriptors;
    }
    if (result == -ENOBUFS && op.select_buffer) ++statistics_.buffers_starved;
    if (!more) {
        op.state = op_state::idle;
        --statistics_.in_flight;
        if (op.cancel_requested) ++(result == -ECANCELED ? statistics_.cancels_landed : statistics_.cancels_too_late);
    }
    op.complete(op);
}

operation* Driver::finish_linked(operation& op, int result, int buffer_id) noexcept {
    operation* following = op.chain;
    bool broken = op.link == op_link::soft && result < 0;
    finish(op, result, false, buffer_id);
    while (following != nullptr && (broken || following->cancel_requested)) {
        operation& skipped = *following;
        following = skipped.chain;
        broken = broken || skipped.link == op_link::soft;
        finish(skipped, -ECANCELED);
    }
    return following;
}

namespace {

int set_flag(int fd, int level, int name) noexcept {
    const int on = 1;
    return ::setsockopt(fd, level, name, &on, sizeof on);
}

/// Negative errno of the first step that failed.
int bind_opened(int fd, const binding& what) noexcept {
    const bool unix_socket = what.address->sa_family == AF_UNIX;
    if (what.reuse_address && !unix_socket && set_flag(fd, SOL_SOCKET, SO_REUSEADDR) != 0) return -errno;
    if (what.reuse_port && set_flag(fd, SOL_SOCKET, SO_REUSEPORT) != 0) return -errno;
    if (what.v6_only && what.address->sa_family == AF_INET6 && set_flag(fd, IPPROTO_IPV6, IPV6_V6ONLY) != 0) {
        return -errno;
    }
    if (what.unlink_first && unix_socket) {
        const char* const path = reinterpret_cast<const sockaddr_un*>(what.address)->sun_path;
        if (*path != '\0') ::unlink(path);
    }
    if (::bind(fd, what.address, what.address_bytes) != 0) return -errno;
    return what.backlog != 0 && ::listen(fd, what.backlog) != 0 ? -errno : 0;
}

}  // namespace

int Driver::bind(const binding& what, descriptor& file) noexcept {
    const int fd = ::socket(what.address->sa_family, what.type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -errno;
    if (const int failed = bind_opened(fd, what); failed != 0) {
        ::close(fd);
        return failed;
    }
    file = {fd, false};
    opened_outside();
    return 0;
}

int Driver::local_address(const descriptor& file, sockaddr* address, std::uint32_t* address_bytes) const noexcept {
    if (!file.open() || file.direct) return -EBADF;
    return ::getsockname(file.value, address, address_bytes) == 0 ? 0 : -errno;
}

int Driver::peer_address(const descriptor& file, sockaddr* address, std::uint32_t* address_bytes) const noexcept {
    if (!file.open() || file.direct) return -EBADF;
    return ::getpeername(file.value, address, address_bytes) == 0 ? 0 : -errno;
}

int Driver::set_option(const descriptor& file, int level, int name, int value) noexcept {
    return ::setsockopt(file.value, level, name, &value, sizeof value) == 0 ? 0 : -errno;
}

int Driver::source_address(const sockaddr* to, std::uint32_t to_bytes, sockaddr* address,
                           std::uint32_t* address_bytes) noexcept {
    // Connecting a datagram socket sends nothing; it asks the routing table.
    const int fd = ::socket(to->sa_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    const bool found = ::connect(fd, to, to_bytes) == 0 && ::getsockname(fd, address, address_bytes) == 0;
    const int failed = found ? 0 : -errno;
    ::close(fd);
    return failed;
}

void Driver::discard(descriptor& file) noexcept {
    TORC_ASSERT(file.open() && !file.direct, "what is no descriptor of the process can not be discarded");
    close_now(file);
    file = {};
    --statistics_.open_descriptors;
}

void Driver::close_now(const descriptor& file) noexcept { ::close(file.value); }

name_answer Driver::look_up(std::string_view, int) { TORC_ASSERT(false, "this driver has no names of its own"); }
void Driver::fill_random(std::span<std::byte>) noexcept { TORC_ASSERT(false, "this driver has no randomness"); }

namespace {

driver_kind kind_from_environment(driver_kind wanted) {
    const char* const name = std::getenv("TORC_DRIVER");
    if (wanted != driver_kind::automatic || name == nullptr || *name == '\0') return wanted;
    const std::string_view text = name;
    if (text == "uring") return driver_kind::uring;
    if (text == "epoll") return driver_kind::epoll;
    if (text == "sim") return driver_kind::sim;
    throw Error{errc::invalid_argument, phase::none, "",
                "TORC_DRIVER is \"" + std::string{text} + "\"; it can be uring, epoll or sim"};
}

}  // namespace

std::unique_ptr<Driver> make_driver(const DriverOptions& options) {
    const driver_kind kind = kind_from_environment(options.kind);
    if (kind == driver_kind::epoll) return detail::make_epoll_driver(options);
    if (kind == driver_kind::sim) return detail::make_sim_driver(options);
    std::string why_not;
    if (auto uring = detail::make_uring_driver(options, why_not)) return uring;
    if (kind == driver_kind::uring) {
        throw Error{errc::unsupported, phase::none, "", "io_uring was asked for but can not be used: " + why_not};
    }
    static std::once_flag said;
    std::call_once(said, [&] {
        std::fprintf(stderr, "torc: running on epoll, because io_uring can not be used: %s\n", why_not.c_str());
    });
    return detail::make_epoll_driver(options);
}

}  // namespace torc
