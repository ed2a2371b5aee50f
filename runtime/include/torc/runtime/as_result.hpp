#pragma once

#include <functional>
#include <type_traits>
#include <utility>

#include <torc/runtime/task.hpp>

/// Errors as values: `co_await as_result(stream.receive(buffer))` gives a `result<std::size_t>`.
namespace torc {

/// The result of something that gives a `T`; a reference is held in a std::reference_wrapper.
template <class T>
using settled =
    result<std::conditional_t<std::is_reference_v<T>, std::reference_wrapper<std::remove_reference_t<T>>, T>>;

namespace detail {

/// An operation that can say itself what became of it.
template <class Operation>
class [[nodiscard]] as_result_awaitable {
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

/// What throws: a task, or a combinator. It is awaited in the same frame as ever.
template <class Throwing>
class [[nodiscard]] settled_awaitable {
   public:
    explicit settled_awaitable(Throwing&& it) noexcept : it_(std::move(it)) {}
    bool await_ready() noexcept {
        if constexpr (is_task<Throwing>) {
            return false;
        } else {
            return it_.await_ready();
        }
    }
    template <class Promise>
    auto await_suspend(std::coroutine_handle<Promise> self) noexcept {
        return awaiter_of(std::move(it_)).await_suspend(self);
    }
    settled<await_result_t<Throwing>> await_resume() {
        try {
            if constexpr (std::is_void_v<await_result_t<Throwing>>) {
                resume();
                return {};
            } else {
                return settled<await_result_t<Throwing>>{std::in_place, resume()};
            }
        } catch (const Error& error) {
            return std::unexpected{error};
        }
    }

   private:
    decltype(auto) resume() {
        if constexpr (is_task<Throwing>) {
            return typename Throwing::awaiter{it_.state()}.await_resume();
        } else {
            return it_.await_resume();
        }
    }

    Throwing it_;
};

}  // namespace detail

/// Awaits an operation or a task and gives its `Error`, if there is one, as a value. An operation then never throws for
/// what the network does, and costs nothing more. Other exceptions and `cancelled` unwind as ever.
template <awaitable A>
[[nodiscard]] auto as_result(A&& it) {
    if constexpr (!std::is_lvalue_reference_v<A> && requires(A& operation) { operation.take(); }) {
        return detail::as_result_awaitable<A>{std::forward<A>(it)};
    } else if constexpr (!std::is_lvalue_reference_v<A> && requires(A& awaiter) { awaiter.await_ready(); }) {
        return detail::settled_awaitable<A>{std::forward<A>(it)};
    } else {
        return detail::settled_awaitable{as_task(std::forward<A>(it))};
    }
}

}  // namespace torc
