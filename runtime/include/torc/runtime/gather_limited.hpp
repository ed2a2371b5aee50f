#pragma once

#include <optional>

#include <torc/runtime/gather.hpp>

/// Many, a few at a time.
namespace torc {

namespace detail {

/// The state that the workers of one gather_limited share: where they are in the range, and the results.
template <class Range, class Function>
struct limited_work {
    using item_type = std::ranges::range_reference_t<Range>;
    using value_type = task_result_t<std::invoke_result_t<Function&, item_type>>;

    limited_work(Range items, Function call) : range(std::move(items)), function(std::move(call)) {}

    Range range;
    Function function;
    std::ranges::iterator_t<Range> next = std::ranges::begin(range);
    std::size_t started = 0;
    std::vector<std::optional<held<value_type>>> values;
};

template <class Work>
task<> limited_worker(Work& work) {
    const child_group& scope = *Executor::here().running()->scope;
    while (work.next != std::ranges::end(work.range)) {
        // Items that never wait would not notice; and none may be begun any more.
        if (scope.cancelled()) throw torc::cancelled{};
        const std::size_t index = work.started++;
        auto one = as_task(work.function(*work.next));
        ++work.next;
        if constexpr (std::is_void_v<typename Work::value_type>) {
            co_await std::move(one);
        } else {
            work.values.resize(std::max(work.values.size(), index + 1));
            auto value = co_await std::move(one);
            work.values[index].emplace(std::move(value));
        }
    }
}

template <class Range, class Function>
auto gather_limited_in(std::size_t most, Range range, Function function)
    -> task<std::conditional_t<std::is_void_v<typename limited_work<Range, Function>::value_type>, void,
                               std::vector<held<typename limited_work<Range, Function>::value_type>>>> {
    using work_type = limited_work<Range, Function>;
    work_type work(std::move(range), std::move(function));
    if constexpr (std::ranges::sized_range<Range>) {
        most = std::min<std::size_t>(most, std::ranges::size(work.range));
    }
    std::vector<task<>> workers;
    workers.reserve(most);
    for (std::size_t count = 0; count < most; ++count) workers.push_back(limited_worker(work));
    co_await gather(std::move(workers));
    if constexpr (!std::is_void_v<typename work_type::value_type>) {
        std::vector<held<typename work_type::value_type>> values;
        values.reserve(work.values.size());
        for (auto& each : work.values) values.push_back(std::move(*each));
        co_return values;
    }
}

}  // namespace detail

/// Calls `function` on each item of `range` and awaits what it returns, at most `most` at once. Items are taken lazily,
/// as places become free, so an endless input view needs no more memory than `most` tasks.
/// Shape:    a vector in input order, or nothing if the function's tasks are void.
/// Lifetime: a range passed by name is viewed and must outlive the await; a temporary is moved in.
/// Requires: most > 0.
/// Errors:   as `gather`; items not begun when one fails are never begun.
template <std::ranges::input_range Range, class Function>
[[nodiscard]] auto gather_limited(std::size_t most, Range&& range, Function function) {
    TORC_ASSERT(most > 0, "gather_limited needs room for at least one at a time");
    return detail::gather_limited_in(most, std::views::all(std::forward<Range>(range)), std::move(function));
}

}  // namespace torc
