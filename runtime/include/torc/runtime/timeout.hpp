#pragma once

#include <concepts>

#include <torc/runtime/task.hpp>
#include <torc/runtime/time.hpp>

/// Limits of time, and protection from being cancelled.
namespace torc {

namespace detail {

/// "0.25 s", "10 s"
std::string in_seconds(Clock::duration wait);

/// A group of one child and one timer. A shield arms the timer only when it is cancelled from outside.
template <class T>
class [[nodiscard("co_await it")]] limited_awaitable final : public child_group, private Timer {
   public:
    limited_awaitable(time_limit most, task<T> inner, bool shield = false) noexcept
        : child_group(most.name, shield), Timer(fired), task_(std::move(inner)), limit_(most) {}
    limited_awaitable(limited_awaitable&& other) noexcept
        : child_group(static_cast<child_group&&>(other)),
          Timer(fired),
          task_(std::move(other.task_)),
          limit_(other.limit_) {}

    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        task_state& owner = self.promise();
        Executor& executor = *owner.executor;
        const Clock::time_point until = shielded() ? Clock::never : limit_.from_now(executor);
        set_deadline(until);
        open(executor, &owner);
        if (!shielded() && limit_.is_over(executor)) {
            expire();
        } else if (until != Clock::never) {
            executor.timers().arm(*this, until);
        }
        start(task_.state());
        return wait();
    }
    T await_resume() {
        const task_state& state = task_.state();
        if (state.ended == outcome::cancelled && expired_ && !shielded() && !outer_cancelled()) {
            throw_error(limit_.exceeded(), owner());
        }
        rethrow_end(state);
        return task_.state().take();
    }

   private:
    void child_finished(task_state&) noexcept override { executor().timers().disarm(*this); }
    void outer_was_cancelled() noexcept override {
        if (!armed() && !expired_) executor().timers().arm(*this, limit_.from_now(executor()));
    }
    void expire() noexcept {
        expired_ = true;
        cancel();
    }
    static void fired(Timer& timer) noexcept { static_cast<limited_awaitable&>(timer).expire(); }

    task<T> task_;
    time_limit limit_;
    bool expired_ = false;
};

/// A leaf and one timer, which needs neither a group nor a coroutine. It stands before the leaf in the await tree, so
/// that whoever comes first, the timer or a scope outside, is the only one to cancel it.
template <class Leaf>
class [[nodiscard("co_await it")]] limited_leaf final : public leaf, private Timer {
   public:
    limited_leaf(time_limit most, Leaf&& inner) noexcept : Timer(fired), inner_(std::move(inner)), limit_(most) {}
    /// Only before it is awaited.
    limited_leaf(limited_leaf&& other) noexcept
        : leaf(), Timer(fired), inner_(std::move(other.inner_)), limit_(other.limit_) {}

    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        task_ = &self.promise();
        if (inner_.await_ready()) return false;
        Executor& executor = *task_->executor;
        const Clock::time_point until = limit_.from_now(executor);
        expired_ = limit_.is_over(executor);
        if (expired_) inner_.cancel_unbegun();
        if (!inner_.await_suspend(self)) return false;
        if (task_->waiting_for == nullptr) return true;  // it ended as it began
        task_->waiting_for = this;
        if (!expired_ && until != Clock::never) executor.timers().arm(*this, until);
        return true;
    }
    auto await_resume() -> decltype(std::declval<Leaf&>().await_resume()) {
        task_->executor->timers().disarm(*this);
        try {
            return inner_.await_resume();
        } catch (const torc::cancelled&) {
            if (!timed_out()) throw;
        }
        throw_error(limit_.exceeded(), task_);
    }
    /// For as_result.
    template <class Inner = Leaf>
    auto take() -> decltype(std::declval<Inner&>().take()) {
        task_->executor->timers().disarm(*this);
        try {
            return inner_.take();
        } catch (const torc::cancelled&) {
            if (!timed_out()) throw;
        }
        return std::unexpected{limit_.exceeded().with_trace(trace_of(task_))};
    }

    void cancel() noexcept override {
        if (!std::exchange(asked_, true)) inner_.cancel();
    }
    [[nodiscard]] std::string describe() const override { return inner_.describe() + " under " + limit_.name; }

   private:
    [[nodiscard]] bool timed_out() const noexcept { return expired_ && !task_->scope->cancelled(); }
    static void fired(Timer& timer) noexcept {
        auto& self = static_cast<limited_leaf&>(timer);
        self.expired_ = true;
        if (self.task_->waiting_for == &self) self.cancel();  // else its result is there
    }

    Leaf inner_;
    time_limit limit_;
    bool expired_ = false;
    bool asked_ = false;  // to end soon
};

template <class A>
inline constexpr bool is_limited_leaf = false;
template <class Leaf>
inline constexpr bool is_limited_leaf<limited_leaf<Leaf>> = true;

/// The limited form of anything awaitable; what is one of several kinds makes its own.
template <awaitable A>
[[nodiscard]] auto limit(time_limit most, A&& inner) {
    if constexpr (requires { std::forward<A>(inner).limited(most); }) {
        return std::forward<A>(inner).limited(most);
    } else if constexpr (std::derived_from<A, leaf> && !is_limited_leaf<A>) {
        return limited_leaf<A>{most, std::forward<A>(inner)};
    } else {
        return limited_awaitable<task_result_t<A>>{most, as_task(std::forward<A>(inner))};
    }
}

}  // namespace detail

/// Awaits `inner` for at most `limit`, counted from the await; then cancels it and awaits its end.
/// Errors: `Error` ("timed out after 0.25 s") if the limit cut it short; a value or error it ended with all the same is
///         its result. A cancellation from outside stays `cancelled`. Of nested limits the nearest rules.
template <awaitable A>
[[nodiscard]] auto with_timeout(Clock::duration limit, A&& inner) {
    return detail::limit({.name = "with_timeout", .wait = limit, .relative = true}, std::forward<A>(inner));
}

/// The same with a point in time on the executor's clock. One that has passed still runs `inner` to its first await.
template <awaitable A>
[[nodiscard]] auto with_deadline(Clock::time_point until, A&& inner) {
    return detail::limit({.name = "with_deadline", .until = until}, std::forward<A>(inner));
}

/// Keeps a cancellation from outside away from `inner`, for clean-up that has to await; but once it has come, for no
/// longer than `grace`.
/// Errors: what `inner` throws; `cancelled` if the grace ran out. After it the surroundings are as cancelled as before.
template <awaitable A>
[[nodiscard]] auto shield(Clock::duration grace, A&& inner) {
    return detail::limited_awaitable<task_result_t<A>>{
        {.name = "shield", .wait = grace, .relative = true}, as_task(std::forward<A>(inner)), true};
}

namespace detail {

inline const child_group& running_scope() noexcept {
    const task_state* const task = Executor::here().running();
    TORC_ASSERT(task != nullptr, "this is for tasks, and none is running");
    return *task->scope;
}

}  // namespace detail

/// The nearest deadline that the running task is under, `Clock::never` if none. Requires: called from a task.
[[nodiscard]] inline Clock::time_point current_deadline() noexcept { return detail::running_scope().deadline(); }

/// Whether the running task's scope is cancelled, for long computations that never await. Requires: called from a task.
[[nodiscard]] inline bool cancel_pending() noexcept { return detail::running_scope().cancelled(); }

}  // namespace torc
