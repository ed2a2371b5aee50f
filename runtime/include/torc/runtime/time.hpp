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

/// A limit as it was asked for, before the await from which a duration counts.
struct time_limit {
    const char* name;
    Clock::time_point until = Clock::never;
    Clock::duration wait{};
    bool relative = false;

    /// When it ends, for an await that begins now. Only a duration needs the clock.
    [[nodiscard]] Clock::time_point from_now(const Executor& executor) const noexcept {
        return relative ? after(executor.now(), wait) : until;
    }
    /// Whether it has ended already.
    [[nodiscard]] bool is_over(const Executor& executor) const noexcept {
        return relative ? wait <= Clock::duration::zero() : executor.reached(until);
    }
    /// "timed out after 0.25 s"; of a point in time only that it timed out.
    [[nodiscard]] Error exceeded() const;
};

class sleep_awaitable final : public leaf, private Timer {
   public:
    explicit sleep_awaitable(time_limit how_long) noexcept : Timer(fired), limit_(how_long) {}
    sleep_awaitable(sleep_awaitable&& other) noexcept : Timer(fired), limit_(other.limit_) {}

    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        if (!enter(self.promise())) return false;
        Executor& executor = *task_->executor;
        executor.timers().arm(*this, limit_.from_now(executor));
        return true;
    }
    void await_resume() const { throw_if_cancelled(); }

    void cancel() noexcept override {
        if (!armed()) return;
        task_->executor->timers().disarm(*this);
        end_cancelled();
    }
    [[nodiscard]] std::string describe() const override { return limit_.name; }

   private:
    static void fired(Timer& timer) noexcept { static_cast<sleep_awaitable&>(timer).ready(); }

    time_limit limit_;
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
    return detail::sleep_awaitable{{.name = "sleep", .wait = wait, .relative = true}};
}

/// Waits until `deadline` on the executor's clock.
[[nodiscard]] inline detail::sleep_awaitable sleep_until(Clock::time_point deadline) noexcept {
    return detail::sleep_awaitable{{.name = "sleep", .until = deadline}};
}

/// Lets everything else that is ready run first. A point of cancellation.
[[nodiscard]] inline detail::yield_awaitable yield() noexcept { return {}; }

}  // namespace torc
