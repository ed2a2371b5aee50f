#include <torc/runtime/mutex.hpp>

#include <doctest/doctest.h>

#include <leak_check.hpp>
#include <string>
#include <vector>

#include <torc/runtime/gather.hpp>
#include <torc/runtime/gather_settled.hpp>
#include <torc/runtime/race.hpp>
#include <torc/runtime/scope.hpp>
#include <torc/runtime/timeout.hpp>

namespace {

using torc::mutex;
using torc::scope;
using torc::task;
using torc::test::run_clean;

/// Gives way so often that whatever can run has run.
task<> settle() {
    for (int turn = 0; turn < 10; ++turn) co_await torc::yield();
}

}  // namespace

TEST_CASE("one task at a time passes a mutex, in the order in which they came") {
    std::vector<int> order;
    run_clean([&]() -> task<> {
        mutex lock;
        int inside = 0;
        auto pass = [&](int name) -> task<> {
            const auto guard = co_await lock.lock();
            CHECK(++inside == 1);
            order.push_back(name);
            co_await settle();
            --inside;
        };
        co_await torc::gather(pass(1), pass(2), pass(3), pass(4));
        CHECK_FALSE(lock.locked());
    });
    CHECK(order == std::vector<int>{1, 2, 3, 4});
}

TEST_CASE("a mutex is handed over: who comes between the unlock and the next turn does not overtake") {
    std::vector<std::string> order;
    run_clean([&]() -> task<> {
        mutex lock;
        auto holder = [&]() -> task<> {
            auto guard = co_await lock.lock();
            co_await torc::yield();
            guard.unlock();
            CHECK(lock.locked());  // it is the waiter's already
            CHECK_FALSE(lock.try_lock());
            guard = co_await lock.lock();
            order.emplace_back("holder again");
        };
        auto waiter = [&]() -> task<> {
            const auto guard = co_await lock.lock();
            order.emplace_back("waiter");
        };
        co_await torc::gather(holder(), waiter());
    });
    CHECK(order == std::vector<std::string>{"waiter", "holder again"});
}

TEST_CASE("a guard can be moved, and unlocks once") {
    run_clean([]() -> task<> {
        mutex lock;
        auto first = co_await lock.lock();
        auto second = std::move(first);
        CHECK(second.owns_lock());
        CHECK(lock.locked());
        second = {};
        CHECK_FALSE(lock.locked());
        auto third = lock.try_lock();
        REQUIRE(third);
        CHECK_FALSE(lock.try_lock());
        third->unlock();
        third->unlock();
        CHECK_FALSE(lock.locked());
    });
}

TEST_CASE("an exception in the passage unlocks") {
    run_clean([]() -> task<> {
        mutex lock;
        auto fail = [&]() -> task<> {
            const auto guard = co_await lock.lock();
            throw torc::Error{torc::errc::busy, torc::phase::none};
        };
        co_await torc::gather_settled(fail(), fail());
        CHECK_FALSE(lock.locked());
    });
}

TEST_CASE("who is cancelled while waiting leaves the queue, and the others move up") {
    std::vector<std::string> order;
    run_clean([&]() -> task<> {
        mutex lock;
        auto pass = [&](const char* name) -> task<> {
            const auto guard = co_await lock.lock();
            order.emplace_back(name);
        };
        auto guard = co_await lock.lock();
        co_await torc::with_scope([&](scope& outer) -> task<> {
            outer.spawn(pass("before"));
            co_await torc::with_scope([&](scope& inner) -> task<> {
                inner.spawn(pass("never"));
                co_await settle();
                outer.spawn(pass("behind"));
                inner.cancel();
                co_await settle();
            });
            guard.unlock();
        });
        CHECK_FALSE(lock.locked());
    });
    CHECK(order == std::vector<std::string>{"before", "behind"});
}

TEST_CASE("a lock that was handed over before the cancel came is delivered, and given back") {
    bool delivered = false;
    run_clean([&]() -> task<> {
        mutex lock;
        auto guard = co_await lock.lock();
        co_await torc::with_scope([&](scope& children) -> task<> {
            children.spawn([](mutex& wanted, bool& got) -> task<> {
                const auto mine = co_await wanted.lock();
                got = true;
                co_await torc::yield();
                FAIL("the await after it meets the cancellation");
            }(lock, delivered));
            co_await settle();
            guard.unlock();
            children.cancel();
            co_return;
        });
        CHECK_FALSE(lock.locked());
    });
    CHECK(delivered);
}

TEST_CASE("locking in a cancelled scope is refused even when nobody holds the lock") {
    run_clean([]() -> task<> {
        mutex lock;
        bool refused = false;
        co_await torc::with_scope([&](scope& here) -> task<> {
            here.cancel();
            try {
                const auto guard = co_await lock.lock();
            } catch (const torc::cancelled&) {
                refused = true;
                throw;
            }
        });
        CHECK(refused);
        CHECK_FALSE(lock.locked());
    });
}

TEST_CASE("a lock can be waited for under a limit of time") {
    run_clean([]() -> task<> {
        mutex lock;
        auto guard = co_await lock.lock();
        bool timed_out = false;
        try {
            const auto second = co_await torc::with_timeout(std::chrono::milliseconds{1}, lock.lock());
        } catch (const torc::Error& error) {
            timed_out = error.code() == torc::errc::timed_out;
        }
        CHECK(timed_out);
        guard.unlock();
        CHECK_FALSE(lock.locked());
        const auto third = co_await torc::with_timeout(std::chrono::hours{1}, lock.lock());
        CHECK(third.owns_lock());
    });
}

TEST_CASE("the dump says who waits for a mutex") {
    run_clean([]() -> task<> {
        mutex lock;
        auto guard = co_await lock.lock();
        auto pass = [&]() -> task<> { const auto mine = co_await lock.lock(); };
        auto look = [&]() -> task<> {
            const std::string dump = torc::Executor::here().dump_tasks();
            INFO(dump);
            CHECK(dump.find(": mutex for ") != std::string::npos);
            guard.unlock();
            co_return;
        };
        co_await torc::gather(pass(), look());
    });
}
