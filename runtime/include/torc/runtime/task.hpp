#pragma once

#include <concepts>
#include <memory>
#include <type_traits>
#include <utility>

#include <torc/runtime/child_group.hpp>
#include <torc/runtime/executor.hpp>

/// Tasks: coroutines that run when awaited.
namespace torc {

template <class T = void>
class task;

namespace detail {

template <class T>
class promise final : public task_state {
   public:
    promise() noexcept {}  // not the value
    ~promise() {
        if (ended == outcome::value) std::destroy_at(std::addressof(value_));
    }
    task<T> get_return_object(std::source_location where = std::source_location::current()) noexcept;

    template <class U = T>
        requires std::is_constructible_v<T, U&&>
    void return_value(U&& value) noexcept(std::is_nothrow_constructible_v<T, U&&>) {
        std::construct_at(std::addressof(value_), std::forward<U>(value));
        ended = outcome::value;
    }
    T take() { return std::move(value_); }

   private:
    union {
        T value_;
    };
};

template <class T>
class promise<T&> final : public task_state {
   public:
    task<T&> get_return_object(std::source_location where = std::source_location::current()) noexcept;
    void return_value(T& value) noexcept {
        value_ = std::addressof(value);
        ended = outcome::value;
    }
    T& take() const noexcept { return *value_; }

   private:
    T* value_ = nullptr;
};

template <>
class promise<void> final : public task_state {
   public:
    inline task<void> get_return_object(std::source_location where = std::source_location::current()) noexcept;
    void return_void() noexcept { ended = outcome::value; }
    void take() const noexcept {}
};

/// Throws what a finished task ended with, if it was not a value.
inline void rethrow_end(const task_state& state) {
    if (state.ended == outcome::error) std::rethrow_exception(state.error);
    if (state.ended == outcome::cancelled) throw cancelled{};
}

}  // namespace detail

/// A lazy coroutine with a result. It runs when it is awaited, on the executor of whoever awaits it, and inherits the
/// scope and the deadline of that task.
/// Shape:    T is void, a value (move-only is fine) or a reference.
/// Lifetime: owns the coroutine's frame. It is destroyed before it ran, or after its end; destroying it in
///           between dies. By-value parameters live until the task object is destroyed, locals until the coroutine
///           returns.
/// Errors:   awaiting throws what the coroutine threw.
template <class T>
class [[nodiscard("a task runs only when it is awaited")]] task {
   public:
    using promise_type = detail::promise<T>;
    using value_type = T;

    task(task&& other) noexcept : frame_(std::exchange(other.frame_, {})) {}
    task& operator=(task&& other) noexcept {
        if (this != &other) {
            if (frame_) frame_.destroy();
            frame_ = std::exchange(other.frame_, {});
        }
        return *this;
    }
    ~task() {
        if (frame_) frame_.destroy();
    }

    class awaiter {
       public:
        explicit awaiter(promise_type& child) noexcept : child_(child) {}
        bool await_ready() const noexcept { return false; }

        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
            detail::task_state& parent = self.promise();
            return parent.executor->wait_for(parent, child_);
        }
        T await_resume() {
            detail::rethrow_end(child_);
            return child_.take();
        }

       private:
        promise_type& child_;
    };

    awaiter operator co_await() && noexcept {
        TORC_ASSERT(frame_ && !frame_.promise().started, "a task was awaited twice, or after it was moved from");
        return awaiter{frame_.promise()};
    }

    /// There for the sentence alone.
    template <class Self = task>
    awaiter operator co_await() & noexcept {
        static_assert(!std::same_as<Self, task>, "a task is awaited once: write co_await std::move(task)");
        return awaiter{state()};
    }

    /// For combinators: the promise. Requires: not moved from.
    [[nodiscard]] promise_type& state() const noexcept {
        TORC_ASSERT(frame_, "a task was awaited twice, or after it was moved from");
        return frame_.promise();
    }
    /// Gives the frame away; whoever takes it destroys it after its end.
    [[nodiscard]] promise_type& release() noexcept {
        promise_type& given = state();
        frame_ = {};
        return given;
    }

   private:
    friend promise_type;
    explicit task(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}
    std::coroutine_handle<promise_type> frame_;
};

namespace detail {

template <class T>
task<T> promise<T>::get_return_object(std::source_location where) noexcept {
    return task<T>{introduce(*this, where)};
}

template <class T>
task<T&> promise<T&>::get_return_object(std::source_location where) noexcept {
    return task<T&>{introduce(*this, where)};
}

task<void> promise<void>::get_return_object(std::source_location where) noexcept {
    return task<void>{introduce(*this, where)};
}

}  // namespace detail

template <class T>
T Executor::run(task<T> root) {
    const Running running{*this};
    task<T> mine = std::move(root);  // goes before `running`, which awaits what its end closes
    run_root(mine.state());
    detail::rethrow_end(mine.state());
    return mine.state().take();
}

namespace detail {

template <class A>
decltype(auto) awaiter_of(A&& awaitable) {
    if constexpr (requires { std::forward<A>(awaitable).operator co_await(); }) {
        return std::forward<A>(awaitable).operator co_await();
    } else {
        return std::forward<A>(awaitable);
    }
}

template <class T>
inline constexpr bool is_task = false;
template <class T>
inline constexpr bool is_task<task<T>> = true;

}  // namespace detail

/// What `co_await` on an `A` gives.
template <class A>
using await_result_t = decltype(detail::awaiter_of(std::declval<A>()).await_resume());

/// What combinators take: tasks, operations, and anything else that can be awaited in a task.
template <class A>
concept awaitable = requires { typename await_result_t<A>; };

namespace detail {

template <class A>
task<await_result_t<A>> owned_await(A awaitable) {
    co_return co_await std::move(awaitable);
}
template <class A>
task<await_result_t<A&>> referred_await(A& awaitable) {
    co_return co_await awaitable;
}

}  // namespace detail

/// Makes a task of anything awaitable. What is passed by name must outlive the task; a temporary is moved into it.
template <awaitable A>
[[nodiscard]] auto as_task(A&& it) {
    if constexpr (detail::is_task<std::remove_cvref_t<A>>) {
        static_assert(std::is_rvalue_reference_v<A&&>, "a task is awaited once: pass it with std::move");
        return std::remove_cvref_t<A>{std::forward<A>(it)};
    } else if constexpr (std::is_lvalue_reference_v<A>) {
        return detail::referred_await(it);
    } else {
        return detail::owned_await<std::remove_cvref_t<A>>(std::forward<A>(it));
    }
}

/// The result type of the task that `as_task` makes.
template <awaitable A>
using task_result_t = typename decltype(as_task(std::declval<A>()))::value_type;

}  // namespace torc
