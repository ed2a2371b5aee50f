#include <liburing.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <system_error>
#include <utility>
#include <vector>

#include <torc/runtime/assert.hpp>

#include "drivers.hpp"

// The io_uring driver.
//
// Theory of operation. One ring; only the executor's thread touches it. A turn moves the queued chains into the
// submission queue, returns freed buffers to the kernel, enters the kernel once (submit, and wait unless told to poll),
// and delivers what is in the completion queue. `user_data` is the address of the operation record: a record can not be
// reused or die before its terminal completion, so a completion always finds its own. Cancel requests carry a tag
// instead; their own completions prove nothing and are dropped.
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
//
// What the kernel can do is found out by trying it: set-up flags are dropped until one set is accepted, opcodes are
// probed, a multishot operation that is refused is repeated in single shots for good. Needs Linux 5.19 (socket,
// provided-buffer rings, sparse descriptor tables); every step down is one `if` here and invisible above.

namespace torc::detail {
namespace {

// Newer than liburing 2.3's headers; values from include/uapi/linux/io_uring.h.
constexpr unsigned setup_single_issuer = 1U << 12;  // 6.0
constexpr unsigned setup_defer_taskrun = 1U << 13;  // 6.1
constexpr unsigned setup_submit_all = 1U << 7;      // 5.18
constexpr std::uint32_t socket_setsockopt = 3;      // SOCKET_URING_OP_SETSOCKOPT, 6.7

enum : std::uint64_t { tag_none = 0, tag_cancel = 1, tag_wake = 2, tag_last = tag_wake };

constexpr unsigned completion_entries = 8192;
constexpr unsigned most_direct = 32768;
constexpr std::uint16_t buffer_group = 0;

class UringDriver final : public Driver {
   public:
    explicit UringDriver(const DriverOptions& options) : Driver(options) {}
    ~UringDriver() override;

    /// False, with the reason, where io_uring can not be used.
    bool open(const DriverOptions& options, std::string& why_not);

    void turn(Clock::time_point deadline) override;
    void wake() noexcept override;
    [[nodiscard]] Clock::time_point now() const noexcept override {
        return Clock::time_point{std::chrono::steady_clock::now().time_since_epoch()};
    }
    [[nodiscard]] std::string_view name() const noexcept override { return "uring"; }
    /// Only a direct descriptor is known before it is open; its options can be set only through the ring.
    [[nodiscard]] bool chains_open() const noexcept override { return direct_ && ring_setsockopt_; }

   private:
    void cancel_in_flight(operation& op) noexcept override;

    bool open_ring(unsigned entries, int& error);
    bool opcodes_present() noexcept;
    void open_direct_table() noexcept;
    void probe_setsockopt() noexcept;
    bool open_buffer_ring() noexcept;

    io_uring_sqe* entry() noexcept;
    void ask_to_cancel(operation& op) noexcept;
    void cancel_again() noexcept;
    void end(operation& op, int result, int buffer_id = -1) noexcept;
    void fill_queue() noexcept;
    void prepare(operation& op) noexcept;
    void lend_buffers() noexcept;
    void enter(Clock::time_point deadline);
    void deliver() noexcept;
    void deliver(operation& op, int result, unsigned flags) noexcept;
    void watch_wake() noexcept;
    void free_slot(std::int32_t slot) noexcept { free_slots_.push_back(slot); }

    io_uring ring_{};
    bool ring_open_ = false;
    bool direct_ = false;
    bool ring_setsockopt_ = false;
    bool multishot_accept_ = true;
    bool multishot_receive_ = true;
    operation* cancelling_ = nullptr;  // in flight and asked to end
    bool cancel_missed_ = false;
    int wake_fd_ = -1;
    std::uint64_t wake_count_ = 0;
    std::vector<std::int32_t> free_slots_;
    io_uring_buf_ring* buffer_ring_ = nullptr;
};

std::string explain(int error) {
    if (error == ENOSYS) return "this kernel has no io_uring; Linux 5.19 or later is needed";
    if (error == ENOMEM) {
        return "there is no memory for it, or too little that may be locked (raise that: ulimit -l, or LimitMEMLOCK=)";
    }
    if (error == EPERM || error == EACCES) {
        int disabled = 0;
        std::ifstream{"/proc/sys/kernel/io_uring_disabled"} >> disabled;
        if (disabled > 0) return "it is switched off here (sysctl kernel.io_uring_disabled=0 allows it)";
        return "it is forbidden here, probably by a seccomp filter such as a container's default profile; "
               "allow io_uring_setup, io_uring_enter and io_uring_register";
    }
    return std::generic_category().message(error);
}

bool UringDriver::open(const DriverOptions& options, std::string& why_not) {
    int error = 0;
    if (!open_ring(static_cast<unsigned>(options.queue_entries), error)) {
        why_not = explain(error);
        return false;
    }
    ring_open_ = true;
    if (!opcodes_present() || !open_buffer_ring()) {
        why_not = "this kernel is too old for it; Linux 5.19 or later is needed";
        return false;
    }
    open_direct_table();
    if (direct_) probe_setsockopt();
    wake_fd_ = ::eventfd(0, EFD_CLOEXEC);
    if (wake_fd_ < 0) {
        why_not = "no descriptor is left for it";
        return false;
    }
    watch_wake();
    return true;
}

bool UringDriver::open_ring(unsigned entries, int& error) {
    constexpr unsigned always = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
    for (const unsigned flags : {setup_single_issuer | setup_defer_taskrun | setup_submit_all,
                                 setup_submit_all | IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG, 0U}) {
        io_uring_params params{};
        params.flags = always | flags;
        params.cq_entries = completion_entries;
        const int result = io_uring_queue_init_params(entries, &ring_, &params);
        if (result == 0) return true;
        error = -result;
        if (error != EINVAL) return false;
    }
    return false;
}

bool UringDriver::opcodes_present() noexcept {
    io_uring_probe* const probe = io_uring_get_probe_ring(&ring_);
    if (probe == nullptr) return false;
    bool all = true;
    for (const int opcode : {IORING_OP_NOP, IORING_OP_SOCKET, IORING_OP_CONNECT, IORING_OP_ACCEPT, IORING_OP_RECV,
                             IORING_OP_SEND, IORING_OP_RECVMSG, IORING_OP_SENDMSG, IORING_OP_POLL_ADD,
                             IORING_OP_SHUTDOWN, IORING_OP_CLOSE, IORING_OP_READ, IORING_OP_ASYNC_CANCEL}) {
        all = all && io_uring_opcode_supported(probe, opcode) != 0;
    }
    ring_setsockopt_ = io_uring_opcode_supported(probe, IORING_OP_URING_CMD) != 0;
    io_uring_free_probe(probe);
    return all;
}

void UringDriver::open_direct_table() noexcept {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    const auto slots = static_cast<unsigned>(std::min<rlim_t>(limit.rlim_cur, most_direct));
    direct_ = io_uring_register_files_sparse(&ring_, slots) == 0;
    if (!direct_) return;
    free_slots_.reserve(slots);
    for (unsigned slot = slots; slot > 0; --slot) free_slots_.push_back(static_cast<std::int32_t>(slot - 1));
}

void prepare_setsockopt(io_uring_sqe* sqe, int fd, int level, int name, const void* value, unsigned length) noexcept {
    // Written by hand: liburing 2.3 has no helper and no names for these fields.
    io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd, nullptr, 0, socket_setsockopt);
    const std::uint32_t level_and_name[2] = {static_cast<std::uint32_t>(level), static_cast<std::uint32_t>(name)};
    std::memcpy(&sqe->addr, level_and_name, sizeof level_and_name);
    sqe->file_index = length;
    const auto address = reinterpret_cast<std::uint64_t>(value);
    std::memcpy(reinterpret_cast<std::byte*>(sqe) + 48, &address, sizeof address);  // optval, beside addr3
}

/// Tries it on a socket that only the ring ever sees: open, set, close, one chain.
void UringDriver::probe_setsockopt() noexcept {
    if (!ring_setsockopt_) return;
    ring_setsockopt_ = false;
    constexpr unsigned slot = 0;
    constexpr std::uint64_t tag_of_interest = 1;
    const int on = 1;
    io_uring_sqe* sqe = entry();
    io_uring_prep_socket_direct(sqe, AF_UNIX, SOCK_STREAM, 0, slot, 0);
    sqe->flags |= IOSQE_IO_LINK;
    sqe->user_data = tag_none;
    sqe = entry();
    prepare_setsockopt(sqe, slot, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    sqe->flags |= IOSQE_IO_HARDLINK | IOSQE_FIXED_FILE;
    sqe->user_data = tag_of_interest;
    sqe = entry();
    io_uring_prep_close_direct(sqe, slot);
    sqe->user_data = tag_none;
    if (io_uring_submit_and_wait(&ring_, 3) < 0) return;
    io_uring_cqe* cqe = nullptr;
    while (io_uring_peek_cqe(&ring_, &cqe) == 0) {
        if (cqe->user_data == tag_of_interest) ring_setsockopt_ = cqe->res == 0;
        io_uring_cqe_seen(&ring_, cqe);
    }
}

bool UringDriver::open_buffer_ring() noexcept {
    const std::size_t bytes = buffers_.count() * sizeof(io_uring_buf);
    void* memory = nullptr;
    if (::posix_memalign(&memory, 4096, bytes) != 0) return false;
    std::memset(memory, 0, bytes);
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<std::uint64_t>(memory);
    registration.ring_entries = static_cast<std::uint32_t>(buffers_.count());
    registration.bgid = buffer_group;
    if (io_uring_register_buf_ring(&ring_, &registration, 0) != 0) {
        std::free(memory);
        return false;
    }
    buffer_ring_ = static_cast<io_uring_buf_ring*>(memory);
    io_uring_buf_ring_init(buffer_ring_);
    return true;
}

UringDriver::~UringDriver() {
    TORC_ASSERT(statistics_.in_flight == 0, "an executor was destroyed with operations in flight");
    if (ring_open_) io_uring_queue_exit(&ring_);
    std::free(buffer_ring_);
    if (wake_fd_ >= 0) ::close(wake_fd_);
}

io_uring_sqe* UringDriver::entry() noexcept {
    io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
    while (sqe == nullptr) {
        io_uring_submit(&ring_);
        sqe = io_uring_get_sqe(&ring_);
    }
    return sqe;
}

void UringDriver::watch_wake() noexcept {
    io_uring_sqe* const sqe = entry();
    io_uring_prep_read(sqe, wake_fd_, &wake_count_, sizeof wake_count_, 0);
    sqe->user_data = tag_wake;
}

void UringDriver::wake() noexcept {
    const std::uint64_t one = 1;
    [[maybe_unused]] const ssize_t written = ::write(wake_fd_, &one, sizeof one);
}

void UringDriver::cancel_in_flight(operation& op) noexcept {
    if (op.previous == nullptr && op.next == nullptr && cancelling_ != &op) {
        op.next = cancelling_;
        if (cancelling_ != nullptr) cancelling_->previous = &op;
        cancelling_ = &op;
    }
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
    if (!std::exchange(cancel_missed_, false)) return;
    for (operation* op = cancelling_; op != nullptr; op = op->next) ask_to_cancel(*op);
}

/// The terminal completion.
void UringDriver::end(operation& op, int result, int buffer_id) noexcept {
    if (op.cancel_requested) {
        (op.previous != nullptr ? op.previous->next : cancelling_) = op.next;
        if (op.next != nullptr) op.next->previous = op.previous;
        op.next = op.previous = nullptr;
    }
    finish(op, result, false, buffer_id);
}

void UringDriver::fill_queue() noexcept {
    unsigned submitted = 0;
    while (operation* const first = peek_queued()) {
        unsigned length = 0;
        for (const operation* op = first; op != nullptr; op = op->chain) ++length;
        if (submitted != 0 && submitted + length > completion_entries) return;
        submitted += length;
        // Links do not span submissions.
        if (io_uring_sq_space_left(&ring_) < length) io_uring_submit(&ring_);
        if (io_uring_sq_space_left(&ring_) < length) return;  // the kernel takes nothing now; the next turn asks again
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
            if (op.multishot && multishot_accept_) {
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
            if (op.multishot && multishot_receive_) sqe->ioprio |= IORING_RECV_MULTISHOT;
            sqe->buf_group = buffer_group;
            break;
        case op_kind::send:
            io_uring_prep_send(sqe, fd, op.address, op.length, op.flags | MSG_NOSIGNAL | (op.whole ? MSG_WAITALL : 0));
            break;
        case op_kind::receive_message:
            io_uring_prep_recvmsg(sqe, fd, static_cast<msghdr*>(op.address), static_cast<unsigned>(op.flags));
            break;
        case op_kind::send_message:
            io_uring_prep_sendmsg(sqe, fd, static_cast<msghdr*>(op.address),
                                  static_cast<unsigned>(op.flags) | MSG_NOSIGNAL);
            break;
        case op_kind::set_option:
            prepare_setsockopt(sqe, fd, static_cast<int>(op.offset >> 32), static_cast<int>(op.offset & 0xffffffffU),
                               op.address, op.length);
            break;
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
    cancel_again();
    fill_queue();
    lend_buffers();
    enter(delivered_ || has_queued() ? Clock::time_point::min() : deadline);
    deliver();
}

void UringDriver::enter(Clock::time_point deadline) {
    ++statistics_.turns;
    int result = 0;
    if (deadline == Clock::never) {
        result = io_uring_submit_and_wait(&ring_, 1);
    } else if (const Clock::time_point present = now(); deadline <= present || io_uring_cq_ready(&ring_) > 0) {
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
    io_uring_cqe* cqe = nullptr;
    while (io_uring_peek_cqe(&ring_, &cqe) == 0) {
        const std::uint64_t user_data = cqe->user_data;
        const int result = cqe->res;
        const unsigned flags = cqe->flags;
        io_uring_cqe_seen(&ring_, cqe);
        if (user_data > tag_last) {
            deliver(*reinterpret_cast<operation*>(user_data), result, flags);
        } else if (user_data == tag_wake) {
            watch_wake();
        } else if (user_data == tag_cancel && result == -ENOENT) {
            cancel_missed_ = true;  // it has ended, and is off the list or about to be, or it has not begun
        }
    }
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
            bool& supported = op.kind == op_kind::accept ? multishot_accept_ : multishot_receive_;
            if (result == -EINVAL && supported) {
                supported = false;
                return prepare(op);
            }
            if (!supported && result > 0 && !op.cancel_requested) {
                // Stands in for multishot: deliver, then ask for the next one, unless that was the moment to stop.
                finish(op, result, true, buffer_id);
                return op.cancel_requested ? end(op, -ECANCELED) : prepare(op);
            }
            break;
        }
        default: break;
    }
    if (more) return finish(op, result, true, buffer_id);
    end(op, result, buffer_id);
}

}  // namespace

std::unique_ptr<Driver> make_uring_driver(const DriverOptions& options, std::string& why_not) {
    auto driver = std::make_unique<UringDriver>(options);
    if (!driver->open(options, why_not)) return nullptr;
    return driver;
}

}  // namespace torc::detail
