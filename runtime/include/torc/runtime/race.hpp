#pragma once

#include <optional>

#include <torc/runtime/gather.hpp>

/// Several at once, the first wins.
namespace torc {

/// What `race` over a range gives: which one finished first, and with what.
template <class T>
struct race_result {
    std::size_t index;
    held<T> value;
};

namespace detail {

class race_group : public child_group {
   protected:
    race_group() noexcept : child_group("race") {}
    race_group(race_group&&) noexcept = default;
    ~race_group() = default;
    void child_finished(task_state& child) noexcept override {
        if (winner_ == nullptr && child.ended != outcome::cancelled) winner_ = &child;
        cancel();
    }
    /// The one that finished first. Throws what it threw, or `cancelled` if there is none.
    [[nodiscard]] const task_state& winner() const {
        if (winner_ == nullptr) throw torc::cancelled{};
        rethrow_end(*winner_);
        return *winner_;
    }

   private:
    task_state* winner_ = nullptr;
};

template <class... Ts>
class [[nodiscard]] race_awaitable final : public children<race_group, std::tuple<task<Ts>...>> {
   public:
    using children<race_group, std::tuple<task<Ts>...>>::children;
    std::variant<held<Ts>...> await_resume() { return value_of(this->winner(), std::index_sequence_for<Ts...>{}); }

   private:
    template <std::size_t... Is>
    std::variant<held<Ts>...> value_of(const task_state& won, std::index_sequence<Is...>) {
        auto& tasks = this->tasks_;
        std::optional<std::variant<held<Ts>...>> value;
        ((&std::get<Is>(tasks).state() == &won
              ? void(value.emplace(std::in_place_index<Is>, take_held(std::get<Is>(tasks).state())))
              : void()),
         ...);
        return std::move(*value);
    }
};

template <class T>
class [[nodiscard]] race_range_awaitable final : public children<race_group, std::vector<task<T>>> {
   public:
    using children<race_group, std::vector<task<T>>>::children;
    race_result<T> await_resume() {
        const task_state& won = this->winner();
        std::size_t index = 0;
        while (&this->tasks_[index].state() != &won) ++index;
        return {index, take_held(this->tasks_[index].state())};
    }
};

}  // namespace detail

/// Runs all at once until the first has finished, then cancels the others and awaits them.
/// Shape:  a variant whose index is the winner's place and whose value is the winner's (std::monostate for `void`).
/// Errors: if the first to finish failed, its error. What a loser still brought about is disposed of: a value it
///         returned is destroyed, a resource it opened is closed.
template <awaitable... As>
    requires(sizeof...(As) > 0)
[[nodiscard]] auto race(As&&... all) {
    return detail::race_awaitable<task_result_t<As>...>{as_task(std::forward<As>(all))...};
}

/// The same for a range of awaitables, which is moved from. Requires: not empty.
template <detail::range_of_awaitables R>
[[nodiscard]] auto race(R&& range) {
    auto tasks = detail::tasks_of(std::forward<R>(range));
    TORC_ASSERT(!tasks.empty(), "a race needs at least one runner");
    return detail::race_range_awaitable<typename decltype(tasks)::value_type::value_type>{std::move(tasks)};
}

}  // namespace torc
