#include <torc/runtime/semaphore.hpp>

#include <doctest/doctest.h>

#include <leak_check.hpp>
#include <string>
#include <vector>

#include <torc/runtime/gather.hpp>
#include <torc/runtime/scope.hpp>
#include <torc/runtime/timeout.hpp>

namespace {

using torc::scope;
using torc::semaphore;
using torc::task;
using torc::test::run_clean;

task<> settle() {
    for (int turn = 0; turn < 10; ++turn) co_await torc::yield();
}

}  // namespace

TEST_CASE("no more tasks are inside than there are permits, and all come through in order") {
    std::vector<int> order;
    run_clean([&]() -> task<> {
        semaphore permits{3};
        int inside = 0;
        int most = 0;
        auto pass = [&](int name) -> task<> {
            const auto permit = co_await permits.acquire();
            order.push_back(name);
            most = std::max(most, ++inside);
            co_await settle();
            --inside;
        };
        std::vector<task<>> all;
        for (int name = 0; name < 20; ++name) all.push_back(pass(name));
        co_await torc::gather(std::move(all));
        CHECK(most == 3);
        CHECK(permits.available() == 3);
    });
    REQUIRE(order.size() == 20);
    for (int index = 0; index < 20; ++index) CHECK(order[static_cast<std::size_t>(index)] == index);
}

TEST_CASE("who asks for many is not overtaken by those who ask for few") {
    std::vector<std::string> order;
    run_clean([&]() -> task<> {
        semaphore permits{4};
        auto take = [&](std::size_t count, const char* name) -> task<> {
            const auto permit = co_await permits.acquire(count);
            CHECK(permit.count() == count);
            order.emplace_back(name);
            co_await settle();
        };
        auto late = [&]() -> task<> {
            co_await torc::yield();
            CHECK(permits.available() == 3);
            CHECK_FALSE(permits.try_acquire(1));
        };
        co_await torc::gather(take(1, "one"), take(4, "four"), take(1, "one more"), late());
        CHECK(permits.available() == 4);
    });
    CHECK(order == std::vector<std::string>{"one", "four", "one more"});
}

TEST_CASE("when one who asked for many gives up, those behind it are served at once") {
    std::vector<std::string> order;
    run_clean([&]() -> task<> {
        semaphore permits{2};
        auto take = [&](std::size_t count, const char* name) -> task<> {
            const auto permit = co_await permits.acquire(count);
            order.emplace_back(name);
        };
        auto held = co_await permits.acquire(1);
        co_await torc::with_scope([&](scope& outer) -> task<> {
            co_await torc::with_scope([&](scope& inner) -> task<> {
                inner.spawn(take(2, "two"));
                outer.spawn(take(1, "one"));
                co_await settle();
                CHECK(order.empty());
                inner.cancel();
            });
            co_await settle();
            CHECK(order == std::vector<std::string>{"one"});
        });
        CHECK(permits.available() == 1);
    });
}

TEST_CASE("permits that were handed over before the cancel came are delivered, and given back") {
    int delivered = 0;
    run_clean([&]() -> task<> {
        semaphore permits{0};
        auto take = [&]() -> task<> {
            const auto permit = co_await permits.acquire(2);
            ++delivered;
        };
        co_await torc::with_scope([&](scope& children) -> task<> {
            children.spawn(take());
            children.spawn(take());
            children.spawn(take());
            co_await settle();
            permits.release(4);
            children.cancel();
        });
        CHECK(permits.available() == 4);
    });
    CHECK(delivered == 2);
}

TEST_CASE("a permit is given back once: moved, released early, or forgotten") {
    run_clean([]() -> task<> {
        semaphore permits{5};
        auto permit = co_await permits.acquire(3);
        CHECK(permits.available() == 2);
        auto moved = std::move(permit);
        permit.release();
        CHECK(permits.available() == 2);
        moved.release();
        moved.release();
        CHECK(permits.available() == 5);
        moved = co_await permits.acquire(5);
        CHECK(moved.forget() == 5);
        moved.release();
        CHECK(permits.available() == 0);
        CHECK_FALSE(permits.try_acquire());
        permits.release(1);
        auto tried = permits.try_acquire();
        REQUIRE(tried);
        CHECK(permits.available() == 0);
        CHECK(permits.try_acquire(0));
    });
}

TEST_CASE("acquiring in a cancelled scope is refused even when there are permits") {
    run_clean([]() -> task<> {
        semaphore permits{1};
        bool refused = false;
        co_await torc::with_scope([&](scope& here) -> task<> {
            here.cancel();
            try {
                const auto permit = co_await permits.acquire();
            } catch (const torc::cancelled&) {
                refused = true;
                throw;
            }
        });
        CHECK(refused);
        CHECK(permits.available() == 1);
    });
}

TEST_CASE("who asks for more than there are waits until its time is over") {
    run_clean([]() -> task<> {
        semaphore permits{1};
        std::error_code why;
        try {
            const auto permit = co_await torc::with_timeout(std::chrono::milliseconds{1}, permits.acquire(2));
        } catch (const torc::Error& error) {
            why = error.code();
        }
        CHECK(why == torc::errc::timed_out);
        CHECK(permits.available() == 1);
    });
}
