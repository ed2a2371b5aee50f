#include <torc/runtime/gather.hpp>

#include <doctest/doctest.h>

#include <leak_check.hpp>
#include <memory>
#include <plug.hpp>
#include <stdexcept>
#include <steps.hpp>
#include <string>
#include <vector>

#include <torc/runtime/as_result.hpp>
#include <torc/runtime/event.hpp>
#include <torc/runtime/scope.hpp>

// Gathering: all run at once, all are awaited however it ends, the first failure is what one gets.

namespace {

using torc::Error;
using torc::gather;
using torc::scope;
using torc::task;
using torc::with_scope;
using namespace torc::test;

task<std::unique_ptr<int>> owned(int value) {
    co_await torc::yield();
    co_return std::make_unique<int>(value);
}
task<int&> refer(int& value) {
    co_await torc::yield();
    co_return value;
}

std::string sentence(const std::exception_ptr& error) {
    try {
        std::rethrow_exception(error);
    } catch (const std::exception& caught) {
        return caught.what();
    }
}

/// Awaits it in a scope that is cancelled once everything waits. Returns whether `cancelled` came out of it.
template <class Make>
task<bool> cancelled_from_outside(Make make) {
    bool unwound = false;
    auto body = [&]() -> task<> {
        try {
            co_await make();
        } catch (const torc::cancelled&) {
            unwound = true;
            throw;
        }
    };
    co_await with_scope([&](scope& here) -> task<> {
        here.spawn(body());
        co_await turns(3);
        here.cancel();
    });
    co_return unwound;
}

task<int> nested(int levels) {
    if (levels == 0) {
        co_await torc::yield();
        co_return 0;
    }
    auto [below] = co_await gather(nested(levels - 1));
    co_return below + 1;
}
task<int> nested_failure(int levels) {
    if (levels == 0) {
        co_await fail_after(2, "from below");
        co_return 0;
    }
    auto [below] = co_await gather(nested_failure(levels - 1));
    co_return below;
}
task<> nested_wait(int levels, journal& notes) {
    if (levels == 0) {
        co_await forever(notes);
    } else {
        co_await gather(nested_wait(levels - 1, notes));
    }
}

}  // namespace

TEST_CASE("gather gives the results in the order of its arguments, whoever was first") {
    run_clean([]() -> task<> {
        auto [slow, none, quick] = co_await gather(value_after(5, 1), turns(1), value_after(0, std::string{"three"}));
        CHECK(slow == 1);
        static_assert(std::same_as<decltype(none), std::monostate>);
        CHECK(quick == "three");
    });
}

TEST_CASE("gather gives a vector in the order of its range, whoever was first") {
    run_clean([]() -> task<> {
        std::vector<task<int>> tasks;
        for (int index = 0; index < 100; ++index) tasks.push_back(value_after((index * 37) % 11, index));
        const std::vector<int> values = co_await gather(std::move(tasks));
        REQUIRE(values.size() == 100);
        for (int index = 0; index < 100; ++index) CHECK(values[static_cast<std::size_t>(index)] == index);
    });
}

TEST_CASE("gathering nothing is done at once") {
    run_clean([]() -> task<> {
        const auto before = torc::Executor::here().statistics().suspensions;
        co_await gather();
        co_await gather(std::vector<task<>>{});
        const std::vector<int> none = co_await gather(std::vector<task<int>>{});
        CHECK(none.empty());
        CHECK(torc::Executor::here().statistics().suspensions == before);
    });
}

TEST_CASE("results may be owned, or references to the very object") {
    run_clean([]() -> task<> {
        int here = 1;
        auto [one, same] = co_await gather(owned(1), refer(here));
        CHECK(*one == 1);
        CHECK(&same == &here);
        std::vector<task<std::unique_ptr<int>>> many;
        many.push_back(owned(2));
        many.push_back(owned(3));
        const auto values = co_await gather(std::move(many));
        CHECK(*values[0] == 2);
        CHECK(*values[1] == 3);
    });
}

TEST_CASE("gather takes operations as well as tasks, by name or as temporaries") {
    run_clean([]() -> task<> {
        torc::event done;
        auto waiting = done.wait();
        auto setter = [&]() -> task<> {
            co_await torc::yield();
            done.set();
        };
        co_await gather(waiting, torc::yield(), done.wait(), setter());
        CHECK(done.is_set());
    });
}

TEST_CASE("children start in place and in order, and all their frames exist before the first starts") {
    run_clean([]() -> task<> {
        std::vector<int> order;
        const std::ptrdiff_t before = torc::detail::live_frames();
        auto child = [&](int name) -> task<> {
            CHECK(torc::detail::live_frames() == before + 3);
            order.push_back(name);
            co_await torc::yield();
            order.push_back(10 * name);
        };
        co_await gather(child(1), child(2), child(3));
        CHECK(order == std::vector<int>{1, 2, 3, 10, 20, 30});
    });
}

TEST_CASE("the first failure cancels the others, awaits them, and is what one gets") {
    run_clean([]() -> task<> {
        journal notes;
        bool cleaned_up = false;
        auto careful = [&]() -> task<> {
            try {
                co_await forever();
            } catch (const torc::cancelled&) {
                cleaned_up = true;
                throw;
            }
        };
        CHECK_THROWS_WITH_AS(co_await gather(forever(notes), fail_after(2, "first"), careful(), fail_after(9, "late")),
                             "first", Error);
        CHECK(notes.begun == 1);
        CHECK(notes.unwound == 1);
        CHECK(cleaned_up);
    });
}

TEST_CASE("whatever fails later is attached to the first failure, in the order in which it failed") {
    run_clean([]() -> task<> {
        auto fails_in_clean_up = [](int wait, const char* what) -> task<int> {
            bool asked = false;
            try {
                co_await forever();
            } catch (const torc::cancelled&) {
                asked = true;
            }
            CHECK(asked);
            if (wait > 0) throw std::runtime_error(what);
            throw Error{torc::errc::closed, torc::phase::close, "", what};
        };
        std::vector<task<int>> tasks;
        tasks.push_back(fails_in_clean_up(1, "second"));
        tasks.push_back(fail_after<int>(1, "first"));
        tasks.push_back(fails_in_clean_up(0, "third"));
        std::string what;
        std::vector<std::string> others;
        try {
            co_await gather(std::move(tasks));
        } catch (const Error& error) {
            what = error.what();
            CHECK(error.code() == torc::errc::not_found);
            for (const std::exception_ptr& other : error.attached()) others.push_back(sentence(other));
        }
        CHECK(what == "first");
        CHECK(others == std::vector<std::string>{"second", "close: third"});
    });
}

TEST_CASE("a failure that is no Error is passed on as it is") {
    run_clean([]() -> task<> {
        auto broken = []() -> task<> {
            co_await torc::yield();
            throw 42;
        };
        journal notes;
        int caught = 0;
        try {
            co_await gather(forever(notes), broken());
        } catch (const int number) {
            caught = number;
        }
        CHECK(caught == 42);
        CHECK(notes.unwound == 1);
    });
}

TEST_CASE("a child that fails at once still lets the later ones run to their first suspension") {
    run_clean([]() -> task<> {
        journal notes;
        int ran = 0;
        auto quick = [&]() -> task<> {
            ++ran;
            co_return;
        };
        CHECK_THROWS_WITH_AS(co_await gather(fail_after(0, "at once"), forever(notes), quick()), "at once", Error);
        CHECK(notes.begun == 1);
        CHECK(notes.unwound == 1);
        CHECK(ran == 1);
    });
}

TEST_CASE("cancelled from outside, all unwind and no value comes of it") {
    run_clean([]() -> task<> {
        journal notes;
        CHECK(co_await cancelled_from_outside([&]() -> task<> { co_await gather(forever(notes), forever(notes)); }));
        CHECK(notes.unwound == 2);
        CHECK(co_await cancelled_from_outside([&]() -> task<> {
            const auto [number, none] = co_await gather(value_after(0, 1), forever(notes));
            FAIL_CHECK("a value: ", number);
        }));
        CHECK(notes.unwound == 3);
    });
}

TEST_CASE("a result that is there in spite of a cancellation is delivered, and the next await throws") {
    run_clean([]() -> task<> {
        int value = 0;
        CHECK(co_await cancelled_from_outside([&]() -> task<> {
            const auto [late] = co_await gather(stubborn(7));
            value = late;
            co_await torc::yield();
            FAIL_CHECK("went on in a cancelled scope");
        }));
        CHECK(value == 7);
    });
}

TEST_CASE("an error that comes in spite of a cancellation is thrown") {
    run_clean([]() -> task<> {
        auto fails = []() -> task<> {
            try {
                co_await forever();
            } catch (const torc::cancelled&) {
            }
            throw Error{torc::errc::closed, torc::phase::close, "", "could not clean up"};
        };
        journal notes;
        auto body = [&]() -> task<> { co_await gather(forever(notes), fails()); };
        const auto outcome = co_await torc::as_result(with_scope([&](scope& here) -> task<> {
            here.spawn(body());
            co_await turns(2);
            here.cancel();
        }));
        REQUIRE_FALSE(outcome.has_value());
        CHECK(outcome.error().message() == "could not clean up");
        CHECK(notes.unwound == 1);
    });
}

TEST_CASE("a cancellation that was caught comes again at the next await, for as long as the scope lasts") {
    run_clean([]() -> task<> {
        int caught = 0;
        auto deaf = [&]() -> task<> {
            for (int attempt = 0; attempt < 5; ++attempt) {
                try {
                    switch (attempt) {
                        case 0: co_await forever(); break;
                        case 1: co_await torc::yield(); break;
                        case 2: co_await turns(1); break;
                        case 3: co_await gather(turns(1), forever()); break;
                        default: co_await driver_turns(1); break;
                    }
                } catch (const torc::cancelled&) {
                    ++caught;
                }
            }
        };
        CHECK_THROWS_WITH_AS(co_await gather(deaf(), fail_after(1, "enough")), "enough", Error);
        CHECK(caught == 5);
        co_await turns(1);  // the scope was left: awaiting works again
    });
}

TEST_CASE("a child that cancels the scope around it unwinds at its own next await") {
    int wait = 0;
    SUBCASE("at once") { wait = 0; }
    SUBCASE("after a turn") { wait = 1; }
    run_clean([&]() -> task<> {
        journal notes;
        bool went_on = false;
        co_await with_scope([&](scope& here) -> task<> {
            auto inside = [&]() -> task<> {
                co_await turns(wait);
                here.cancel();
                went_on = true;
                co_await forever(notes);
            };
            co_await gather(forever(notes), inside(), forever(notes));
        });
        CHECK(went_on);
        CHECK(notes.begun == 3);
        CHECK(notes.unwound == 3);
    });
}

TEST_CASE("ten thousand groups, one in the other, finish, fail and are cancelled") {
    constexpr int levels = 10'000;
    SUBCASE("finish") {
        CHECK(run_clean([]() -> task<int> { return nested(levels); }) == levels);
    }
    SUBCASE("fail") {
        CHECK_THROWS_WITH_AS(run_clean([]() -> task<int> { return nested_failure(levels); }), "from below", Error);
    }
    SUBCASE("are cancelled") {
        journal notes;
        run_clean([&]() -> task<> {
            co_await with_scope([&](scope& here) -> task<> {
                here.spawn(nested_wait(levels, notes));
                while (notes.begun == 0) co_await torc::yield();
                here.cancel();
            });
        });
        CHECK(notes.unwound == 1);
    }
}

TEST_CASE("resources in children are closed when gather has returned and its owner ends") {
    Resource::Counts counts;
    run_clean([&]() -> task<> {
        auto local = [&]() -> task<> {
            const Resource mine{counts};
            co_await torc::yield();
        };
        auto parameter = [&](Resource) -> task<> { co_await torc::yield(); };
        auto owner = [&]() -> task<> {
            co_await gather(local(), local());
            CHECK(counts.open == 0);  // these lived in the children's frames
            co_await gather(parameter(Resource{counts}), parameter(Resource{counts}));
        };
        co_await owner();
        CHECK(counts.open == 0);
        CHECK(counts.closed == 4);
    });
}

TEST_CASE("with the plug pulled at any await, everything unwinds") {
    Resource::Counts counts;
    const auto awaits = pull_the_plug(
        [&]() -> task<> {
            auto child = [&](int wait) -> task<int> {
                const Resource mine{counts};
                co_await turns(wait);
                const auto [one, two] = co_await gather(value_after(1, 1), value_after(2, 2));
                co_return one + two;
            };
            std::vector<task<int>> all;
            for (int wait = 0; wait < 4; ++wait) all.push_back(child(wait));
            const auto values = co_await gather(std::move(all));
            CHECK(values == std::vector<int>{3, 3, 3, 3});
        },
        [&](bool) { CHECK(counts.open == 0); });
    CHECK(awaits > 20);
}
