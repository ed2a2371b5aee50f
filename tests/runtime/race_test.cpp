#include <torc/runtime/race.hpp>

#include <doctest/doctest.h>

#include <leak_check.hpp>
#include <memory>
#include <plug.hpp>
#include <steps.hpp>
#include <string>
#include <vector>

#include <torc/runtime/scope.hpp>
#include <torc/runtime/timeout.hpp>

// Races: the first to finish wins, with a value or a failure; the others are cancelled, awaited and disposed of.

namespace {

using torc::Error;
using torc::race;
using torc::scope;
using torc::task;
using namespace torc::test;

}  // namespace

TEST_CASE("the first to finish wins, and the others are cancelled and awaited") {
    run_clean([]() -> task<> {
        journal notes;
        const auto won =
            co_await race(forever(notes), value_after(2, std::string{"here"}), value_after(5, 3), turns(9));
        CHECK(won.index() == 1);
        CHECK(std::get<1>(won) == "here");
        CHECK(notes.unwound == 1);
        const auto none = co_await race(turns(0), forever(notes));
        CHECK(none.index() == 0);
        CHECK(notes.begun == 2);  // cancelled before it began, it ran to its first suspension
        CHECK(notes.unwound == 2);
    });
}

TEST_CASE("a race over a range tells who won, and with what") {
    run_clean([]() -> task<> {
        std::vector<task<std::unique_ptr<int>>> runners;
        for (const int wait : {5, 1, 3}) runners.push_back(value_after(wait, std::make_unique<int>(wait)));
        const auto won = co_await race(std::move(runners));
        CHECK(won.index == 1);
        CHECK(*won.value == 1);
        std::vector<task<>> walkers;
        walkers.push_back(forever());
        walkers.push_back(turns(1));
        CHECK((co_await race(std::move(walkers))).index == 1);
    });
}

TEST_CASE("of two that finish in the same turn the earlier wins, and the other's value is destroyed") {
    run_clean([]() -> task<> {
        Resource::Counts counts;
        auto open = [&]() -> task<Resource> {
            co_await torc::yield();
            co_return Resource{counts};
        };
        auto one_race = [&]() -> task<> {
            const auto won = co_await race(open(), open(), open());
            CHECK(won.index() == 0);
            CHECK(counts.open >= 1);
        };
        co_await one_race();
        CHECK(counts.open == 0);
        CHECK(counts.closed == 3);
    });
}

TEST_CASE("a loser's resource is closed: in its frame by the end of the race, in its value by the end of the task") {
    run_clean([]() -> task<> {
        Resource::Counts frames;
        Resource::Counts values;
        auto loser = [&]() -> task<Resource> {
            const Resource local{frames};
            Resource result{values};
            try {
                co_await forever();
            } catch (const torc::cancelled&) {
            }
            co_return result;
        };
        auto one_race = [&]() -> task<> {
            const auto won = co_await race(loser(), turns(2));
            CHECK(won.index() == 1);
            CHECK(frames.closed == 1);
        };
        co_await one_race();
        CHECK(values.open == 0);
        CHECK(values.closed == 1);
    });
}

TEST_CASE("a failure that comes first wins the race") {
    run_clean([]() -> task<> {
        journal notes;
        CHECK_THROWS_WITH_AS(
            static_cast<void>(co_await race(forever(notes), fail_after(1, "first"), value_after(2, 1))), "first",
            Error);
        CHECK(notes.unwound == 1);
    });
}

TEST_CASE("a failure that comes second is disposed of") {
    run_clean([]() -> task<> {
        auto sore_loser = []() -> task<> {
            try {
                co_await forever();
            } catch (const torc::cancelled&) {
            }
            throw Error{torc::errc::closed, torc::phase::close, "", "not fair"};
        };
        const auto won = co_await race(sore_loser(), value_after(2, 1));
        CHECK(std::get<1>(won) == 1);
    });
}

TEST_CASE("a runner's own timeout is a failure, an outer cancellation is none") {
    run_clean([]() -> task<> {
        journal notes;
        std::error_code code;
        try {
            static_cast<void>(co_await race(forever(notes), torc::with_timeout({}, forever(notes))));
        } catch (const Error& error) {
            code = error.code();
        }
        CHECK(code == torc::errc::timed_out);
        CHECK(notes.unwound == 2);

        bool unwound = false;
        auto body = [&]() -> task<> {
            try {
                static_cast<void>(co_await race(forever(notes), forever(notes)));
                FAIL_CHECK("somebody won");
            } catch (const torc::cancelled&) {
                unwound = true;
                throw;
            }
        };
        co_await torc::with_scope([&](scope& here) -> task<> {
            here.spawn(body());
            co_await turns(2);
            here.cancel();
        });
        CHECK(unwound);
        CHECK(notes.unwound == 4);
    });
}

TEST_CASE("a winner that was there before the cancellation is delivered, and the next await throws") {
    run_clean([]() -> task<> {
        int value = 0;
        bool went_on = false;
        co_await torc::with_scope([&](scope& here) -> task<> {
            auto winner = [&]() -> task<int> {
                co_await turns(2);
                here.cancel();
                co_return 7;
            };
            const auto won = co_await race(winner(), forever());
            value = std::get<0>(won);
            co_await torc::yield();
            went_on = true;
        });
        CHECK(value == 7);
        CHECK_FALSE(went_on);
    });
}

TEST_CASE("races nest ten thousand deep") {
    struct deep {
        static task<int> run(int levels) {
            if (levels == 0) co_return co_await value_after(3, 7);
            const auto won = co_await race(forever(), run(levels - 1));
            co_return std::get<1>(won);
        }
    };
    CHECK(run_clean([]() -> task<int> { return deep::run(10'000); }) == 7);
}

TEST_CASE("with the plug pulled at any await, everything unwinds") {
    Resource::Counts counts;
    pull_the_plug(
        [&]() -> task<> {
            auto runner = [&](int wait) -> task<Resource> {
                const Resource local{counts};
                Resource result{counts};
                co_await driver_turns(wait);  // like the close of `local`, so that the order of the ends is known
                co_return result;
            };
            const auto won = co_await race(runner(4), runner(2), runner(9));
            CHECK(won.index() == 1);
            co_await turns(2);
        },
        [&](bool) { CHECK(counts.open == 0); });
}
