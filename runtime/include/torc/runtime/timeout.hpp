#pragma once

#include <torc/runtime/task.hpp>
#include <torc/runtime/time.hpp>

/// Limits of time, and protection from being cancelled.
namespace torc {

namespace detail {

/// A group of one child and one timer; the kinds differ in when the timer is armed and what its firing means.
template <class T>
class limited_awaitable : public child_group, private Timer {
   public:
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        task_state& owner = self.promise();
        Executor& executor = *owner.executor;
        if (!shield_) {
            until_ = relative_ ? after(executor.now(), limit_) : until_;
            set_deadline(until_);
        }
        open(executor, &owner);
        if (!shield_ && until_ != Clock::never) {
            if (until_ <= executor.now()) {
                expire();
            } else {
                executor.timers().arm(*this, until_);
            }
        }
        start(task_.state());
        return wait();
    }
    T await_resume() {
        const task_state& state = task_.state();
        if (state.ended == outcome::cancelled && expired_ && !shield_ && !outer_cancelled()) {
            throw_error(Error{errc::timed_out, phase::none}, owner());
        }
        rethrow_end(state);
        return task_.state().take();
    }

   protected:
    limited_awaitable(const char* name, task<T> inner, Clock::time_point until) noexcept
        : child_group(name), Timer(fired), task_(std::move(inner)), until_(until) {}
    limited_awaitable(const char* name, task<T> inner, Clock::duration limit, bool shield) noexcept
        : child_group(name, shield),
          Timer(fired),
          task_(std::move(inner)),
          limit_(limit),
          relative_(true),
          shield_(shield) {}
    ~limited_awaitable() = default;
    limited_awaitable(limited_awaitable&& other) noexcept
        : child_group(static_cast<child_group&&>(other)),
          Timer(fired),
          task_(std::move(other.task_)),
          until_(other.until_),
          limit_(other.limit_),
          relative_(other.relative_),
          shield_(other.shield_) {}

   private:
    void child_finished(task_state&) noexcept override { executor().timers().disarm(*this); }
    void outer_was_cancelled() noexcept override {
        if (!armed() && !expired_) executor().timers().arm(*this, after(executor().now(), limit_));
    }
    void expire() noexcept {
        expired_ = true;
        cancel();
    }
    static void fired(Timer& timer) noexcept { static_cast<limited_awaitable&>(timer).expire(); }

    task<T> task_;
    Clock::time_point until_ = Clock::never;
    Clock::duration limit_{};
    bool relative_ = false;
    bool shield_ = false;
    bool expired_ = false;
};

template <class T>
struct [[nodiscard]] timeout_awaitable final : limited_awaitable<T> {
    timeout_awaitable(Clock::duration limit, task<T> inner) noexcept
        : limited_awaitable<T>("with_timeout", std::move(inner), limit, false) {}
};
template <class T>
struct [[nodiscard]] deadline_awaitable final : limited_awaitable<T> {
    deadline_awaitable(Clock::time_point until, task<T> inner) noexcept
        : limited_awaitable<T>("with_deadline", std::move(inner), until) {}
};
template <class T>
struct [[nodiscard]] shield_awaitable final : limited_awaitable<T> {
    shield_awaitable(Clock::duration grace, task<T> inner) noexcept
        : limited_awaitable<T>("shield", std::move(inner), grace, true) {}
};

}  // namespace detail

/// Awaits `inner` for at most `limit`, counted from the await; then cancels it and awaits its end.
/// Errors: `Error` (timed_out) if the limit cut it short; a value or error it ended with all the same is its result. A
///         cancellation from outside stays `cancelled`. Of nested limits the nearest rules.
template <awaitable A>
[[nodiscard]] auto with_timeout(Clock::duration limit, A&& inner) {
    return detail::timeout_awaitable<task_result_t<A>>{limit, as_task(std::forward<A>(inner))};
}

/// The same with a point in time on the executor's clock. One that has passed still runs `inner` to its first await.
template <awaitable A>
[[nodiscard]] auto with_deadline(Clock::time_point until, A&& inner) {
    return detail::deadline_awaitable<task_result_t<A>>{until, as_task(std::forward<A>(inner))};
}

/// Keeps a cancellation from outside away from `inner`, for clean-up that has to await; but once it has come, for no
/// longer than `grace`.
/// Errors: what `inner` throws; `cancelled` if the grace ran out. After it the surroundings are as cancelled as before.
template <awaitable A>
[[nodiscard]] auto shield(Clock::duration grace, A&& inner) {
    return detail::shield_awaitable<task_result_t<A>>{grace, as_task(std::forward<A>(inner))};
}

/// The nearest deadline that the running task is under, `Clock::never` if none. Requires: called from a task.
[[nodiscard]] inline Clock::time_point current_deadline() noexcept {
    return Executor::here().running()->scope->deadline();
}

/// Whether the running task's scope is cancelled, for long computations that never await. Requires: called from a task.
[[nodiscard]] inline bool cancel_pending() noexcept { return Executor::here().running()->scope->cancelled(); }

}  // namespace torc
