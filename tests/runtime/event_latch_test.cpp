#include <doctest/doctest.h>

#include <leak_check.hpp>
#include <string>
#include <vector>

#include <torc/runtime/event.hpp>
#include <torc/runtime/gather.hpp>
#include <torc/runtime/latch.hpp>
#include <torc/runtime/scope.hpp>
#include <torc/runtime/time.hpp>

namespace {

using torc::event;
using torc::latch;
using torc::scope;
using torc::task;
using torc::test::run_clean;

task<> settle() {
    for (int turn = 0; turn < 10; ++turn) co_await torc::yield();
}

}  // namespace

TEST_SUITE("event") {
    TEST_CASE("setting an event lets everybody go who waits, in order, and those who come after") {
        std::vector<int> order;
        run_clean([&]() -> task<> {
            event happened;
            auto wait = [&](int name) -> task<> {
                co_await happened.wait();
                order.push_back(name);
            };
            auto set = [&]() -> task<> {
                co_await settle();
                CHECK(order.empty());
                happened.set();
                CHECK(order.empty());  // made ready, not run on the spot
                co_await wait(4);      // does not have to wait
            };
            co_await torc::gather(wait(1), wait(2), wait(3), set());
            happened.set();
            co_await wait(5);
            CHECK(happened.is_set());
        });
        CHECK(order == std::vector<int>{4, 1, 2, 3, 5});
    }

    TEST_CASE("an event that was reset makes tasks wait again, but holds nobody back whom it had let go") {
        int passed = 0;
        run_clean([&]() -> task<> {
            event happened{true};
            auto wait = [&]() -> task<> {
                co_await happened.wait();
                ++passed;
            };
            co_await wait();
            happened.reset();
            CHECK_FALSE(happened.is_set());
            auto pulse = [&]() -> task<> {
                co_await settle();
                CHECK(passed == 1);
                happened.set();
                happened.reset();
                co_await settle();
                CHECK(passed == 3);
                happened.set();
            };
            auto late = [&]() -> task<> {
                for (int turn = 0; turn < 15; ++turn) co_await torc::yield();
                CHECK_FALSE(happened.is_set());
                co_await wait();
            };
            co_await torc::gather(wait(), wait(), pulse(), late());
        });
        CHECK(passed == 4);
    }

    TEST_CASE("who is cancelled no longer waits for an event, and an event that came first is not undone") {
        int passed = 0;
        int unwound = 0;
        run_clean([&]() -> task<> {
            event early;
            event never;
            auto wait = [&](event& one) -> task<> {
                try {
                    co_await one.wait();
                    ++passed;
                } catch (const torc::cancelled&) {
                    ++unwound;
                    throw;
                }
            };
            co_await torc::with_scope([&](scope& children) -> task<> {
                children.spawn(wait(early));
                children.spawn(wait(never));
                co_await settle();
                early.set();
                children.cancel();
                children.spawn(wait(early));  // refused: the scope is cancelled already
            });
            CHECK(early.is_set());
        });
        CHECK(passed == 1);
        CHECK(unwound == 2);
    }
}

TEST_SUITE("latch") {
    TEST_CASE("a latch opens when it was counted down to zero, and stays open") {
        std::vector<std::string> order;
        run_clean([&]() -> task<> {
            latch done{3};
            auto worker = [&]() -> task<> {
                co_await settle();
                order.emplace_back("worked");
                done.count_down();
            };
            auto wait = [&]() -> task<> {
                co_await done.wait();
                order.emplace_back("passed");
            };
            co_await torc::gather(wait(), wait(), worker(), worker(), worker());
            CHECK(done.try_wait());
            CHECK(done.count() == 0);
            co_await wait();
        });
        CHECK(order == std::vector<std::string>{"worked", "worked", "worked", "passed", "passed", "passed"});
    }

    TEST_CASE("nobody passes a meeting point before all have come") {
        run_clean([]() -> task<> {
            constexpr int parties = 5;
            latch all{parties};
            int arrived = 0;
            auto party = [&](int turns) -> task<> {
                for (int turn = 0; turn < turns; ++turn) co_await torc::yield();
                ++arrived;
                co_await all.arrive_and_wait();
                CHECK(arrived == parties);
            };
            co_await torc::gather(party(3), party(0), party(7), party(1), party(2));
        });
    }

    TEST_CASE("a latch of zero is open, and one may count down by many") {
        run_clean([]() -> task<> {
            latch open{0};
            co_await open.wait();
            latch ten{10};
            ten.count_down(4);
            CHECK(ten.count() == 6);
            CHECK_FALSE(ten.try_wait());
            co_await ten.arrive_and_wait(6);
            CHECK(ten.try_wait());
        });
    }

    TEST_CASE("an arrival counts even when the wait is cancelled, before it or during it") {
        run_clean([]() -> task<> {
            latch three{3};
            auto arrive = [&]() -> task<> { co_await three.arrive_and_wait(); };
            co_await torc::with_scope([&](scope& children) -> task<> {
                children.spawn(arrive());
                co_await settle();
                CHECK(three.count() == 2);
                children.cancel();
                children.spawn(arrive());
                CHECK(three.count() == 1);
            });
            CHECK(three.count() == 1);
            co_await three.arrive_and_wait();
        });
    }
}
