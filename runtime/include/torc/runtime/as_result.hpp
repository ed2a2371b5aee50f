#pragma once

#include <functional>
#include <utility>

#include <torc/runtime/task.hpp>

/// Errors as values: `co_await as_result(stream.receive(buffer))` gives a `result<std::size_t>`.
namespace torc {

/// The result of something that gives a `T`; a reference is held in a std::reference_wrapper.
template <class T>
using settled =
    result<std::conditional_t<std::is_reference_v<T>, std::reference_wrapper<std::remove_reference_t<T>>, T>>;

namespace detail {

template <class T>
task<settled<T>> settle(task<T> inner) {
    try {
        if constexpr (std::is_void_v<T>) {
            co_await std::move(inner);
            co_return settled<void>{};
        } else {
            co_return settled<T>{co_await std::move(inner)};
        }
    } catch (const Error& error) {
        co_return std::unexpected{error};
    }
}

template <class Operation>
class as_result_awaitable {
   public:
    explicit as_result_awaitable(Operation&& operation) noexcept : operation_(std::move(operation)) {}
    bool await_ready() noexcept { return operation_.await_ready(); }
    template <class Promise>
    auto await_suspend(std::coroutine_handle<Promise> self) noexcept {
        return operation_.await_suspend(self);
    }
    auto await_resume() { return operation_.take(); }

   private:
    Operation operation_;
};

}  // namespace detail

/// Awaits an operation or a task and gives its `Error`, if there is one, as a value. An operation then never throws for
/// what the network does, and costs nothing more. Other exceptions and `cancelled` unwind as ever.
template <awaitable A>
[[nodiscard]] auto as_result(A&& it) {
    if constexpr (!std::is_lvalue_reference_v<A> && requires(A& operation) { operation.take(); }) {
        return detail::as_result_awaitable<A>{std::forward<A>(it)};
    } else {
        return detail::settle(as_task(std::forward<A>(it)));
    }
}

}  // namespace torc
