#pragma once

#include <chrono>

#include <torc/runtime/leaf.hpp>

/// Time, as the executor's driver tells it, and giving way.
namespace torc {

namespace detail {

/// `now + wait`, without overflow.
constexpr Clock::time_point after(Clock::time_point now, Clock::duration wait) noexcept {
    return wait >= Clock::never - now ? Clock::never : now + wait;
}

class sleep_awaitable final : public leaf, private Timer {
   public:
    explicit sleep_awaitable(Clock::time_point until) noexcept : Timer(fired), until_(until) {}
    explicit sleep_awaitable(Clock::duration wait) noexcept : Timer(fired), wait_(wait), relative_(true) {}
    sleep_awaitable(sleep_awaitable&& other) noexcept
        : Timer(fired), until_(other.until_), wait_(other.wait_), relative_(other.relative_) {}

    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        if (!enter(self.promise())) return false;
        Executor& executor = *task_->executor;
        executor.timers().arm(*this, relative_ ? after(executor.now(), wait_) : until_);
        return true;
    }
    void await_resume() const { throw_if_cancelled(); }

    void cancel() noexcept override {
        if (!armed()) return;
        task_->executor->timers().disarm(*this);
        end_cancelled();
    }
    [[nodiscard]] std::string describe() const override { return "sleep"; }

   private:
    static void fired(Timer& timer) noexcept { static_cast<sleep_awaitable&>(timer).ready(); }

    Clock::time_point until_{};
    Clock::duration wait_{};
    bool relative_ = false;
};

/// No leaf: who gives way is ready at once, and waits for nothing that could be cancelled or shown.
class yield_awaitable {
   public:
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        task_state& task = self.promise();
        cancelled_ = task.scope->cancelled();
        if (!cancelled_) task.executor->give_way(task);
        return !cancelled_;
    }
    void await_resume() const {
        if (cancelled_) throw torc::cancelled{};
    }

   private:
    bool cancelled_ = false;
};

}  // namespace detail

/// Waits for `wait`, counted from the await; zero or less still gives way once.
/// Errors: `cancelled` unwinds.
[[nodiscard]] inline detail::sleep_awaitable sleep_for(Clock::duration wait) noexcept {
    return detail::sleep_awaitable{wait};
}

/// Waits until `deadline` on the executor's clock.
[[nodiscard]] inline detail::sleep_awaitable sleep_until(Clock::time_point deadline) noexcept {
    return detail::sleep_awaitable{deadline};
}

/// Lets everything else that is ready run first. A point of cancellation.
[[nodiscard]] inline detail::yield_awaitable yield() noexcept { return {}; }

}  // namespace torc
