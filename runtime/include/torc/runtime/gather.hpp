#pragma once

#include <ranges>
#include <tuple>
#include <utility>
#include <variant>
#include <vector>

#include <torc/runtime/task.hpp>

/// Several at once, all awaited.
///
/// The children's frames exist before any of them starts; they start in input order, in place. However it ends, no
/// child is running any more when the await returns or throws.
namespace torc {

/// How a combinator holds a result: `void` becomes std::monostate, everything else is itself.
template <class T>
using held = std::conditional_t<std::is_void_v<T>, std::monostate, T>;

namespace detail {

/// Takes the value out of a finished task.
template <class T>
held<T> take_held(promise<T>& state) {
    if constexpr (std::is_void_v<T>) {
        return {};
    } else {
        return state.take();
    }
}

/// A group and its children, several of one kind or a few of different kinds: starts them all and waits for them. What
/// they give is for the combinator that derives from this to say.
template <class Group, class Tasks>
class children;

template <class Group, class... Ts>
class children<Group, std::tuple<task<Ts>...>> : public Group {
   public:
    explicit children(task<Ts>... tasks) : tasks_(std::move(tasks)...) {}

    bool await_ready() const noexcept { return sizeof...(Ts) == 0; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        task_state& owner = self.promise();
        this->open(*owner.executor, &owner);
        std::apply([this](auto&... each) { (this->start(each.state()), ...); }, tasks_);
        return this->wait();
    }

   protected:
    children(children&&) noexcept = default;
    ~children() = default;

    std::tuple<task<Ts>...> tasks_;
};

template <class Group, class T>
class children<Group, std::vector<task<T>>> : public Group {
   public:
    explicit children(std::vector<task<T>> tasks) : tasks_(std::move(tasks)) {}

    bool await_ready() const noexcept { return tasks_.empty(); }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        task_state& owner = self.promise();
        this->open(*owner.executor, &owner);
        for (task<T>& each : tasks_) this->start(each.state());
        return this->wait();
    }

   protected:
    children(children&&) noexcept = default;
    ~children() = default;

    std::vector<task<T>> tasks_;
};

class gather_group : public fail_fast_group {
   protected:
    gather_group() noexcept : fail_fast_group("gather") {}
    gather_group(gather_group&&) noexcept = default;
    ~gather_group() = default;
};

template <class... Ts>
class [[nodiscard]] gather_awaitable final : public children<gather_group, std::tuple<task<Ts>...>> {
   public:
    using children<gather_group, std::tuple<task<Ts>...>>::children;
    auto await_resume() {
        this->throw_if_failed();
        if constexpr (!(std::is_void_v<Ts> && ...)) {
            return std::apply([](auto&... each) { return std::tuple<held<Ts>...>{take_held(each.state())...}; },
                              this->tasks_);
        }
    }
};

template <class T>
class [[nodiscard]] gather_range_awaitable final : public children<gather_group, std::vector<task<T>>> {
   public:
    using children<gather_group, std::vector<task<T>>>::children;
    auto await_resume() {
        this->throw_if_failed();
        if constexpr (!std::is_void_v<T>) {
            std::vector<T> values;
            values.reserve(this->tasks_.size());
            for (task<T>& each : this->tasks_) values.push_back(each.state().take());
            return values;
        }
    }
};

template <std::ranges::input_range R>
auto tasks_of(R&& range) {
    using item = std::ranges::range_reference_t<R>;
    std::vector<task<task_result_t<std::remove_cvref_t<item>>>> tasks;
    if constexpr (std::ranges::sized_range<R>) tasks.reserve(std::ranges::size(range));
    for (auto&& each : range) tasks.push_back(as_task(std::move(each)));
    return tasks;
}

template <class T>
std::vector<task<T>> tasks_of(std::vector<task<T>>&& tasks) {
    return std::move(tasks);
}

template <class R>
concept range_of_awaitables =
    std::ranges::input_range<R> && awaitable<std::remove_cvref_t<std::ranges::range_reference_t<R>>>;

}  // namespace detail

/// Runs all at once and awaits all.
/// Shape:  a tuple in argument order, with std::monostate for `void`; nothing if all are void.
/// Errors: the first to fail cancels the others; all are awaited; its error is thrown, and if it is an `Error`, those
///         of the others are attached. Cancelled from outside, all are cancelled and awaited, and `cancelled` unwinds.
template <awaitable... As>
[[nodiscard]] auto gather(As&&... all) {
    return detail::gather_awaitable<task_result_t<As>...>{as_task(std::forward<As>(all))...};
}

/// The same for a range of awaitables, which is moved from.
/// Shape:  a vector in input order, or nothing if void.
template <detail::range_of_awaitables R>
[[nodiscard]] auto gather(R&& range) {
    auto tasks = detail::tasks_of(std::forward<R>(range));
    return detail::gather_range_awaitable<typename decltype(tasks)::value_type::value_type>{std::move(tasks)};
}

}  // namespace torc
