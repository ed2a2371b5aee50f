#pragma once

#include <optional>
#include <torc/runtime/as_result.hpp>
#include <torc/runtime/close.hpp>
#include <torc/runtime/task.hpp>

/// A block with a resource, like Python's `async with`.
namespace torc {

namespace detail {

/// Rethrows `body`, with the error of the close attached where the body's is an `Error`.
[[noreturn]] void rethrow_with(std::exception_ptr body, const Error* close);

}  // namespace detail

/// Calls `body` with the resource, awaits what it returns, then awaits the close: on return, exception and cancellation
/// alike.
/// Shape:    the resource has `close()`; the body takes it by reference and returns a task, whose value is the result.
/// Lifetime: the resource is moved in and lives until the close has completed.
/// Errors:   the body's error wins and the close's is attached to it; without one, a failed close throws.
template <class Resource, class Body>
auto with(Resource resource, Body body) -> task<task_result_t<std::invoke_result_t<Body&, Resource&>>> {
    using T = task_result_t<std::invoke_result_t<Body&, Resource&>>;
    std::optional<std::conditional_t<std::is_void_v<T>, bool, T>> value;
    std::exception_ptr failure;
    try {
        if constexpr (std::is_void_v<T>) {
            co_await body(resource);
        } else {
            value.emplace(co_await body(resource));
        }
    } catch (...) {
        failure = std::current_exception();
    }
    result<void> closed = co_await as_result(resource.close());
    if (failure) detail::rethrow_with(std::move(failure), closed ? nullptr : &closed.error());
    if (!closed) throw closed.error();
    if constexpr (!std::is_void_v<T>) co_return std::move(*value);
}

}  // namespace torc
