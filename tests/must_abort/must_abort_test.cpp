#include <doctest/doctest.h>

#include <forked.hpp>
#include <functional>
#include <memory>
#include <optional>
#include <steps.hpp>
#include <string>
#include <vector>

#include <sys/socket.h>

#include <torc/net/listener.hpp>
#include <torc/net/stream.hpp>
#include <torc/runtime.hpp>

// Wrong use that compiles. Each case runs in a process of its own, which must die by our hand, with a sentence that
// says what was wrong; that something died would not be enough.

namespace {

using torc::Executor;
using torc::scope;
using torc::task;
using namespace torc::test;

void dies_saying(const std::string& sentence, const std::function<void()>& wrong) {
    Forked child{[&] {
        wrong();
        return 0;
    }};
    const int status = child.wait();
    INFO("status ", status, ", said: ", child.output());
    CHECK(status == -SIGABRT);
    CHECK(child.output().find("torc: " + sentence + " (") != std::string::npos);
}

/// The same for a program's root task.
template <class Make>
void program_dies_saying(const std::string& sentence, Make make) {
    dies_saying(sentence, [&] {
        Executor executor;
        executor.run(make());
    });
}

/// Awaits what `make_wait` gives on the thing, and lets the thing go from under it.
template <class Thing, class MakeWait, class... Arguments>
void dies_when_it_goes(const std::string& sentence, MakeWait make_wait, Arguments... arguments) {
    program_dies_saying(sentence, [&]() -> task<> {
        std::optional<Thing> thing;
        thing.emplace(arguments...);
        auto waits = [&]() -> task<> { co_await make_wait(*thing); };
        auto drops = [&]() -> task<> {
            co_await torc::yield();
            thing.reset();
        };
        co_await torc::gather(waits(), drops());
    });
}

}  // namespace

TEST_CASE("a task that is awaited twice") {
    program_dies_saying("a task was awaited twice, or after it was moved from", []() -> task<> {
        task<> once = turns(1);
        co_await std::move(once);
        co_await std::move(once);  // NOLINT: that is the point
    });
}

TEST_CASE("a task that was moved from") {
    program_dies_saying("a task was awaited twice, or after it was moved from", []() -> task<> {
        task<> one = turns(1);
        const task<> other = std::move(one);
        co_await std::move(one);  // NOLINT: that is the point
    });
}

TEST_CASE("a combinator that is given a task twice, or one that was moved from") {
    const std::string sentence = "a task was awaited twice, or after it was moved from";
    program_dies_saying(sentence, []() -> task<> {
        task<> once = turns(1);
        co_await torc::gather(std::move(once));
        co_await torc::gather(std::move(once));  // NOLINT: that is the point
    });
    program_dies_saying(sentence, []() -> task<> {
        task<> once = turns(1);
        co_await torc::with_timeout(std::chrono::hours{1}, std::move(once));
        co_await torc::with_timeout(std::chrono::hours{1}, std::move(once));  // NOLINT: that is the point
    });
    program_dies_saying(sentence, []() -> task<> {
        co_await torc::with_scope([](scope& here) -> task<> {
            task<> once = turns(1);
            here.spawn(std::move(once));
            here.spawn(std::move(once));  // NOLINT: that is the point
            co_return;
        });
    });
    dies_saying(sentence, [] {
        task<> once = turns(1);
        Executor executor;
        executor.run(std::move(once));
        executor.run(std::move(once));  // NOLINT: that is the point
    });
    program_dies_saying(sentence, []() -> task<> {
        std::vector<task<>> tasks;
        tasks.push_back(turns(1));
        co_await torc::gather(tasks);
        co_await torc::gather(tasks);
    });
}

// Clang sees it, GCC does not.
#ifdef __clang__
#pragma clang diagnostic push
#pragma clang diagnostic ignored "-Wreturn-type"
#endif
TEST_CASE("a task with a value that ends without one") {
    program_dies_saying("a task came to its end without the co_return of a value", []() -> task<> {
        auto forgets = [](bool gives) -> task<int> {
            co_await turns(1);
            if (gives) co_return 1;
        };
        static_cast<void>(co_await forgets(false));
    });
}
#ifdef __clang__
#pragma clang diagnostic pop
#endif

TEST_CASE("questions that only a task can ask") {
    const std::string sentence = "this is for tasks, and none is running";
    for (const bool deadline : {false, true}) {
        dies_saying(sentence, [deadline] {
            Executor executor;
            executor.post([deadline] {
                if (deadline) static_cast<void>(torc::current_deadline());
                if (!deadline) static_cast<void>(torc::cancel_pending());
            });
            executor.run(turns(10));
        });
    }
}

TEST_CASE("a stream that was moved from") {
    program_dies_saying("a stream was used after it was moved from", []() -> task<> {
        torc::net::TcpListener listener = torc::net::TcpListener::bind(torc::net::Address::loopback(0));
        torc::net::TcpStream stream = co_await torc::net::TcpStream::connect(listener.local());
        const torc::net::TcpStream other = std::move(stream);
        static_cast<void>(stream.peer());  // NOLINT: that is the point
    });
}

TEST_CASE("a task that is destroyed while somebody awaits it") {
    program_dies_saying(
        "a coroutine frame was destroyed while its task was suspended: a task must be awaited to its end",
        []() -> task<> {
            std::optional<task<>> inner = forever();
            auto waits = [&]() -> task<> { co_await std::move(*inner); };
            auto drops = [&]() -> task<> {
                co_await torc::yield();
                inner.reset();
            };
            co_await torc::gather(waits(), drops());
        });
}

TEST_CASE("an event, a latch, a mutex, a semaphore, a channel that go while a task waits for them") {
    dies_when_it_goes<torc::event>("an event was destroyed while a task waited for it",
                                   [](torc::event& thing) -> task<> { co_await thing.wait(); });
    dies_when_it_goes<torc::latch>(
        "a latch was destroyed while a task waited for it", [](torc::latch& thing) -> task<> { co_await thing.wait(); },
        1);
    dies_when_it_goes<torc::channel<int>>(
        "a channel was destroyed while a task waited to receive",
        [](torc::channel<int>& thing) -> task<> { static_cast<void>(co_await thing.receive()); }, 1U);
    dies_when_it_goes<torc::channel<int>>(
        "a channel was destroyed while a task waited to send",
        [](torc::channel<int>& thing) -> task<> {
            co_await thing.send(1);
            co_await thing.send(2);
        },
        1U);
    dies_when_it_goes<torc::mutex>("a mutex was destroyed while a task waited for it",
                                   [](torc::mutex& thing) -> task<> {
                                       const auto held = co_await thing.lock();
                                       const auto again = co_await thing.lock();
                                   });
    dies_when_it_goes<torc::mutex>("a mutex was destroyed while it was locked", [](torc::mutex& thing) -> task<> {
        const auto held = co_await thing.lock();
        co_await forever();
    });
    dies_when_it_goes<torc::semaphore>(
        "a semaphore was destroyed while a task waited for it",
        [](torc::semaphore& thing) -> task<> {
            const auto held = co_await thing.acquire();
            const auto again = co_await thing.acquire();
        },
        1U);
}

TEST_CASE("a latch that is counted down below zero") {
    dies_saying("a latch was counted down below zero", [] {
        torc::latch small{1};
        small.count_down(2);
    });
}

TEST_CASE("what tasks share, touched from another thread") {
    program_dies_saying("a task was woken from outside its executor: what tasks share belongs to one executor",
                        []() -> task<> {
                            torc::event shared;
                            auto waits = [&]() -> task<> { co_await shared.wait(); };
                            auto sets = [&]() -> task<> { co_await torc::offload([&] { shared.set(); }); };
                            co_await torc::gather(waits(), sets());
                        });
}

TEST_CASE("a task that is spawned on a scope that is not open") {
    program_dies_saying("a task was spawned on a scope that is not open: not inside its with_scope", []() -> task<> {
        co_await torc::with_scope([](scope& here) {  // no coroutine: runs before the scope opens
            here.spawn(turns(1));
            return turns(1);
        });
    });
}

TEST_CASE("an executor that is destroyed while it runs, or run while it runs") {
    dies_saying("an executor was destroyed while it was running", [] {
        auto executor = std::make_unique<Executor>();
        executor->run([](std::unique_ptr<Executor>& mine) -> task<> {
            co_await torc::yield();
            mine.reset();
        }(executor));
    });
    dies_saying("Executor::run was called while it was running", [] {
        Executor executor;
        executor.run([](Executor& mine) -> task<> {
            mine.run(turns(1));
            co_return;
        }(executor));
    });
    dies_saying("torc::run was called while another one is running", [] {
        torc::run([]() -> task<> {
            torc::run(turns(1));
            co_return;
        }());
    });
}

TEST_CASE("an executor that is destroyed with an operation in flight") {
    dies_saying("an executor was destroyed with operations in flight", [] {
        torc::descriptor file;
        torc::operation op{torc::op_kind::accept, &file, [](torc::operation&) noexcept {}};
        Executor executor;
        executor.run([](torc::operation& forgotten) -> task<> {
            const auto any = torc::net::Address::loopback(0);
            const torc::binding listening{any.data(), any.size(), SOCK_STREAM, 1};
            if (Executor::here().driver().bind(listening, *forgotten.file) != 0) co_return;
            Executor::here().driver().submit(forgotten);
            co_await driver_turns(1);
        }(op));
    });
}

TEST_CASE("what needs an executor, without one") {
    dies_saying("this needs a running executor on this thread",
                [] { static_cast<void>(torc::net::TcpListener::bind(torc::net::Address::loopback(0))); });
}

TEST_CASE("combinators over nothing that can be meant") {
    program_dies_saying("gather_limited needs room for at least one at a time", []() -> task<> {
        co_await torc::gather_limited(0, std::vector<int>(3), [](int) { return turns(1); });
    });
    program_dies_saying("a race needs at least one runner",
                        []() -> task<> { static_cast<void>(co_await torc::race(std::vector<task<>>{})); });
    program_dies_saying("connecting needs at least one address", []() -> task<> {
        static_cast<void>(co_await torc::net::TcpStream::connect(std::vector<torc::net::Address>{}));
    });
}

TEST_CASE("two tasks that close the same resource at once") {
    program_dies_saying("two tasks close the same resource at once", []() -> task<> {
        Resource::Counts counts;
        Resource shared{counts, 5};
        co_await torc::gather(shared.close(), shared.close());
    });
}

TEST_CASE("an operation that goes while the kernel works on it") {
    program_dies_saying("a receive was destroyed while the kernel still worked on it", []() -> task<> {
        torc::net::TcpListener listener = torc::net::TcpListener::bind(torc::net::Address::loopback(0));
        torc::net::TcpStream client = co_await torc::net::TcpStream::connect(listener.local());
        std::vector<std::byte> memory(16);
        std::optional<torc::net::receive_awaitable> waiting;
        waiting.emplace(client.receive(memory));
        auto waits = [&]() -> task<> { co_await *waiting; };
        auto drops = [&]() -> task<> {
            co_await driver_turns(1);
            waiting.reset();
        };
        co_await torc::gather(waits(), drops());
    });
}

TEST_CASE("a number of buffers that is no power of two") {
    dies_saying("buffer_count must be a power of two, at most 32768", [] {
        torc::ExecutorOptions options;
        options.buffer_count = 100;
        const Executor executor{options};
    });
}
