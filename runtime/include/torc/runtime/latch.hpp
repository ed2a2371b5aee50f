#pragma once

#include <cstddef>

#include <torc/runtime/wait_queue.hpp>

namespace torc {

/// Counts down once, from a number to zero, and then lets everybody pass for good.
/// Lifetime: must outlive everybody who waits; dies with a sentence otherwise.
/// Requires: the executor's thread; one executor.
class latch {
   public:
    class [[nodiscard("co_await it")]] wait_awaitable final : public detail::waiter {
       public:
        wait_awaitable(latch& what, std::size_t arriving) noexcept : latch_(what), arriving_(arriving) {}
        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
            latch_.count_down(arriving_);
            return wait_in(latch_.waiting_, self.promise(), [this] { return latch_.count_ == 0; });
        }
        void await_resume() const { throw_if_cancelled(); }
        [[nodiscard]] std::string describe() const override { return "latch"; }

       private:
        latch& latch_;
        std::size_t arriving_;
    };

    explicit latch(std::size_t count) noexcept : count_(count) {}
    latch(const latch&) = delete;
    latch& operator=(const latch&) = delete;
    ~latch() { TORC_ASSERT(waiting_.empty(), "a latch was destroyed while a task waited for it"); }

    /// Lets everybody go when it reaches zero. Requires: `arriving` is at most what is left.
    void count_down(std::size_t arriving = 1) noexcept {
        TORC_ASSERT(arriving <= count_, "a latch was counted down below zero");
        count_ -= arriving;
        if (count_ == 0) waiting_.wake_all();
    }
    [[nodiscard]] bool try_wait() const noexcept { return count_ == 0; }
    [[nodiscard]] std::size_t count() const noexcept { return count_; }

    /// Waits until the count is zero.
    /// Errors: `cancelled` unwinds.
    wait_awaitable wait() noexcept { return {*this, 0}; }

    /// Counts down and waits. The arrival counts even where the wait ends cancelled: those who wait for it shall not
    /// wait for ever.
    wait_awaitable arrive_and_wait(std::size_t arriving = 1) noexcept { return {*this, arriving}; }

   private:
    detail::wait_queue waiting_;
    std::size_t count_;
};

}  // namespace torc
