#include <torc/runtime/gather_limited.hpp>

#include <doctest/doctest.h>

#include <leak_check.hpp>
#include <memory>
#include <plug.hpp>
#include <ranges>
#include <steps.hpp>
#include <vector>

#include <torc/runtime/scope.hpp>

// A few at a time: never more than asked for, begun lazily, in order, and none any more once one has failed.

namespace {

using torc::Error;
using torc::gather_limited;
using torc::scope;
using torc::task;
using namespace torc::test;

struct Gauge {
    int now = 0;
    int most = 0;
    int begun = 0;
    void enter() {
        ++begun;
        most = std::max(most, ++now);
    }
    void leave() { --now; }
};

}  // namespace

TEST_CASE("no more run at once than asked for, and the values come in the order of the input") {
    run_clean([]() -> task<> {
        for (const std::size_t limit : {1U, 3U, 50U, 1000U}) {
            Gauge gauge;
            const std::vector<int> values =
                co_await gather_limited(limit, std::views::iota(0, 50), [&](int item) -> task<int> {
                    gauge.enter();
                    co_await turns(1 + (item * 7) % 5);
                    gauge.leave();
                    co_return item* item;
                });
            CHECK(gauge.most == static_cast<int>(std::min<std::size_t>(limit, 50)));
            REQUIRE(values.size() == 50);
            for (int item = 0; item < 50; ++item) CHECK(values[static_cast<std::size_t>(item)] == item * item);
        }
    });
}

TEST_CASE("an item is taken only when there is a place for it") {
    run_clean([]() -> task<> {
        int taken = 0;
        int finished = 0;
        auto items = std::views::iota(0, 100) | std::views::transform([&](int item) {
                         CHECK(taken <= finished + 4);
                         ++taken;
                         return item;
                     });
        co_await gather_limited(4, std::move(items), [&](int) -> task<> {
            co_await turns(1);
            ++finished;
        });
        CHECK(taken == 100);
        CHECK(finished == 100);
    });
}

TEST_CASE("results may be nothing, owned or not default-constructible, and the range may be empty") {
    struct particular {
        explicit particular(int what) : value(what) {}
        const int value;
    };
    run_clean([&]() -> task<> {
        const std::vector<int> input{1, 2, 3};
        int sum = 0;
        co_await gather_limited(2, input, [&](const int& item) -> task<> {
            CHECK(&item >= input.data());  // viewed, not copied
            sum += item;
            co_return;
        });
        CHECK(sum == 6);
        const auto owned =
            co_await gather_limited(2, input, [](int item) { return value_after(1, std::make_unique<int>(item)); });
        CHECK(*owned[2] == 3);
        std::vector<int> moved_in;
        moved_in.push_back(4);
        moved_in.push_back(5);
        const auto built = co_await gather_limited(2, std::move(moved_in), [](int item) -> task<particular> {
            co_await torc::yield();
            co_return particular{item};
        });
        CHECK(built[1].value == 5);
        CHECK((co_await gather_limited(2, std::vector<int>{}, [](int item) { return value_after(1, item); })).empty());
    });
}

TEST_CASE("the first failure cancels those that run, and items not begun are never begun") {
    run_clean([]() -> task<> {
        Gauge gauge;
        journal notes;
        auto work = [&](int item) -> task<int> {
            gauge.enter();
            if (item == 4) co_await fail_after(3, "the fifth");
            if (item > 4) co_await forever(notes);
            co_return item;
        };
        auto all = gather_limited(3, std::views::iota(0, 1000), work);
        CHECK_THROWS_WITH_AS(co_await std::move(all), "the fifth", Error);
        CHECK(gauge.begun == 7);
        CHECK(notes.begun == 2);
        CHECK(notes.unwound == 2);
    });
}

TEST_CASE("items not begun when one fails are never begun, though they would not have had to wait") {
    run_clean([]() -> task<> {
        int begun = 0;
        auto at_once = [&](int item) -> task<int> {
            ++begun;
            if (item == 0) throw Error{torc::errc::not_found, torc::phase::none, "", "the first"};
            co_return item;
        };
        auto all = gather_limited(4, std::views::iota(0, 1000), at_once);
        CHECK_THROWS_WITH_AS(co_await std::move(all), "the first", Error);
        CHECK(begun <= 4);
    });
}

TEST_CASE("cancelled from outside, no further item is begun and no value comes of it") {
    run_clean([]() -> task<> {
        int begun = 0;
        bool value = false;
        auto body = [&](scope& here) -> task<> {
            auto work = [&](int item) -> task<int> {
                if (++begun == 10) here.cancel();
                co_return item;
            };
            const auto values = co_await gather_limited(3, std::views::iota(0, 1000), work);
            value = true;
        };
        co_await torc::with_scope([&](scope& here) -> task<> {
            here.spawn(body(here));
            co_return;
        });
        CHECK_FALSE(value);
        CHECK(begun <= 13);
    });
}

TEST_CASE("a function that throws instead of giving a task fails like a task") {
    run_clean([]() -> task<> {
        journal notes;
        auto work = [&](int item) -> task<> {
            if (item == 1) throw Error{torc::errc::invalid_argument, torc::phase::none, "", "no task for one"};
            return forever(notes);
        };
        auto all = gather_limited(3, std::views::iota(0, 5), work);
        CHECK_THROWS_WITH_AS(co_await std::move(all), "no task for one", Error);
        CHECK(notes.unwound == notes.begun);
    });
}

TEST_CASE("with the plug pulled at any await, everything unwinds") {
    Resource::Counts counts;
    pull_the_plug(
        [&]() -> task<> {
            const auto values = co_await gather_limited(3, std::views::iota(0, 9), [&](int item) -> task<int> {
                const Resource mine{counts};
                co_await turns(item % 3);
                co_return item;
            });
            CHECK(values.size() == 9);
        },
        [&](bool) { CHECK(counts.open == 0); });
}
