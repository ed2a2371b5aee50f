#pragma once

#include <torc/runtime/as_result.hpp>
#include <torc/runtime/gather.hpp>

/// Several at once, each with its own ending.
namespace torc {

namespace detail {

/// Collects endings without letting one of them touch the others.
class settling_group : public child_group {
   protected:
    settling_group() noexcept : child_group("gather_settled") {}
    settling_group(settling_group&&) noexcept = default;
    ~settling_group() = default;
    void child_finished(task_state& child) noexcept override {
        if (child.ended == outcome::cancelled) child_cancelled_ = true;
    }
    void throw_if_cancelled() const {
        if (child_cancelled_) throw torc::cancelled{};
    }
    template <class T>
    static settled<T> ending_of(promise<T>& state) {
        if (state.ended == outcome::value) {
            if constexpr (std::is_void_v<T>) {
                return {};
            } else {
                return state.take();
            }
        }
        try {
            std::rethrow_exception(state.error);
        } catch (const Error& error) {
            return std::unexpected{error};
        }
    }

   private:
    bool child_cancelled_ = false;
};

template <class... Ts>
class [[nodiscard]] gather_settled_awaitable final : public children<settling_group, std::tuple<task<Ts>...>> {
   public:
    using children<settling_group, std::tuple<task<Ts>...>>::children;
    std::tuple<settled<Ts>...> await_resume() {
        this->throw_if_cancelled();
        return std::apply(
            [](auto&... each) { return std::tuple<settled<Ts>...>{settling_group::ending_of(each.state())...}; },
            this->tasks_);
    }
};

template <class T>
class [[nodiscard]] gather_settled_range_awaitable final : public children<settling_group, std::vector<task<T>>> {
   public:
    using children<settling_group, std::vector<task<T>>>::children;
    std::vector<settled<T>> await_resume() {
        this->throw_if_cancelled();
        std::vector<settled<T>> results;
        results.reserve(this->tasks_.size());
        for (task<T>& each : this->tasks_) results.push_back(this->ending_of(each.state()));
        return results;
    }
};

}  // namespace detail

/// Runs all at once and gives each one's ending as a `result`: a failure leaves the others running.
/// Shape:  a tuple of `result<T>` in argument order.
/// Errors: an exception that is not an `Error` does not fit a result and is thrown once all are done. Cancelled from
///         outside, all are cancelled and awaited, and `cancelled` unwinds.
template <awaitable... As>
[[nodiscard]] auto gather_settled(As&&... all) {
    return detail::gather_settled_awaitable<task_result_t<As>...>{as_task(std::forward<As>(all))...};
}

/// The same for a range of awaitables, which is moved from; gives a vector in input order.
template <detail::range_of_awaitables R>
[[nodiscard]] auto gather_settled(R&& range) {
    auto tasks = detail::tasks_of(std::forward<R>(range));
    return detail::gather_settled_range_awaitable<typename decltype(tasks)::value_type::value_type>{std::move(tasks)};
}

}  // namespace torc
