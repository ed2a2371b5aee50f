#include <torc/runtime/timeout.hpp>

#include <doctest/doctest.h>

#include <leak_check.hpp>
#include <memory>
#include <plug.hpp>
#include <stdexcept>
#include <steps.hpp>
#include <string>

#include <torc/runtime/as_result.hpp>
#include <torc/runtime/event.hpp>
#include <torc/runtime/gather.hpp>
#include <torc/runtime/scope.hpp>

// Limits of time: one's own is an error, another's is a cancellation; the nearest rules; a shield bounds clean-up.

namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using torc::as_result;
using torc::Clock;
using torc::Error;
using torc::scope;
using torc::shield;
using torc::task;
using torc::with_deadline;
using torc::with_scope;
using torc::with_timeout;
using namespace torc::test;

constexpr Clock::duration soon = milliseconds{1};

enum class ending { none, value, timed_out, failed, cancelled };

/// Awaits it and says how it ended; a cancellation goes on.
template <class Make>
task<> noted(Make make, ending& how) {
    try {
        co_await make();
        how = ending::value;
    } catch (const Error& error) {
        how = error.code() == torc::errc::timed_out ? ending::timed_out : ending::failed;
    } catch (const torc::cancelled&) {
        how = ending::cancelled;
        throw;
    }
}

}  // namespace

TEST_CASE("what is done in time gives its value, whatever its type, and leaves no timer") {
    run_clean([]() -> task<> {
        CHECK(co_await with_timeout(hours{1}, value_after(2, 7)) == 7);
        CHECK(*co_await with_timeout(hours{1}, value_after(2, std::make_unique<int>(7))) == 7);
        co_await with_timeout(hours{1}, turns(2));
        co_await with_timeout(hours{1}, torc::yield());
        co_await with_deadline(Clock::never, turns(2));
        co_await with_timeout(Clock::duration::max(), turns(2));
        int here = 0;
        auto refer = [&]() -> task<int&> {
            co_await torc::yield();
            co_return here;
        };
        int& same = co_await with_timeout(hours{1}, refer());
        CHECK(&same == &here);
        CHECK(torc::Executor::here().statistics().timers == 0);
    });
}

TEST_CASE("what fails in time fails as it would without the limit") {
    run_clean([]() -> task<> {
        CHECK_THROWS_WITH_AS(co_await with_timeout(hours{1}, fail_after(1, "its own")), "its own", Error);
        auto odd = []() -> task<> {
            co_await torc::yield();
            throw std::runtime_error("no Error");
        };
        CHECK_THROWS_WITH_AS(co_await with_timeout(hours{1}, odd()), "no Error", std::runtime_error);
    });
}

TEST_CASE("what takes too long is cancelled, awaited, and an error that says so and where") {
    run_clean([]() -> task<> {
        journal notes;
        auto slow = [&]() -> task<> {
            try {
                co_await forever(notes);
            } catch (const torc::cancelled&) {
                CHECK(torc::cancel_pending());
                throw;
            }
        };
        std::string trace;
        try {
            co_await with_timeout(soon, slow());
        } catch (const Error& error) {
            CHECK(error.code() == torc::errc::timed_out);
            CHECK(error.message() == "timed out after 0.001 s");
            trace = error.trace();
        }
        CHECK(trace.find("timeout_test.cpp") != std::string::npos);
        CHECK(notes.unwound == 1);
        CHECK_FALSE(torc::cancel_pending());
        co_await turns(1);
    });
}

TEST_CASE("a limit that has passed already lets the task run to its first await") {
    run_clean([]() -> task<> {
        journal notes;
        for (const Clock::duration limit : {Clock::duration::zero(), Clock::duration{-1}, Clock::duration::min()}) {
            const auto late = co_await as_result(with_timeout(limit, forever(notes)));
            CHECK(late.error().code() == torc::errc::timed_out);
            CHECK(late.error().message() == "timed out after 0 s");
        }
        const auto past = co_await as_result(with_deadline(Clock::time_point{}, forever(notes)));
        CHECK(past.error().code() == torc::errc::timed_out);
        CHECK(past.error().message() == "timed out");  // after how long, nobody knows
        CHECK(notes.begun == 4);
        CHECK(notes.unwound == 4);
        CHECK(co_await with_timeout(Clock::duration::zero(), value_after(0, 7)) == 7);
    });
}

TEST_CASE("a value or an error that comes in spite of the limit is delivered") {
    run_clean([]() -> task<> {
        CHECK(co_await with_timeout(soon, stubborn(7)) == 7);
        auto fails = []() -> task<> {
            try {
                co_await forever();
            } catch (const torc::cancelled&) {
            }
            throw Error{torc::errc::closed, torc::phase::close, "", "could not clean up"};
        };
        const auto failed = co_await as_result(with_timeout(soon, fails()));
        CHECK(failed.error().message() == "could not clean up");
    });
}

TEST_CASE("of nested limits the nearest rules: the outer one's passing is no timeout of the inner one") {
    run_clean([]() -> task<> {
        ending inner = ending::none;
        ending outer = ending::none;
        auto both = [&](Clock::duration outside, Clock::duration inside) {
            auto within = [&inner, inside]() -> task<> {
                co_await noted([inside] { return with_timeout(inside, forever()); }, inner);
            };
            return noted([outside, within] { return with_timeout(outside, within()); }, outer);
        };
        co_await both(soon, hours{1});
        CHECK(inner == ending::cancelled);
        CHECK(outer == ending::timed_out);
        co_await both(hours{1}, soon);
        CHECK(inner == ending::timed_out);
        CHECK(outer == ending::value);
    });
}

TEST_CASE("when both limits pass at the same moment the outer one counts") {
    run_clean([]() -> task<> {
        ending inner = ending::none;
        ending outer = ending::none;
        const auto both = Clock::now() + soon;
        auto within = [&]() -> task<> { co_await noted([both] { return with_deadline(both, forever()); }, inner); };
        co_await noted([&] { return with_deadline(both, within()); }, outer);
        CHECK(inner == ending::cancelled);
        CHECK(outer == ending::timed_out);
    });
}

TEST_CASE("a cancellation from outside stays one, even when the own limit has passed as well") {
    run_clean([]() -> task<> {
        ending how = ending::none;
        co_await with_scope([&](scope& here) -> task<> {
            here.spawn(noted([] { return with_timeout(hours{1}, forever()); }, how));
            co_await turns(2);
            here.cancel();
        });
        CHECK(how == ending::cancelled);

        how = ending::none;
        auto slow_to_end = [&](scope& here) -> task<> {
            try {
                co_await forever();
            } catch (const torc::cancelled&) {
                here.cancel();  // meanwhile the surroundings are cancelled too
                throw;
            }
        };
        co_await with_scope([&](scope& here) -> task<> {
            here.spawn(noted([&] { return with_timeout(soon, slow_to_end(here)); }, how));
            co_await forever();
        });
        CHECK(how == ending::cancelled);

        how = ending::none;
        co_await with_scope([&](scope& here) -> task<> {
            here.cancel();
            co_await noted([] { return with_timeout(Clock::duration::zero(), forever()); }, how);
        });
        CHECK(how == ending::cancelled);
    });
}

TEST_CASE("tasks know the nearest deadline they are under, through every kind of group") {
    run_clean([]() -> task<> {
        CHECK(torc::current_deadline() == Clock::never);
        const auto near = Clock::now() + hours{1};
        const auto far = near + hours{1};
        auto check = [](Clock::time_point expected) -> task<> {
            CHECK(torc::current_deadline() == expected);
            co_await torc::yield();
            CHECK(torc::current_deadline() == expected);
        };
        auto inside = [&](Clock::time_point expected) -> task<> {
            co_await torc::gather(check(expected), check(expected));
            co_await with_scope([&](scope& here) -> task<> {
                here.spawn(check(expected));
                co_await check(expected);
            });
            co_await with_deadline(far, check(expected));
            co_await shield(hours{1}, check(Clock::never));
        };
        co_await with_deadline(near, inside(near));
        auto nearer = [&]() -> task<> { co_await with_deadline(near, inside(near)); };
        co_await with_deadline(far, nearer());
        CHECK(torc::current_deadline() == Clock::never);
    });
}

TEST_CASE("a shield lets clean-up await in a cancelled scope, and after it the scope is as cancelled as before") {
    run_clean([]() -> task<> {
        bool cleaned = false;
        bool again = false;
        auto careful = [&]() -> task<> {
            bool cancelled = false;
            try {
                co_await forever();
            } catch (const torc::cancelled&) {
                cancelled = true;
            }
            CHECK(cancelled);
            CHECK(co_await shield(hours{1}, value_after(3, 7)) == 7);
            cleaned = true;
            try {
                co_await torc::yield();
            } catch (const torc::cancelled&) {
                again = true;
                throw;
            }
        };
        const auto late = co_await as_result(with_timeout(soon, careful()));
        CHECK(late.error().code() == torc::errc::timed_out);
        CHECK(cleaned);
        CHECK(again);
    });
}

TEST_CASE("a shield keeps a cancellation away from what runs already, for no longer than its grace") {
    run_clean([]() -> task<> {
        int steps = 0;
        journal notes;
        auto body = [&]() -> task<> {
            for (; steps < 100; ++steps) co_await torc::yield();
        };
        co_await with_scope([&](scope& here) -> task<> {
            here.spawn([](task<> inner) -> task<> { co_await shield(hours{1}, std::move(inner)); }(body()));
            co_await turns(2);
            here.cancel();
        });
        CHECK(steps == 100);

        ending how = ending::none;
        co_await with_scope([&](scope& here) -> task<> {
            here.spawn(noted([&] { return shield(soon, forever(notes)); }, how));
            co_await turns(2);
            CHECK(torc::Executor::here().statistics().timers == 1);  // the grace has not begun
            here.cancel();
            CHECK(torc::Executor::here().statistics().timers == 2);
        });
        CHECK(notes.unwound == 1);
        CHECK(how == ending::cancelled);
    });
}

TEST_CASE("a shield without grace, entered in a cancelled scope, is hardly any") {
    run_clean([]() -> task<> {
        journal notes;
        co_await with_scope([&](scope& here) -> task<> {
            here.cancel();
            co_await shield(Clock::duration::zero(), forever(notes));
            FAIL_CHECK("went on");
        });
        CHECK(notes.unwound == 1);
    });
}

TEST_CASE("inside a shield own limits and failures are what they always are") {
    run_clean([]() -> task<> {
        co_await with_scope([&](scope& here) -> task<> {
            here.cancel();
            auto inside = []() -> task<> {
                const auto late = co_await as_result(with_timeout(soon, forever()));
                CHECK(late.error().code() == torc::errc::timed_out);
                journal notes;
                CHECK_THROWS_WITH_AS(co_await torc::gather(forever(notes), fail_after(1, "as ever")), "as ever", Error);
                CHECK(notes.unwound == 1);
                co_await shield(soon, turns(3));
            };
            co_await shield(hours{1}, inside());
        });
    });
}

TEST_CASE("a failure inside a shield is thrown, not turned into a cancellation") {
    run_clean([]() -> task<> {
        ending how = ending::none;
        co_await with_scope([&](scope& here) -> task<> {
            here.cancel();
            co_await noted([] { return shield(hours{1}, fail_after(2, "x")); }, how);
        });
        CHECK(how == ending::failed);
    });
}

TEST_CASE("the grace counts from the first cancellation, however many come") {
    run_clean([]() -> task<> {
        journal notes;
        co_await with_scope([&](scope& outer) -> task<> {
            co_await with_scope([&](scope& inner) -> task<> {
                inner.spawn([](journal& all) -> task<> { co_await shield(soon, forever(all)); }(notes));
                co_await turns(1);
                inner.cancel();
                outer.cancel();
            });
        });
        CHECK(notes.unwound == 1);
    });
}

TEST_CASE("as_result gives errors as values and lets a cancellation unwind") {
    run_clean([]() -> task<> {
        CHECK((co_await as_result(value_after(1, 7))).value() == 7);
        CHECK((co_await as_result(turns(1))).has_value());
        CHECK((co_await as_result(fail_after<int>(1, "x"))).error().message() == "x");
        auto odd = []() -> task<> {
            co_await torc::yield();
            throw std::runtime_error("no Error");
        };
        CHECK_THROWS_WITH_AS(static_cast<void>(co_await as_result(odd())), "no Error", std::runtime_error);
        bool went_on = false;
        co_await with_scope([&](scope& here) -> task<> {
            here.cancel();
            static_cast<void>(co_await as_result(forever()));
            went_on = true;
        });
        CHECK_FALSE(went_on);
    });
}

TEST_CASE("as_result makes no task around a task or a limit") {
    run_clean([]() -> task<> {
        torc::event bell;
        auto wait = [&]() -> task<> { co_await bell.wait(); };
        auto settled = [&]() -> task<> { CHECK((co_await as_result(wait())).has_value()); };
        auto limited = [&]() -> task<> { CHECK((co_await as_result(with_timeout(hours{1}, wait()))).has_value()); };
        co_await with_scope([&](scope& here) -> task<> {
            const auto before = torc::Executor::here().statistics().frames;
            here.spawn(settled());
            CHECK(torc::Executor::here().statistics().frames - before == 2);
            here.spawn(limited());
            CHECK(torc::Executor::here().statistics().frames - before == 4);
            co_await turns(1);
            bell.set();
        });
    });
}

TEST_CASE("limits and shields nest ten thousand deep") {
    struct deep {
        static task<> run(int levels, journal& notes) {
            if (levels == 0) {
                co_await forever(notes);
            } else if (levels % 2 == 0) {
                co_await with_timeout(hours{1}, run(levels - 1, notes));
            } else {
                co_await with_deadline(Clock::never, run(levels - 1, notes));
            }
        }
    };
    journal notes;
    run_clean([&]() -> task<> {
        const auto late = co_await as_result(with_timeout(milliseconds{30}, deep::run(10'000, notes)));
        CHECK(late.error().code() == torc::errc::timed_out);
    });
    CHECK(notes.unwound == notes.begun);
}

TEST_CASE("with the plug pulled at any await, everything unwinds, and what is shielded is finished") {
    Resource::Counts counts;
    int begun = 0;
    int cleaned = 0;
    pull_the_plug(
        [&]() -> task<> {
            auto careful = [&](int wait) -> task<> {
                const Resource mine{counts};
                ++begun;
                std::exception_ptr failure;
                try {
                    co_await turns(wait);
                } catch (...) {
                    failure = std::current_exception();
                }
                co_await shield(hours{1}, turns(2));
                ++cleaned;
                if (failure) std::rethrow_exception(failure);
            };
            auto inner = [&]() -> task<> {
                co_await with_timeout(hours{1}, careful(2));
                co_await with_deadline(Clock::now() + hours{1}, careful(1));
            };
            co_await with_timeout(hours{2}, inner());
            static_cast<void>(co_await as_result(with_timeout({}, careful(1))));
        },
        [&](bool) {
            CHECK(counts.open == 0);
            CHECK(begun == cleaned);
        });
}
