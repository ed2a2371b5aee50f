#include <doctest/doctest.h>

#include <sched.h>

#include <atomic>
#include <csignal>
#include <functional>
#include <leak_check.hpp>
#include <mutex>
#include <set>
#include <steps.hpp>
#include <string>
#include <vector>

#include <torc/net/listener.hpp>
#include <torc/runtime.hpp>

// Several executors at once, each on a thread of its own. Every case ends by asking each of them what is left: inside,
// when its root has ended, for operations, descriptors, timers, buffers and frames; outside, when its thread ends, for
// frames again; and at last the process for what the drivers themselves had open.
//
// Ends by error are printed to standard error; that is part of what they do.

using namespace torc;
using namespace std::chrono_literals;

namespace {

/// Notes how many frames are left when the thread that touched it ends.
struct FramesAtEnd {
    static inline std::mutex mutex;
    static inline std::vector<std::ptrdiff_t> left;

    void touch() noexcept {}
    ~FramesAtEnd() {
        const std::lock_guard lock{mutex};
        left.push_back(torc::detail::live_frames());
    }
};
thread_local FramesAtEnd frames_at_end;

/// What was left on each core when its root had ended, however it did.
struct Ledger {
    std::mutex mutex;
    std::vector<Statistics> left;
};

task<> on_account(Ledger& ledger, const std::function<task<>(unsigned)>& root, unsigned core) {
    struct Entry {
        Ledger& ledger;
        std::ptrdiff_t frames_before = Executor::here().statistics().frames;
        ~Entry() {
            Statistics left = Executor::here().statistics();
            left.frames -= frames_before;
            const std::lock_guard lock{ledger.mutex};
            ledger.left.push_back(left);
        }
    } const entry{ledger};
    if (core != 0) frames_at_end.touch();
    task<> mine = root(core);
    co_await std::move(mine);
}

/// Rings, epolls and what wakes them, in the whole process. (Not all of its descriptors: a sanitizer has some, too.)
std::size_t drivers_open() {
    const std::string files = test::open_files::now().list;
    std::size_t count = 0;
    for (std::size_t at = files.find("anon_inode:"); at != files.npos; at = files.find("anon_inode:", at + 1)) ++count;
    return count;
}

/// `run_on_cores`, and that it left nothing behind on any of them.
int run_cores(unsigned cores, const std::function<task<>(unsigned core)>& root) {
    FramesAtEnd::left.clear();
    const std::size_t drivers_before = drivers_open();
    Ledger ledger;
    const int status = run_on_cores(cores, [&](unsigned core) { return on_account(ledger, root, core); });
    CHECK(ledger.left.size() == cores);
    for (const Statistics& each : ledger.left) {
        test::leak_check::check(each);
        CHECK(each.frames == 0);
    }
    CHECK(FramesAtEnd::left == std::vector<std::ptrdiff_t>(cores - 1, 0));
    CHECK(torc::detail::live_frames() == 0);
    CHECK(drivers_open() == drivers_before);
    return status;
}

/// Connects to itself, so often.
task<> talk(net::TcpListener& listener, int rounds) {
    for (int round = 0; round < rounds; ++round) {
        net::TcpStream client = co_await net::TcpStream::connect(listener.local());
        net::TcpStream server = co_await listener.accept();
        co_await client.send("question");
        const BufferSlice question = co_await server.receive();
        co_await server.send(question.bytes());
        const BufferSlice answer = co_await client.receive();
        CHECK(answer.size() == question.size());
    }
}

}  // namespace

TEST_SUITE("cores") {
    TEST_CASE("every core runs the root once, on an executor of its own") {
        std::mutex mutex;
        std::set<unsigned> cores;
        std::set<Executor*> executors;
        const int status = run_cores(3, [&](unsigned core) -> task<> {
            return [](std::mutex& lock, std::set<unsigned>& seen, std::set<Executor*>& on, unsigned mine) -> task<> {
                co_await yield();
                const std::lock_guard guard{lock};
                seen.insert(mine);
                on.insert(Executor::current());
            }(mutex, cores, executors, core);
        });
        CHECK(status == 0);
        CHECK(cores == std::set<unsigned>{0, 1, 2});
    }

    TEST_CASE("a core that fails cancels the others, and the whole gives 1") {
        for (const unsigned failing : {0U, 1U}) {
            CAPTURE(failing);
            std::atomic<int> cancelled_cores = 0;
            const int status = run_cores(2, [&](unsigned core) -> task<> {
                return [](unsigned mine, unsigned bad, std::atomic<int>& count) -> task<> {
                    if (mine == bad) throw std::runtime_error{"planted"};
                    try {
                        co_await test::forever();
                    } catch (const cancelled&) {
                        ++count;
                        throw;
                    }
                }(core, failing, cancelled_cores);
            });
            CHECK(status == 1);
            CHECK(cancelled_cores == 1);
        }
    }

    TEST_CASE("a core that fails with something that says nothing fails as well") {
        CHECK(run_cores(2, [](unsigned core) -> task<> {
                  return [](unsigned mine) -> task<> {
                      if (mine == 1) throw 5;
                      co_await test::forever();
                  }(core);
              }) == 1);
    }

    TEST_CASE("0 stands for the cores that the process may use") {
        cpu_set_t before;
        REQUIRE(::sched_getaffinity(0, sizeof before, &before) == 0);
        int first = 0;
        while (!CPU_ISSET(first, &before)) ++first;
        cpu_set_t one;
        CPU_ZERO(&one);
        CPU_SET(first, &one);
        REQUIRE(::sched_setaffinity(0, sizeof one, &one) == 0);
        std::atomic<int> cores = 0;
        const int status = run_on_cores(0, [&](unsigned) -> task<> {
            return [](std::atomic<int>& count) -> task<> {
                ++count;
                co_return;
            }(cores);
        });
        ::sched_setaffinity(0, sizeof before, &before);
        CHECK(status == 0);
        CHECK(cores == 1);
    }

    TEST_CASE("a signal cancels every core") {
        std::atomic<int> waiting = 0;
        const int status = run_cores(2, [&](unsigned) -> task<> {
            return [](std::atomic<int>& count) -> task<> {
                if (++count == 2) std::raise(SIGTERM);
                co_await test::forever();
            }(waiting);
        });
        CHECK(status == 128 + SIGTERM);
    }

    TEST_CASE("one core posts to another and back") {
        std::atomic<Executor*> other = nullptr;
        std::atomic<int> rounds = 0;
        const int status = run_cores(2, [&](unsigned core) -> task<> {
            return [](unsigned mine, std::atomic<Executor*>& second, std::atomic<int>& count) -> task<> {
                event done;
                if (mine == 1) {
                    second = Executor::current();
                    while (count < 100) co_await yield();
                    co_return;
                }
                while (second == nullptr) co_await yield();
                Executor& here = Executor::here();
                for (int round = 0; round < 100; ++round) {
                    done.reset();
                    second.load()->post([&] {
                        ++count;
                        here.post([&] { done.set(); });
                    });
                    co_await done.wait();
                }
            }(core, other, rounds);
        });
        CHECK(status == 0);
        CHECK(rounds == 100);
    }

    TEST_CASE("cores have connections, timers and threads of their own, and leave nothing of them behind") {
        std::atomic<int> rounds = 0;
        const int status = run_cores(3, [&](unsigned) -> task<> {
            return [](std::atomic<int>& all) -> task<> {
                net::TcpListener listener = net::TcpListener::bind(net::Address::loopback(0));
                auto work = [](std::atomic<int>& count) -> task<> {
                    for (int round = 0; round < 10; ++round) {
                        co_await sleep_for(1us);
                        count += co_await offload([] { return 1; });
                    }
                };
                co_await gather(talk(listener, 20), work(all));
                static_cast<void>(co_await as_result(with_timeout(0ns, listener.accept())));
            }(rounds);
        });
        CHECK(status == 0);
        CHECK(rounds == 30);
    }

    TEST_CASE("cores that are cancelled in the middle of their connections leave nothing of them behind") {
        std::atomic<int> at_work = 0;
        const int status = run_cores(3, [&](unsigned core) -> task<> {
            return [](unsigned mine, std::atomic<int>& count) -> task<> {
                net::TcpListener listener = net::TcpListener::bind(net::Address::loopback(0));
                net::TcpStream client = co_await net::TcpStream::connect(listener.local());
                net::TcpStream server = co_await listener.accept();
                ++count;
                if (mine == 2) {
                    while (count < 3) co_await yield();
                    throw std::runtime_error{"planted"};
                }
                auto wait = [](net::TcpStream& stream) -> task<> { static_cast<void>(co_await stream.receive()); };
                co_await gather(wait(client), wait(server), talk(listener, 1'000'000), test::forever());
            }(core, at_work);
        });
        CHECK(status == 1);
    }
}
