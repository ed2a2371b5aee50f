#include <torc/runtime/gather_settled.hpp>

#include <doctest/doctest.h>

#include <leak_check.hpp>
#include <memory>
#include <plug.hpp>
#include <stdexcept>
#include <steps.hpp>
#include <string>
#include <vector>

#include <torc/runtime/scope.hpp>
#include <torc/runtime/timeout.hpp>

// Settling: everyone has an ending of its own, only a cancellation from outside ends them all.

namespace {

using torc::Error;
using torc::gather_settled;
using torc::scope;
using torc::task;
using namespace torc::test;

}  // namespace

TEST_CASE("each gives its own ending, in the order of the arguments, and a failure leaves the others running") {
    run_clean([]() -> task<> {
        auto [slow, failed, none, moved] =
            co_await gather_settled(value_after(9, 1), fail_after<std::string>(0, "not here"), turns(2),
                                    value_after(1, std::make_unique<int>(4)));
        CHECK(slow.value() == 1);
        REQUIRE_FALSE(failed.has_value());
        CHECK(failed.error().message() == "not here");
        CHECK(failed.error().code() == torc::errc::not_found);
        CHECK(none.has_value());
        CHECK(**moved == 4);
    });
}

TEST_CASE("a range gives a vector of endings in its order") {
    run_clean([]() -> task<> {
        std::vector<task<int>> all;
        for (int index = 0; index < 20; ++index) {
            all.push_back(index % 3 == 0 ? fail_after<int>(index % 7, std::to_string(index))
                                         : value_after(index % 5, index));
        }
        const auto endings = co_await gather_settled(std::move(all));
        REQUIRE(endings.size() == 20);
        for (int index = 0; index < 20; ++index) {
            const auto& ending = endings[static_cast<std::size_t>(index)];
            CHECK(ending.has_value() == (index % 3 != 0));
            if (ending) {
                CHECK(*ending == index);
            } else {
                CHECK(ending.error().message() == std::to_string(index));
            }
        }
        CHECK((co_await gather_settled(std::vector<task<>>{})).empty());
    });
}

TEST_CASE("a child's own timeout is an ending like any other") {
    run_clean([]() -> task<> {
        journal notes;
        auto [late, value] = co_await gather_settled(torc::with_timeout({}, forever(notes)), value_after(3, 1));
        REQUIRE_FALSE(late.has_value());
        CHECK(late.error().code() == torc::errc::timed_out);
        CHECK(value.value() == 1);
        CHECK(notes.unwound == 1);
    });
}

TEST_CASE("an exception that fits no result is thrown, but only once all are done") {
    run_clean([]() -> task<> {
        bool done = false;
        auto slow = [&]() -> task<> {
            co_await turns(5);
            done = true;
        };
        auto broken = []() -> task<int> {
            throw std::runtime_error("no Error");
            co_return 0;
        };
        CHECK_THROWS_WITH_AS(static_cast<void>(co_await gather_settled(broken(), slow())), "no Error",
                             std::runtime_error);
        CHECK(done);
    });
}

TEST_CASE("a cancellation from outside ends all of them and never becomes an ending") {
    run_clean([]() -> task<> {
        journal notes;
        bool unwound = false;
        auto body = [&]() -> task<> {
            try {
                static_cast<void>(
                    co_await gather_settled(forever(notes), value_after(0, 1), fail_after(0, "x"), forever(notes)));
                FAIL_CHECK("settled");
            } catch (const torc::cancelled&) {
                unwound = true;
                throw;
            }
        };
        co_await torc::with_scope([&](scope& here) -> task<> {
            here.spawn(body());
            co_await turns(3);
            here.cancel();
        });
        CHECK(unwound);
        CHECK(notes.unwound == 2);
    });
}

TEST_CASE("endings that are all there in spite of a cancellation are delivered") {
    run_clean([]() -> task<> {
        int value = 0;
        auto body = [&]() -> task<> {
            auto [late, failed] = co_await gather_settled(stubborn(7), fail_after(1, "x"));
            value = late.value();
            CHECK_FALSE(failed.has_value());
        };
        co_await torc::with_scope([&](scope& here) -> task<> {
            here.spawn(body());
            co_await turns(3);
            here.cancel();
        });
        CHECK(value == 7);
    });
}

TEST_CASE("in a scope that is cancelled already the children still run to their first suspension") {
    run_clean([]() -> task<> {
        journal notes;
        co_await torc::with_scope([&](scope& here) -> task<> {
            here.cancel();
            static_cast<void>(co_await gather_settled(forever(notes), forever(notes)));
        });
        CHECK(notes.begun == 2);
        CHECK(notes.unwound == 2);
    });
}

TEST_CASE("with the plug pulled at any await, everything unwinds") {
    Resource::Counts counts;
    pull_the_plug(
        [&]() -> task<> {
            auto child = [&](int wait) -> task<int> {
                const Resource mine{counts};
                co_await turns(wait);
                if (wait == 2) throw Error{torc::errc::closed, torc::phase::none, "", "odd"};
                co_return wait;
            };
            auto [one, two, three] = co_await gather_settled(child(1), child(2), child(3));
            CHECK(one.value() == 1);
            CHECK_FALSE(two.has_value());
            CHECK(three.value() == 3);
        },
        [&](bool) { CHECK(counts.open == 0); });
}
