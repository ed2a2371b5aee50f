#include <torc/runtime/with.hpp>

#include <doctest/doctest.h>

#include <leak_check.hpp>
#include <memory>
#include <plug.hpp>
#include <stdexcept>
#include <steps.hpp>
#include <string>

#include <torc/runtime/scope.hpp>
#include <torc/runtime/timeout.hpp>

// Blocks with a resource: the close is awaited however the body ends; its error throws alone, or is attached.

namespace {

using torc::Error;
using torc::scope;
using torc::task;
using torc::with;
using namespace torc::test;

const std::error_code ungraceful = torc::make_error_code(torc::errc::end_of_stream);

}  // namespace

TEST_CASE("the body's value is the result, and by then the resource is closed") {
    run_clean([]() -> task<> {
        Resource::Counts counts;
        const auto value = co_await with(Resource{counts}, [&](Resource&) -> task<std::unique_ptr<int>> {
            co_await torc::yield();
            CHECK(counts.open == 1);
            co_return std::make_unique<int>(7);
        });
        CHECK(*value == 7);
        CHECK(counts.closed == 1);
        co_await with(Resource{counts}, [&](Resource&) -> task<> { co_return; });
        CHECK(counts.closed == 2);
        CHECK(torc::Executor::here().statistics().ungraceful_closes == 0);
    });
}

TEST_CASE("a body that closes the resource itself, or gives it away, is fine") {
    run_clean([]() -> task<> {
        Resource::Counts counts;
        co_await with(Resource{counts}, [](Resource& mine) -> task<> { co_await mine.close(); });
        CHECK(counts.closed == 1);
        const Resource kept = co_await with(Resource{counts}, [](Resource& mine) -> task<Resource> {
            co_await torc::yield();
            co_return std::move(mine);
        });
        CHECK(counts.open == 1);
    });
}

TEST_CASE("the body's error wins, after the close") {
    run_clean([]() -> task<> {
        Resource::Counts counts;
        CHECK_THROWS_WITH_AS(co_await with(Resource{counts}, [](Resource&) { return fail_after(1, "the body"); }),
                             "the body", Error);
        CHECK(counts.closed == 1);
        auto throws = [](Resource&) -> task<int> {
            throw std::runtime_error("no task");
            co_return 0;
        };
        CHECK_THROWS_WITH_AS(co_await with(Resource{counts}, throws), "no task", std::runtime_error);
        CHECK(counts.closed == 2);
        auto no_coroutine = [](Resource&) -> task<> { throw std::runtime_error("not even a task"); };
        CHECK_THROWS_WITH_AS(co_await with(Resource{counts}, no_coroutine), "not even a task", std::runtime_error);
        CHECK(counts.closed == 3);
    });
}

TEST_CASE("a failed close throws when the body did not, and says that it was the close") {
    run_clean([]() -> task<> {
        Resource::Counts counts;
        std::error_code code;
        try {
            static_cast<void>(
                co_await with(Resource{counts, 2, ungraceful}, [](Resource&) { return value_after(1, 1); }));
        } catch (const Error& error) {
            code = error.code();
            CHECK(error.where() == torc::phase::close);
        }
        CHECK(code == ungraceful);
        CHECK(counts.closed == 1);
    });
}

TEST_CASE("a failed close is attached to the body's error") {
    run_clean([]() -> task<> {
        Resource::Counts counts;
        std::size_t attached = 0;
        try {
            co_await with(Resource{counts, 2, ungraceful}, [](Resource&) { return fail_after(1, "the body"); });
        } catch (const Error& error) {
            CHECK(error.message() == "the body");
            attached = error.attached().size();
            REQUIRE(attached == 1);
            try {
                std::rethrow_exception(error.attached()[0]);
            } catch (const Error& close) {
                CHECK(close.code() == ungraceful);
                CHECK(close.where() == torc::phase::close);
            }
        }
        CHECK(attached == 1);
        auto odd = [](Resource&) -> task<> {
            co_await torc::yield();
            throw std::runtime_error("no Error");
        };
        CHECK_THROWS_WITH_AS(co_await with(Resource{counts, 2, ungraceful}, odd), "no Error", std::runtime_error);
        CHECK(counts.closed == 2);
    });
}

TEST_CASE("a cancelled body unwinds after the close, whatever the close says") {
    run_clean([]() -> task<> {
        Resource::Counts counts;
        for (const std::error_code outcome : {std::error_code{}, ungraceful}) {
            bool unwound = false;
            auto body = [&]() -> task<> {
                try {
                    co_await with(Resource{counts, 5, outcome}, [](Resource&) { return forever(); });
                } catch (const torc::cancelled&) {
                    CHECK(counts.open == 0);
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
        }
        CHECK(counts.closed == 2);
        const auto late = co_await torc::as_result(
            torc::with_timeout({}, with(Resource{counts}, [](Resource&) { return forever(); })));
        CHECK(late.error().code() == torc::errc::timed_out);
        CHECK(counts.closed == 3);
    });
}

TEST_CASE("blocks nest, and close from the inside out") {
    run_clean([]() -> task<> {
        Resource::Counts outer;
        Resource::Counts inner;
        co_await with(Resource{outer}, [&](Resource&) -> task<> {
            co_await with(Resource{inner}, [&](Resource&) -> task<> {
                CHECK(outer.open + inner.open == 2);
                co_return;
            });
            CHECK(inner.closed == 1);
            CHECK(outer.open == 1);
        });
        CHECK(outer.closed == 1);
    });
}

TEST_CASE("with the plug pulled at any await, the resource is closed") {
    Resource::Counts counts;
    pull_the_plug(
        [&]() -> task<> {
            co_await with(Resource{counts}, [&](Resource&) -> task<> {
                co_await turns(2);
                co_await with(Resource{counts, 1}, [](Resource&) { return turns(1); });
            });
            CHECK(counts.open == 0);
        },
        [&](bool) { CHECK(counts.open == 0); });
}
