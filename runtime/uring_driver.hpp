#pragma once

#include <liburing.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "drivers.hpp"

/// The io_uring driver; how it works is said in uring.cpp, how it finds out what the kernel can do in uring_setup.cpp.
namespace torc::detail {

constexpr std::uint16_t uring_buffer_group = 0;
constexpr unsigned uring_completion_entries = 8192;

enum : std::uint64_t { tag_none = 0, tag_cancel = 1, tag_wake = 2, tag_last = tag_wake };

/// Setting a socket's option through the ring. liburing 2.3 has no helper and no names for these fields.
void prepare_setsockopt(io_uring_sqe* sqe, int fd, int level, int name, const void* value, unsigned length) noexcept;

class UringDriver final : public Driver {
   public:
    explicit UringDriver(const DriverOptions& options) : Driver(options), may_(options.uring), can_(options.uring) {}
    ~UringDriver() override;

    /// False, with the reason, where io_uring can not be used.
    bool open(const DriverOptions& options, std::string& why_not);

    void turn(Clock::time_point deadline) override;
    void wake() noexcept override;
    [[nodiscard]] std::string_view name() const noexcept override { return "uring"; }
    /// Only a direct descriptor is known before it is open; its options can be set only through the ring.
    [[nodiscard]] bool chains_open() const noexcept override { return can_.ring_options; }

   private:
    void cancel_in_flight(operation& op) noexcept override;

    // In uring_setup.cpp.
    int open_ring(unsigned entries) noexcept;
    int probe_opcodes() noexcept;
    bool open_direct_table() noexcept;
    bool sets_options() noexcept;
    int open_buffer_ring() noexcept;

    io_uring_sqe* entry() noexcept;
    void ask_to_cancel(operation& op) noexcept;
    void cancel_again() noexcept;
    void end(operation& op, int result, int buffer_id = -1) noexcept;
    void fill_queue() noexcept;
    bool shut_down(operation& op) noexcept;
    void prepare(operation& op) noexcept;
    void prepare_again(operation& op) noexcept {
        ++statistics_.submitted;
        prepare(op);
    }
    void prepare_option(operation& op, io_uring_sqe* sqe) noexcept;
    void lend_buffers() noexcept;
    void enter(Clock::time_point deadline);
    void deliver() noexcept;
    void deliver(operation& op, int result, unsigned flags) noexcept;
    void watch_wake() noexcept;
    void free_slot(std::int32_t slot) noexcept { free_slots_.push_back(slot); }

    io_uring ring_{};
    bool ring_open_ = false;
    const UringFeatures may_;
    UringFeatures can_;          // and may; without direct descriptors there is no use for options set through the ring
    operation_list cancelling_;  // in flight and asked to end
    bool cancel_missed_ = false;
    int wake_fd_ = -1;
    std::vector<std::int32_t> free_slots_;
    io_uring_buf_ring* buffer_ring_ = nullptr;
};

}  // namespace torc::detail
