#include <torc/runtime/timeout.hpp>

#include <doctest/doctest.h>

#include <leak_check.hpp>
#include <plug.hpp>
#include <steps.hpp>
#include <string>

#include <torc/runtime/as_result.hpp>
#include <torc/runtime/channel.hpp>
#include <torc/runtime/event.hpp>
#include <torc/runtime/mutex.hpp>
#include <torc/runtime/scope.hpp>

// Limits around a single wait, which get by without a task of their own: what they mean is what they mean around tasks.

namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using torc::as_result;
using torc::Clock;
using torc::Error;
using torc::Executor;
using torc::scope;
using torc::task;
using torc::with_deadline;
using torc::with_scope;
using torc::with_timeout;
using namespace torc::test;

constexpr Clock::duration soon = milliseconds{1};

/// A wait that ends only when it is told to, long after it was asked to, as an operation in the kernel may.
class slow_wait final : public torc::detail::leaf {
   public:
    struct state {
        slow_wait* waiting = nullptr;
        int asked = 0;
    };

    explicit slow_wait(state& seen) noexcept : seen_(seen) {}
    slow_wait(slow_wait&& other) noexcept : seen_(other.seen_) {}

    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        if (!enter(self.promise())) return false;
        seen_.waiting = this;
        return true;
    }
    int await_resume() const {
        throw_if_cancelled();
        return 7;
    }
    void cancel() noexcept override { ++seen_.asked; }
    [[nodiscard]] std::string describe() const override { return "slow wait"; }

    void end() noexcept { seen_.asked > 0 ? end_cancelled() : ready(); }
    void succeed() noexcept { ready(); }

   private:
    state& seen_;
};

std::string outcome_of(const std::exception_ptr& failure) {
    try {
        std::rethrow_exception(failure);
    } catch (const Error& error) {
        return std::string{error.message()};
    } catch (const torc::cancelled&) {
        return "cancelled";
    }
}

/// Awaits a slow wait under a limit of `limit` and says how it ended.
task<> limited(slow_wait::state& seen, Clock::duration limit, std::string& how) {
    try {
        const int value = co_await with_timeout(limit, slow_wait{seen});
        how = std::to_string(value);
    } catch (...) {
        how = outcome_of(std::current_exception());
    }
}

}  // namespace

TEST_CASE("a wait that ends in time gives its value and leaves no timer") {
    run_clean([]() -> task<> {
        torc::channel<int> numbers{1};
        co_await numbers.send(7);
        CHECK(co_await with_timeout(hours{1}, numbers.receive()) == 7);
        torc::event bell;
        co_await with_scope([&](scope& here) -> task<> {
            here.spawn([&]() -> task<> { co_await with_timeout(hours{1}, bell.wait()); });
            co_await turns(2);
            CHECK(Executor::here().statistics().timers == 1);
            bell.set();
        });
        co_await with_timeout(hours{1}, torc::yield());
        co_await with_timeout(Clock::duration::max(), nothing{});
        CHECK((co_await as_result(with_timeout(hours{1}, nothing{}))).has_value());
        CHECK(Executor::here().statistics().timers == 0);
    });
}

TEST_CASE("a limit around a single wait makes no task") {
    run_clean([]() -> task<> {
        torc::event bell;
        co_await with_scope([&](scope& here) -> task<> {
            const auto frames = [] { return Executor::here().statistics().frames; };
            const auto before = frames();
            here.spawn([&]() -> task<> { co_await bell.wait(); });
            const auto plain = frames() - before;
            here.spawn([&]() -> task<> { co_await with_timeout(hours{1}, bell.wait()); });
            CHECK(frames() - before == 2 * plain);
            co_await turns(1);
            bell.set();
        });
    });
}

TEST_CASE("a wait that takes too long is cancelled and an error that says so and where; nothing else is cancelled") {
    run_clean([]() -> task<> {
        torc::event never;
        std::string trace;
        try {
            co_await with_timeout(soon, never.wait());
        } catch (const Error& error) {
            CHECK(error.code() == torc::errc::timed_out);
            trace = error.trace();
        }
        CHECK(trace.find("timeout_leaf_test.cpp") != std::string::npos);
        CHECK_FALSE(torc::cancel_pending());
        const auto slept = co_await as_result(with_deadline(Clock::now() + soon, torc::sleep_for(hours{1})));
        CHECK(slept.error().code() == torc::errc::timed_out);
        co_await turns(1);
    });
}

TEST_CASE("a limit that has passed already does not let the wait begin, even if it would find all it needs") {
    run_clean([]() -> task<> {
        torc::channel<int> numbers{1};
        co_await numbers.send(7);
        torc::mutex free;
        for (const Clock::duration limit : {Clock::duration::zero(), Clock::duration{-1}, Clock::duration::min()}) {
            const auto late = co_await as_result(with_timeout(limit, numbers.receive()));
            CHECK(late.error().code() == torc::errc::timed_out);
            const auto locked = co_await as_result(with_timeout(limit, free.lock()));
            CHECK(locked.error().code() == torc::errc::timed_out);
        }
        // However short ago: the limit's own clock must not be behind.
        for (const Clock::time_point deadline : {Clock::time_point{}, Clock::now() - milliseconds{5}, Clock::now()}) {
            const auto past = co_await as_result(with_deadline(deadline, numbers.receive()));
            CHECK(past.error().code() == torc::errc::timed_out);
        }
        slow_wait::state seen;
        const auto nothing_begun = co_await as_result(with_timeout(Clock::duration{}, slow_wait{seen}));
        CHECK(nothing_begun.error().code() == torc::errc::timed_out);
        CHECK(seen.waiting == nullptr);
        CHECK_FALSE(free.locked());
        CHECK(co_await numbers.receive() == 7);
    });
}

TEST_CASE("of nested limits around a single wait the nearest rules, and the outer one's is no timeout of the inner") {
    run_clean([]() -> task<> {
        torc::event never;
        const auto inner = [&](Clock::duration inside) -> task<std::string> {
            try {
                co_await with_timeout(inside, never.wait());
            } catch (const Error& error) {
                co_return std::string{error.message()};
            }
            co_return "rang";
        };
        CHECK(co_await with_timeout(hours{1}, inner(soon)) == "timed out after 0.001 s");
        CHECK((co_await as_result(with_timeout(soon, inner(hours{1})))).error().code() == torc::errc::timed_out);
        for (const auto& [outside, inside] : {std::pair{soon, Clock::duration{hours{1}}}, {hours{1}, soon}}) {
            const auto both = co_await as_result(with_timeout(outside, with_timeout(inside, never.wait())));
            CHECK(both.error().code() == torc::errc::timed_out);
        }
    });
}

TEST_CASE("a wait is asked to end once, by the limit or from outside, and from outside makes it a cancellation") {
    run_clean([]() -> task<> {
        slow_wait::state seen;
        std::string how;
        co_await with_scope([&](scope& here) -> task<> {  // the limit first
            here.spawn(limited(seen, soon, how));
            co_await torc::sleep_for(2 * soon);
            CHECK(seen.asked == 1);
            here.cancel();
            CHECK(seen.asked == 1);
            seen.waiting->end();
        });
        CHECK(how == "cancelled");

        seen = {};
        co_await with_scope([&](scope& outer) -> task<> {  // from outside first
            auto ends_late = [&]() -> task<> { co_await torc::shield(hours{1}, torc::sleep_for(2 * soon)); };
            outer.spawn(limited(seen, soon, how));
            outer.cancel();
            CHECK(seen.asked == 1);
            co_await ends_late();
            CHECK(seen.asked == 1);
            seen.waiting->end();
        });
        CHECK(how == "cancelled");

        seen = {};
        co_await with_scope([&](scope& here) -> task<> {  // the limit alone
            here.spawn(limited(seen, soon, how));
            co_await torc::sleep_for(2 * soon);
            seen.waiting->end();
        });
        CHECK(how == "timed out after 0.001 s");
        CHECK(seen.asked == 1);
    });
}

TEST_CASE("a result that comes in spite of the limit is delivered") {
    run_clean([]() -> task<> {
        slow_wait::state seen;
        std::string how;
        co_await with_scope([&](scope& here) -> task<> {
            here.spawn(limited(seen, soon, how));
            co_await torc::sleep_for(2 * soon);
            CHECK(seen.asked == 1);
            seen.waiting->succeed();
        });
        CHECK(how == "7");
    });
}

TEST_CASE("a result that is there when the limit passes is not cancelled any more") {
    run_clean([]() -> task<> {
        slow_wait::state seen;
        std::string how;
        const Clock::time_point limit = Clock::now() + soon;
        co_await with_scope([&](scope& here) -> task<> {
            // Armed before the limit of the wait, so that it fires before it, and both before the task runs again.
            struct Ending final : torc::detail::Timer {
                explicit Ending(slow_wait::state& of) noexcept : Timer(fired), seen(of) {}
                static void fired(Timer& timer) noexcept { static_cast<Ending&>(timer).seen.waiting->succeed(); }
                slow_wait::state& seen;
            } ending{seen};
            Executor::here().timers().arm(ending, limit);
            auto waits = [&]() -> task<> {
                try {
                    const int value = co_await with_deadline(limit, slow_wait{seen});
                    how = std::to_string(value);
                } catch (...) {
                    how = outcome_of(std::current_exception());
                }
            };
            here.spawn(waits());
            co_await torc::sleep_for(2 * soon);
        });
        CHECK(how == "7");
        CHECK(seen.asked == 0);
    });
}

TEST_CASE("the dump shows a limited wait as what it is, and that it is limited") {
    run_clean([]() -> task<> {
        torc::event never;
        std::string dump;
        co_await with_scope([&](scope& here) -> task<> {
            here.spawn([&]() -> task<> { co_await with_timeout(hours{1}, never.wait()); });
            co_await torc::yield();
            dump = Executor::here().dump_tasks();
            here.cancel();
        });
        INFO(dump);
        CHECK(dump.find(": event under with_timeout for ") != std::string::npos);
    });
}

TEST_CASE("with the plug pulled at any limited wait, everything unwinds") {
    pull_the_plug([]() -> task<> {
        torc::mutex lock;
        torc::channel<int> numbers{1};
        co_await with_scope([&](scope& here) -> task<> {
            here.spawn([&]() -> task<> {
                const torc::mutex::guard held = co_await with_timeout(hours{1}, lock.lock());
                co_await with_timeout(hours{1}, nothing{});
                co_await with_deadline(Clock::now() + hours{1}, numbers.send(7));
            });
            co_await with_timeout(hours{1}, torc::yield());
            const torc::mutex::guard held = co_await with_timeout(hours{1}, lock.lock());
            static_cast<void>(co_await with_timeout(hours{1}, numbers.receive()));
            static_cast<void>(co_await as_result(with_timeout(soon, torc::sleep_for(hours{1}))));
        });
    });
}
