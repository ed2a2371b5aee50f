#pragma once

#include <cstddef>
#include <cstdint>

#include <torc/runtime/driver.hpp>

/// Timers: deadlines kept in user space. A million of them cost memory of their owners and nothing else.
namespace torc::detail {

/// One deadline. Owned by whoever waits; must be disarmed, or have fired, before it is destroyed.
class Timer {
   public:
    explicit Timer(void (*fired)(Timer&) noexcept) noexcept : fired_(fired) {}
    Timer(const Timer&) = delete;
    Timer& operator=(const Timer&) = delete;

    [[nodiscard]] bool armed() const noexcept { return armed_; }
    [[nodiscard]] Clock::time_point deadline() const noexcept { return deadline_; }

   private:
    friend class TimerQueue;
    void (*fired_)(Timer&) noexcept;
    Clock::time_point deadline_{};
    std::uint64_t order_ = 0;  // earlier armed fires first among equals
    Timer* child_ = nullptr;
    Timer* sibling_ = nullptr;
    Timer* previous_ = nullptr;  // elder sibling, or the parent of a first child
    bool armed_ = false;
    bool sorted_ = false;  // in the heap, not in the list of recent ones
};

/// A list of the timers armed recently, and a pairing heap, both threaded through the timers. Arming is O(1), disarming
/// and firing O(1) for a timer in the list and O(log n) amortised for one in the heap; nothing is allocated.
class TimerQueue {
   public:
    void arm(Timer& timer, Clock::time_point deadline) noexcept;
    void disarm(Timer& timer) noexcept;

    /// When `fire` is to be called next; not later than the first deadline, and seldom earlier.
    [[nodiscard]] Clock::time_point next() const noexcept {
        return root_ != nullptr && root_->deadline_ < recent_until_ ? root_->deadline_ : recent_until_;
    }
    [[nodiscard]] std::size_t size() const noexcept { return size_; }

    /// Fires every timer due at `now`, in order of deadline. One armed meanwhile waits for the next call.
    void fire(Clock::time_point now) noexcept;

   private:
    static bool before(const Timer& a, const Timer& b) noexcept;
    static Timer* meld(Timer* a, Timer* b) noexcept;
    static Timer* meld_siblings(Timer* first) noexcept;

    void sort_recent() noexcept;

    Timer* recent_ = nullptr;
    Clock::time_point recent_until_ = Clock::never;  // not later than the deadline of any of them
    Timer* root_ = nullptr;
    std::size_t size_ = 0;
    std::uint64_t order_ = 0;
};

}  // namespace torc::detail
