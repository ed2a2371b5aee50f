#include <torc/runtime/task.hpp>

#include <doctest/doctest.h>

#include <leak_check.hpp>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include <torc/runtime/as_result.hpp>
#include <torc/runtime/gather.hpp>
#include <torc/runtime/time.hpp>

// Tasks alone: what they return, what they throw, when they run, and that neither their number nor their depth costs
// stack. Built without optimization and under sanitizers too, where compilers make no tail calls.

namespace {

using torc::task;
using torc::test::run_clean;

task<> nothing() { co_return; }
task<int> number(int value) { co_return value; }
task<std::unique_ptr<int>> owned(int value) { co_return std::make_unique<int>(value); }
task<int&> refer(int& value) { co_return value; }
task<int> fail(const char* why) {
    throw std::runtime_error(why);
    co_return 0;
}

task<int> depth(int levels) {
    if (levels == 0) co_return 0;
    co_return 1 + co_await depth(levels - 1);
}
task<int> depth_from_a_turn(int levels) {
    if (levels == 0) {
        co_await torc::yield();
        co_return 0;
    }
    co_return 1 + co_await depth_from_a_turn(levels - 1);
}
task<> throw_at(int levels) {
    if (levels == 0) throw std::runtime_error("from below");
    co_await throw_at(levels - 1);
}

struct counted {
    explicit counted(int& alive) : alive_(&alive) { ++*alive_; }
    counted(counted&& other) noexcept : alive_(other.alive_) { ++*alive_; }
    counted& operator=(counted&&) = delete;
    ~counted() { --*alive_; }
    int* alive_;
};

/// Neither default-constructible nor assignable.
struct particular {
    explicit particular(std::string what) : text(std::move(what)) {}
    const std::string text;
};
task<particular> particulars() { co_return particular{"a value that can only be built"}; }

}  // namespace

TEST_CASE("a task gives what its coroutine returned") {
    SUBCASE("nothing") { run_clean(nothing()); }
    SUBCASE("a value") { CHECK(run_clean(number(7)) == 7); }
    SUBCASE("a move-only value") { CHECK(*run_clean(owned(7)) == 7); }
    SUBCASE("a value that has no default and no assignment") {
        CHECK(run_clean(particulars()).text == "a value that can only be built");
    }
    SUBCASE("a reference, to the very object") {
        int value = 1;
        run_clean([&]() -> task<> {
            int& same = co_await refer(value);
            same = 2;
            CHECK(&same == &value);
        });
        CHECK(value == 2);
    }
}

TEST_CASE("a task passes on what its coroutine threw, once it is awaited") {
    CHECK_THROWS_WITH_AS(run_clean(fail("by value")), "by value", std::runtime_error);
    const int caught = run_clean([]() -> task<int> {
        task<int> failing = fail("not yet");
        co_await nothing();
        int result = 0;
        try {
            result = co_await std::move(failing);
        } catch (const std::runtime_error& error) {
            CHECK(std::string{error.what()} == "not yet");
            result = -1;
        }
        co_return result;
    });
    CHECK(caught == -1);
}

TEST_CASE("an exception travels through ten thousand tasks") {
    CHECK_THROWS_WITH_AS(run_clean([]() -> task<> { co_await throw_at(10'000); }), "from below", std::runtime_error);
}

TEST_CASE("a value that throws while it is returned makes the task fail") {
    struct fragile {
        fragile() = default;
        fragile(const fragile&) { throw std::runtime_error("can not be moved"); }
    };
    CHECK_THROWS_WITH_AS(run_clean([]() -> task<> {
                             auto make = []() -> task<fragile> {
                                 fragile local;
                                 co_return local;
                             };
                             co_await make();
                         }),
                         "can not be moved", std::runtime_error);
}

TEST_CASE("a task runs when it is awaited, not before") {
    std::vector<std::string> order;
    run_clean([&]() -> task<> {
        auto step = [&](const char* name) -> task<> {
            order.emplace_back(name);
            co_return;
        };
        task<> first = step("first");
        task<> second = step("second");
        order.emplace_back("made");
        co_await std::move(second);
        co_await std::move(first);
    });
    CHECK(order == std::vector<std::string>{"made", "second", "first"});
}

TEST_CASE("a task that is never awaited never runs and leaves nothing") {
    int alive = 0;
    bool ran = false;
    run_clean([&]() -> task<> {
        auto body = [&](counted) -> task<> {
            ran = true;
            co_return;
        };
        task<> unstarted = body(counted{alive});
        CHECK(alive == 1);
        unstarted = body(counted{alive});
        CHECK(alive == 1);
        co_return;
    });
    CHECK(alive == 0);
    CHECK_FALSE(ran);
}

TEST_CASE("locals go when the coroutine returns, parameters when the task goes") {
    run_clean([]() -> task<> {
        int parameters = 0;
        int locals = 0;
        auto body = [&](counted) -> task<> {
            const counted local{locals};
            CHECK(locals == 1);
            co_await torc::yield();
        };
        {
            task<> one = body(counted{parameters});
            co_await std::move(one);
            CHECK(locals == 0);
            CHECK(parameters == 1);
        }
        CHECK(parameters == 0);
    });
}

TEST_CASE("a value that nobody takes is destroyed") {
    int alive = 0;
    run_clean([&]() -> task<> {
        auto make = [&]() -> task<counted> { co_return counted{alive}; };
        co_await make();
        CHECK(alive == 0);
    });
    CHECK(alive == 0);
}

TEST_CASE("a million awaits of tasks that complete at once take no stack") {
    const long long sum = run_clean([]() -> task<long long> {
        long long total = 0;
        for (int index = 0; index < 1'000'000; ++index) total += co_await number(index);
        co_return total;
    });
    CHECK(sum == 499'999'500'000);
}

TEST_CASE("thousands of awaits of tasks that fail at once take no stack") {
    const int failures = run_clean([]() -> task<int> {
        int caught = 0;
        for (int index = 0; index < 20'000; ++index) {
            try {
                co_await fail("at once");
            } catch (const std::runtime_error&) {
                ++caught;
            }
        }
        co_return caught;
    });
    CHECK(failures == 20'000);
}

TEST_CASE("tasks await one another ten thousand deep") {
    SUBCASE("completing at once") {
        CHECK(run_clean([]() -> task<int> { return depth(10'000); }) == 10'000);
    }
    SUBCASE("completing from a turn of the loop") {
        CHECK(run_clean([]() -> task<int> { return depth_from_a_turn(10'000); }) == 10'000);
    }
}

TEST_CASE("frames are used again") {
    auto one_wave = []() -> task<> {
        std::vector<task<>> wave;
        for (int index = 0; index < 100; ++index) {
            wave.push_back([]() -> task<> { co_await torc::yield(); }());
        }
        const std::ptrdiff_t most = torc::detail::live_frames();
        CHECK(most >= 100);
        co_await torc::gather(std::move(wave));
    };
    run_clean([&]() -> task<> {
        const std::ptrdiff_t before = torc::detail::live_frames();
        for (int wave = 0; wave < 100; ++wave) {
            co_await one_wave();
            CHECK(torc::detail::live_frames() == before);
        }
    });
}

#if !defined(__SANITIZE_ADDRESS__)
TEST_CASE("the frame of a task that has gone serves the next of its size") {
#if defined(__has_feature)
#if __has_feature(address_sanitizer)
    return;  // every frame comes from the heap there, on purpose
#endif
#endif
    void* const first = torc::detail::allocate_frame(200);
    torc::detail::free_frame(first, 200);
    void* const second = torc::detail::allocate_frame(208);
    CHECK(second == first);
    torc::detail::free_frame(second, 208);
}
#endif

TEST_CASE("a program's tasks can be run one after the other, each on an executor of its own or on one for all") {
    CHECK(run_clean(number(1)) == 1);
    const torc::test::leak_check leaks;
    torc::Executor executor;
    for (int index = 0; index < 10; ++index) CHECK(executor.run(depth_from_a_turn(index)) == index);
    CHECK_THROWS_AS(executor.run(fail("once")), std::runtime_error);
    CHECK(executor.run(number(2)) == 2);
    leaks.check(executor.statistics());
}

namespace {

task<> thrower() {
    throw torc::Error{torc::errc::closed, torc::phase::none, "", "thrown by the program"};
    co_return;
}
task<> caller() { co_await thrower(); }

}  // namespace

TEST_CASE("an Error that the program throws knows the chain of awaits it was thrown in") {
    run_clean([]() -> task<> {
        const auto ended = co_await torc::as_result(caller());
        REQUIRE_FALSE(ended);
        const std::string trace{ended.error().trace()};
        CHECK(trace.find("thrower") != std::string::npos);
        CHECK(trace.find("awaited by ") != std::string::npos);
        CHECK(trace.find("caller") > trace.find("thrower"));
    });
}
