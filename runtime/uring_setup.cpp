#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <system_error>
#include <utility>

#include <torc/runtime/assert.hpp>

#include "uring_driver.hpp"

// Theory of operation. What the kernel can do is found out by trying it, once for each ring: set-up flags are dropped
// until one set is accepted, opcodes are probed, and setting options through the ring is tried on a socket that only
// the ring ever sees. Whatever is missing but can be done without is one `if` in uring.cpp and invisible above; without
// the rest there is no driver, and `explain` says why in words that tell what to change. Needs Linux 5.19 (socket,
// provided-buffer rings, sparse descriptor tables).

namespace torc::detail {
namespace {

// Newer than liburing 2.3's headers; values from include/uapi/linux/io_uring.h.
constexpr unsigned setup_single_issuer = 1U << 12;  // 6.0
constexpr unsigned setup_defer_taskrun = 1U << 13;  // 6.1
constexpr unsigned setup_submit_all = 1U << 7;      // 5.18
constexpr std::uint32_t socket_setsockopt = 3;      // SOCKET_URING_OP_SETSOCKOPT, 6.7

constexpr unsigned most_direct = 32768;
constexpr unsigned least_entries = 8;  // the longest chains have four records

std::string explain(int error) {
    if (error == ENOSYS) return "this kernel has no io_uring; Linux 5.19 or later is needed";
    if (error == ENOMEM) {
        return "there is no memory for it, or too little that may be locked (raise that: ulimit -l, or LimitMEMLOCK=)";
    }
    if (error == EINVAL) return "this kernel is too old for it; Linux 5.19 or later is needed";
    if (error == EPERM || error == EACCES) {
        int disabled = 0;
        std::ifstream{"/proc/sys/kernel/io_uring_disabled"} >> disabled;
        if (disabled == 1) {
            return "it is switched off here but for root and the group that sysctl kernel.io_uring_group names "
                   "(sysctl kernel.io_uring_disabled=0 allows it)";
        }
        if (disabled > 1) return "it is switched off here (sysctl kernel.io_uring_disabled=0 allows it)";
        return "it is forbidden here, probably by a seccomp filter such as a container's default profile; "
               "allow io_uring_setup, io_uring_enter and io_uring_register";
    }
    return std::generic_category().message(error);
}

}  // namespace

bool UringDriver::open(const DriverOptions& options, std::string& why_not) {
    int error = open_ring(std::max(static_cast<unsigned>(options.queue_entries), least_entries));
    ring_open_ = error == 0;
    if (error == 0) error = probe_opcodes();
    if (error == 0) error = open_buffer_ring();
    if (error != 0) {
        why_not = explain(error);
        return false;
    }
    can_.direct_descriptors = can_.direct_descriptors && open_direct_table();
    can_.ring_options = can_.ring_options && can_.direct_descriptors && sets_options();
    wake_fd_ = ::eventfd(0, EFD_CLOEXEC);
    if (wake_fd_ < 0) {
        why_not = "no descriptor is left for it";
        return false;
    }
    watch_wake();
    return true;
}

/// Gives the errno of what failed, or 0.
int UringDriver::open_ring(unsigned entries) noexcept {
    constexpr unsigned always = IORING_SETUP_CQSIZE | IORING_SETUP_CLAMP;
    constexpr unsigned deferred = setup_single_issuer | setup_defer_taskrun | setup_submit_all;
    constexpr unsigned cooperative = setup_submit_all | IORING_SETUP_COOP_TASKRUN;
    int error = EINVAL;
    for (const auto& [allowed, flags] :
         {std::pair{may_.defer_taskrun, deferred}, {may_.coop_taskrun, cooperative}, {true, 0U}}) {
        if (!allowed) continue;
        io_uring_params params{};
        params.flags = always | flags;
        params.cq_entries = uring_completion_entries;
        error = -io_uring_queue_init_params(entries, &ring_, &params);
        if (error != EINVAL) break;
    }
    return error;
}

/// Gives the errno of what failed, or 0; EINVAL if an operation is missing.
int UringDriver::probe_opcodes() noexcept {
    constexpr unsigned most = 256;
    struct alignas(io_uring_probe) {
        std::array<std::byte, sizeof(io_uring_probe) + most * sizeof(io_uring_probe_op)> bytes{};
    } memory;
    auto* const probe = reinterpret_cast<io_uring_probe*>(memory.bytes.data());
    if (const int refused = io_uring_register_probe(&ring_, probe, most); refused != 0) return -refused;
    can_.ring_options = can_.ring_options && io_uring_opcode_supported(probe, IORING_OP_URING_CMD) != 0;
    for (const int opcode : {IORING_OP_NOP, IORING_OP_SOCKET, IORING_OP_CONNECT, IORING_OP_ACCEPT, IORING_OP_RECV,
                             IORING_OP_SEND, IORING_OP_RECVMSG, IORING_OP_SENDMSG, IORING_OP_POLL_ADD,
                             IORING_OP_SHUTDOWN, IORING_OP_CLOSE, IORING_OP_ASYNC_CANCEL}) {
        if (io_uring_opcode_supported(probe, opcode) == 0) return EINVAL;
    }
    return 0;
}

bool UringDriver::open_direct_table() noexcept {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    const auto slots = static_cast<unsigned>(std::min<rlim_t>(limit.rlim_cur, most_direct));
    if (io_uring_register_files_sparse(&ring_, slots) != 0) return false;
    free_slots_.reserve(slots);
    for (unsigned slot = slots; slot > 0; --slot) free_slots_.push_back(static_cast<std::int32_t>(slot - 1));
    return true;
}

void prepare_setsockopt(io_uring_sqe* sqe, int fd, int level, int name, const void* value, unsigned length) noexcept {
    io_uring_prep_rw(IORING_OP_URING_CMD, sqe, fd, nullptr, 0, socket_setsockopt);
    const std::uint32_t level_and_name[2] = {static_cast<std::uint32_t>(level), static_cast<std::uint32_t>(name)};
    std::memcpy(&sqe->addr, level_and_name, sizeof level_and_name);
    sqe->file_index = length;
    const auto address = reinterpret_cast<std::uint64_t>(value);
    std::memcpy(reinterpret_cast<std::byte*>(sqe) + 48, &address, sizeof address);  // optval, beside addr3
}

/// Tries it on a socket that only the ring ever sees: open, set, close, one chain.
bool UringDriver::sets_options() noexcept {
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
    if (io_uring_submit_and_wait(&ring_, 3) < 0) return false;
    bool set = false;
    io_uring_cqe* cqe = nullptr;
    while (io_uring_peek_cqe(&ring_, &cqe) == 0) {
        if (cqe->user_data == tag_of_interest) set = cqe->res == 0;
        io_uring_cqe_seen(&ring_, cqe);
    }
    return set;
}

/// Gives the errno of what failed, or 0.
int UringDriver::open_buffer_ring() noexcept {
    const std::size_t bytes = buffers_.count() * sizeof(io_uring_buf);
    void* memory = nullptr;
    if (::posix_memalign(&memory, 4096, bytes) != 0) return ENOMEM;
    std::memset(memory, 0, bytes);
    io_uring_buf_reg registration{};
    registration.ring_addr = reinterpret_cast<std::uint64_t>(memory);
    registration.ring_entries = static_cast<std::uint32_t>(buffers_.count());
    registration.bgid = uring_buffer_group;
    if (const int refused = io_uring_register_buf_ring(&ring_, &registration, 0); refused != 0) {
        std::free(memory);
        return -refused;
    }
    buffer_ring_ = static_cast<io_uring_buf_ring*>(memory);
    io_uring_buf_ring_init(buffer_ring_);
    return 0;
}

UringDriver::~UringDriver() {
    TORC_ASSERT(statistics_.in_flight == 0, "an executor was destroyed with operations in flight");
    if (ring_open_) io_uring_queue_exit(&ring_);
    std::free(buffer_ring_);
    if (wake_fd_ >= 0) ::close(wake_fd_);
}

std::unique_ptr<Driver> make_uring_driver(const DriverOptions& options, std::string& why_not) {
    auto driver = std::make_unique<UringDriver>(options);
    if (!driver->open(options, why_not)) return nullptr;
    return driver;
}

}  // namespace torc::detail
