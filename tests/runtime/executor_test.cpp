#include <torc/runtime/executor.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cstddef>
#include <forked.hpp>
#include <leak_check.hpp>
#include <memory>
#include <steps.hpp>
#include <string>
#include <thread>
#include <vector>
#include <which_driver.hpp>

#include <torc/runtime/channel.hpp>
#include <torc/runtime/event.hpp>
#include <torc/runtime/gather.hpp>
#include <torc/runtime/latch.hpp>
#include <torc/runtime/mutex.hpp>
#include <torc/runtime/offload.hpp>
#include <torc/runtime/race.hpp>
#include <torc/runtime/run.hpp>
#include <torc/runtime/scope.hpp>
#include <torc/runtime/semaphore.hpp>
#include <torc/runtime/timeout.hpp>

// The executor from outside: what other threads post, signals, what it tells about its tasks and itself, and which
// driver it takes. What ends a process is tried in a child.

namespace {

using std::chrono::hours;
using torc::Executor;
using torc::scope;
using torc::task;
using namespace torc::test;

std::size_t times(std::string_view text, std::string_view what) {
    std::size_t count = 0;
    for (std::size_t at = text.find(what); at != std::string_view::npos; at = text.find(what, at + 1)) ++count;
    return count;
}

/// Says that it waits, and waits; says when it was cancelled.
task<> wait_loudly() {
    std::fprintf(stderr, "waiting\n");
    try {
        co_await forever();
    } catch (const torc::cancelled&) {
        std::fprintf(stderr, "cleaned up\n");
        throw;
    }
}

task<int> lowest_function() {
    co_await torc::yield();
    throw std::runtime_error("the reason");
    co_return 0;
}
task<int> middle_function() {
    const int value = co_await lowest_function();
    co_return value + 1;
}
task<> highest_function() { static_cast<void>(co_await torc::gather(middle_function(), forever())); }

task<> say_driver() {
    std::fprintf(stderr, "driver %s\n", std::string{Executor::here().driver().name()}.c_str());
    co_await driver_turns(1);
}

}  // namespace

TEST_CASE("what one thread posts runs in the order of posting, on the executor's thread and in no task") {
    const leak_check leaks;
    Executor executor;
    const auto here = std::this_thread::get_id();
    constexpr int each = 1000;
    constexpr int posters = 3;
    std::vector<std::vector<int>> seen(posters);
    torc::event all_there;
    int count = 0;
    auto root = [&]() -> task<> { co_await all_there.wait(); };
    std::vector<std::thread> threads;
    for (int poster = 0; poster < posters; ++poster) {
        threads.emplace_back([&, poster] {
            for (int number = 0; number < each; ++number) {
                executor.post([&, poster, number] {
                    if (std::this_thread::get_id() != here || executor.running() != nullptr) seen[0].push_back(-1);
                    seen[static_cast<std::size_t>(poster)].push_back(number);
                    if (++count == posters * each) all_there.set();
                });
            }
        });
    }
    executor.run(root());
    for (std::thread& thread : threads) thread.join();
    for (const auto& numbers : seen) {
        CHECK(numbers.size() == each);
        CHECK(std::ranges::is_sorted(numbers));
    }
}

TEST_CASE("what is posted before a run waits for it, and what no run comes to is destroyed unrun") {
    const leak_check leaks;
    auto alive = std::make_shared<int>(0);
    {
        Executor executor;
        executor.post([alive] { ++*alive; });
        CHECK(*alive == 0);
        executor.run(turns(1));
        CHECK(*alive == 1);
        executor.post([alive] { ++*alive; });
        CHECK(alive.use_count() == 2);
    }
    CHECK(*alive == 1);
    CHECK(alive.use_count() == 1);
}

TEST_CASE("what posted work posts runs as well, without starving the tasks") {
    run_clean([]() -> task<> {
        struct chain {
            static void next(int& left, torc::event& done) {
                if (--left == 0) {
                    done.set();
                } else {
                    Executor::here().post([&left, &done] { next(left, done); });
                }
            }
        };
        int left = 1000;
        torc::event done;
        Executor::here().post([&] { chain::next(left, done); });
        co_await done.wait();
        CHECK(left == 0);
    });
}

TEST_CASE("an executor can run again and again, and knows when it does not") {
    const leak_check leaks;
    CHECK(Executor::current() == nullptr);
    Executor executor;
    for (int round = 0; round < 3; ++round) {
        executor.run([](Executor& mine) -> task<> {
            CHECK(Executor::current() == &mine);
            co_await torc::yield();
        }(executor));
        CHECK(Executor::current() == nullptr);
    }
    leak_check::check(executor.statistics());
}

TEST_CASE("cancel_root ends the program in order") {
    journal notes;
    CHECK_THROWS_AS(run_clean([&]() -> task<> {
                        Executor::here().post([] { Executor::here().cancel_root(); });
                        co_await torc::gather(forever(notes), forever(notes));
                    }),
                    torc::cancelled);
    CHECK(notes.unwound == 2);
}

TEST_CASE("run gives the exit status of a program") {
    CHECK(torc::run(turns(2)) == 0);
    CHECK(torc::run(value_after(2, 7)) == 7);
    CHECK(torc::run(value_after(2, 7), torc::ExecutorOptions{}) == 7);
}

TEST_CASE("Ctrl-C and SIGTERM unwind the program in order, and the status says which it was" *
          doctest::skip(simulated())) {
    for (const int number : {SIGINT, SIGTERM}) {
        Forked child{[] { return torc::run(wait_loudly()); }};
        REQUIRE(child.wait_for("waiting"));
        child.signal(number);
        CHECK(child.wait() == 128 + number);
        CHECK(times(child.output(), "cleaned up") == 1);
    }
}

TEST_CASE("a second Ctrl-C ends a program at once that does not want to end" * doctest::skip(simulated())) {
    Forked child{[] {
        return torc::run([]() -> task<> { co_await torc::gather(wait_loudly(), torc::shield(hours{1}, forever())); }());
    }};
    REQUIRE(child.wait_for("waiting"));
    child.signal(SIGINT);
    REQUIRE(child.wait_for("cleaned up"));
    child.signal(SIGINT);
    CHECK(child.wait() == -SIGINT);
}

TEST_CASE("signals are the process's own again after run") {
    Forked child{[] {
        if (torc::run(turns(1)) != 0) return 1;
        std::raise(SIGTERM);
        return 2;
    }};
    CHECK(child.wait() == -SIGTERM);
}

TEST_CASE("SIGUSR1 prints the tree of tasks, as often as it comes, and the program goes on" *
          doctest::skip(simulated())) {
    Forked child{[] { return torc::run(wait_loudly()); }};
    REQUIRE(child.wait_for("waiting"));
    child.signal(SIGUSR1);
    REQUIRE(child.wait_for(": sleep for"));
    child.signal(SIGUSR1);
    child.signal(SIGTERM);
    CHECK(child.wait() == 128 + SIGTERM);
    CHECK(child.output().find("torc tasks (") != std::string::npos);
    CHECK(child.output().find("wait_loudly (executor_test.cpp:") != std::string::npos);
    CHECK(times(child.output(), "cleaned up") == 1);
}

TEST_CASE("an error that nothing caught is printed with the chain of awaits that led to it") {
    Forked child{[] { return torc::run(highest_function()); }};
    CHECK(child.wait() == 1);
    const std::string& said = child.output();
    CHECK(said.starts_with("torc: uncaught error: the reason\n"));
    const std::size_t lowest = said.find("lowest_function (executor_test.cpp:");
    const std::size_t middle = said.find("middle_function (executor_test.cpp:");
    const std::size_t highest = said.find("highest_function (executor_test.cpp:");
    INFO(said);
    CHECK(lowest != std::string::npos);
    CHECK(middle != std::string::npos);
    CHECK(highest != std::string::npos);
    CHECK(times(said, "\nin ") == 1);
    CHECK(times(said, "\nawaited by ") == 2);
    CHECK(lowest < middle);
    CHECK(middle < highest);
}

TEST_CASE("an uncaught exception of any type is an exit status, not a crash") {
    Forked child{[] {
        return torc::run([]() -> task<> {
            co_await torc::yield();
            throw 42;
        }());
    }};
    CHECK(child.wait() == 1);
    CHECK(child.output().starts_with("torc: uncaught error: "));
}

TEST_CASE("the dump says of each kind of wait what it is") {
    run_clean([]() -> task<> {
        torc::mutex locked;
        torc::semaphore none{0};
        torc::event never;
        torc::latch closed{1};
        torc::channel<int> empty{1};
        const torc::mutex::guard holder = co_await locked.lock();
        co_await torc::with_scope([&](torc::scope& here) -> task<> {
            here.spawn([](torc::mutex& one) -> task<> { static_cast<void>(co_await one.lock()); }(locked));
            here.spawn([](torc::semaphore& one) -> task<> { static_cast<void>(co_await one.acquire()); }(none));
            here.spawn([](torc::event& one) -> task<> { co_await one.wait(); }(never));
            here.spawn([](torc::latch& one) -> task<> { co_await one.wait(); }(closed));
            here.spawn([](torc::channel<int>& one) -> task<> { co_await one.receive(); }(empty));
            here.spawn([]() -> task<> { co_await torc::sleep_for(hours{1}); }());
            here.spawn([]() -> task<> { co_await torc::offload([] {}); }());
            here.spawn([]() -> task<> { co_await torc::with_timeout(hours{1}, forever()); }());
            const std::string tree = Executor::here().dump_tasks();
            for (const char* kind :
                 {": mutex", ": semaphore", ": event", ": latch", ": channel", ": sleep", ": offload"}) {
                CHECK_MESSAGE(tree.find(kind) != std::string::npos, kind << " is not in " << tree);
            }
            here.cancel();
            co_return;
        });
    });
}

TEST_CASE("the dump shows each suspended task under whoever awaits it, with what it waits for") {
    run_clean([]() -> task<> {
        torc::event never;
        auto waits_for_event = [&]() -> task<> { co_await never.wait(); };
        auto named_child = []() -> task<> { co_await forever(); };
        auto limited = [&]() -> task<> { co_await torc::with_timeout(hours{1}, named_child()); };
        std::string dump;
        auto dumper = [&]() -> task<> {
            co_await torc::yield();
            dump = Executor::here().dump_tasks();
            throw torc::Error{torc::errc::closed, torc::phase::none, "", "seen"};
        };
        CHECK_THROWS_AS(co_await torc::gather(waits_for_event(), limited(), dumper()), torc::Error);
        INFO(dump);
        std::vector<std::string> lines;
        for (std::size_t begin = 0; begin < dump.size();) {
            const std::size_t end = dump.find('\n', begin);
            lines.push_back(dump.substr(begin, end - begin));
            begin = end + 1;
        }
        REQUIRE(lines.size() == 7);
        // Where the machine's clock is the clock, it may have gone on.
        const std::string no_time = Executor::here().driver().simulated() ? "0 ms" : "";
        CHECK(lines[0].starts_with("torc tasks (" + std::string{Executor::here().driver().name()}));
        CHECK(lines[0].ends_with(", 0 operations in flight, 2 timers):"));
        CHECK(lines[1].find(": gather for " + no_time) != std::string::npos);
        CHECK(lines[2].find(": event for " + no_time) != std::string::npos);
        CHECK(lines[3].find(": with_timeout for " + no_time) != std::string::npos);
        CHECK(lines[4].find("(executor_test.cpp:") != std::string::npos);
        CHECK(lines[5].find(": sleep for " + no_time) != std::string::npos);
        CHECK(lines[6].find(": ready") != std::string::npos);
        const auto indent = [&](std::size_t line) { return lines[line].find_first_not_of(' '); };
        CHECK(indent(1) < indent(2));
        CHECK(indent(2) == indent(3));
        CHECK(indent(3) < indent(4));
        CHECK(indent(4) < indent(5));
        CHECK(indent(6) == indent(2));
    });
}

TEST_CASE("the dump shows a task that has ended but for its closes") {
    run_clean([]() -> task<> {
        Resource::Counts counts;
        auto closing = [&]() -> task<> {
            const Resource mine{counts, 50};
            co_await torc::yield();
        };
        std::string dump;
        auto dumper = [&]() -> task<> {
            co_await turns(3);
            dump = Executor::here().dump_tasks();
        };
        co_await torc::gather(closing(), dumper());
        CHECK(dump.find(": closing 1\n") != std::string::npos);
    });
}

TEST_CASE("thousands of groups, one in the other, can be dumped") {
    struct deep {
        static task<> run(int levels, std::string& dump) {
            if (levels > 0) {
                co_await torc::gather(run(levels - 1, dump));
            } else {
                co_await torc::yield();
                dump = Executor::here().dump_tasks();
            }
        }
    };
    std::string dump;
    run_clean([&]() -> task<> { return deep::run(10'000, dump); });
    CHECK(times(dump, ": gather for ") == 10'000);
    CHECK(times(dump, ": ready\n") == 1);
    CHECK(dump.size() < (16U << 20));
}

TEST_CASE("the statistics count what happened") {
    run_clean([]() -> task<> {
        Executor& executor = Executor::here();
        const torc::Statistics before = executor.statistics();
        CHECK(before.frames >= 1);
        Resource::Counts counts;
        auto use = [&]() -> task<> {
            const Resource mine{counts, 2};
            co_await turns(3);
        };
        co_await use();
        co_await torc::race(forever(), torc::yield());
        const torc::Statistics after = executor.statistics();
        CHECK(after.closes == before.closes + 1);
        CHECK(after.completions == before.completions + 2);
        CHECK(after.submitted == before.submitted + 2);
        CHECK(after.suspensions >= before.suspensions + 5);
        CHECK(after.resumes >= before.resumes + 4);
        CHECK(after.turns > before.turns);
        CHECK(after.in_flight == 0);
        CHECK(after.timers == 0);
        CHECK(after.frames == before.frames);
    });
}

TEST_CASE("tasks that are always ready do not enter the kernel all the time") {
    run_clean([]() -> task<> {
        Executor& executor = Executor::here();
        const auto began = torc::Clock::now();
        const std::uint64_t before = executor.statistics().turns;
        auto busy = []() -> task<> {
            for (int count = 0; count < 20'000; ++count) co_await torc::yield();
        };
        co_await torc::gather(busy(), busy());
        const auto intervals = (torc::Clock::now() - began) / std::chrono::microseconds{20};
        const std::uint64_t turns = executor.statistics().turns - before;
        if (executor.driver().simulated()) {
            CHECK(turns > 1'000);  // there, time goes on only in turns
        } else {
            CHECK(turns <= static_cast<std::uint64_t>(intervals) + 2);
        }
    });
}

TEST_CASE("the longest resume is measured on request") {
    const leak_check leaks;
    torc::ExecutorOptions options;
    options.measure_resumes = true;
    Executor executor{options};
    torc::Clock::duration busy{};
    executor.run([](torc::Clock::duration& seen) -> task<> {
        co_await torc::yield();
        const auto began = torc::Clock::now();
        const auto until = std::chrono::steady_clock::now() + std::chrono::microseconds{100};
        while (std::chrono::steady_clock::now() < until) {  // work, not a wait: on a virtual clock it takes no time
        }
        seen = torc::Clock::now() - began;
        co_await torc::yield();
    }(busy));
    CHECK(executor.statistics().longest_resume >= busy);
}

TEST_CASE("a driver that does not exist is an error in words") {
    Forked child{[] {
        ::setenv("TORC_DRIVER", "bogus", 1);
        return torc::run(say_driver());
    }};
    CHECK(child.wait() == 1);
    CHECK(child.output() == "torc: TORC_DRIVER is \"bogus\"; it can be uring, epoll or sim\n");
}

TEST_CASE("options win over the environment") {
    Forked child{[] {
        ::setenv("TORC_DRIVER", "bogus", 1);
        torc::ExecutorOptions options;
        options.kind = torc::driver_kind::epoll;
        return torc::run(say_driver(), options);
    }};
    CHECK(child.wait() == 0);
    CHECK(child.output() == "driver epoll\n");
}
