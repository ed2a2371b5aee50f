#include <doctest/doctest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <leak_check.hpp>
#include <memory>
#include <vector>

#include <torc/runtime/event.hpp>
#include <torc/runtime/executor.hpp>
#include <torc/runtime/run.hpp>
#include <torc/runtime/time.hpp>
#include <torc/runtime/timeout.hpp>

// Receives that found no buffer to borrow: which of them wait for one, in what order they get it, and how that ends.

namespace {

using std::chrono::milliseconds;
using torc::BufferSlice;
using torc::Executor;
using torc::op_state;
using torc::task;
using namespace torc::test;

/// A receive that borrows, from a pair of sockets; its other end has sent one byte.
class Receive : public torc::operation {
   public:
    Receive() : operation(torc::op_kind::receive, &own_, ended) {
        select_buffer = true;
        int files[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, files) == 0);
        own_.value = files[0];
        other_ = files[1];
        REQUIRE(::write(other_, "x", 1) == 1);
    }
    ~Receive() {
        ::close(own_.value);
        ::close(other_);
    }

    task<int> done() {
        while (state != op_state::idle) co_await torc::yield();
        co_return result;
    }
    task<int> try_once() {
        Executor::here().driver().submit(*this);
        co_return co_await done();
    }

    BufferSlice slice;
    torc::event over;
    inline static std::vector<const Receive*> served;

   private:
    static void ended(operation& op) noexcept {
        auto& self = static_cast<Receive&>(op);
        self.over.set();
        if (op.result <= 0) return;
        self.slice = BufferSlice{Executor::here().driver().buffers(), static_cast<std::uint16_t>(op.buffer_id), 1};
        served.push_back(&self);
    }

    torc::descriptor own_;
    int other_ = -1;
};

torc::ExecutorOptions few_buffers(std::size_t count) {
    torc::ExecutorOptions options;
    options.buffer_count = count;
    options.buffer_bytes = 64;
    return options;
}

using Receives = std::vector<std::unique_ptr<Receive>>;

/// As many receives as wanted that all found no buffer.
task<Receives> starved(std::size_t count) {
    Receives all;
    for (std::size_t index = 0; index < count; ++index) all.push_back(std::make_unique<Receive>());
    for (const auto& each : all) Executor::here().driver().submit(*each);
    for (const auto& each : all) CHECK(co_await each->done() == -ENOBUFS);
    co_return all;
}

/// All buffers, lent, after many were given back in the last few milliseconds.
task<Receives> lend_all() {
    torc::Driver& driver = Executor::here().driver();
    Receives holders;
    while (holders.size() < driver.buffers().count()) {
        holders.push_back(std::make_unique<Receive>());
        CHECK(co_await holders.back()->try_once() == 1);
    }
    const Receives before = co_await starved(1);
    if (!driver.submit_when_lent(*before[0]))
        CHECK(before[0]->state == op_state::idle);  // from here on they are counted
    co_await before[0]->done();
    for (int count = 0; count < 500; ++count) {
        holders.front()->slice.release();
        holders.front() = std::make_unique<Receive>();
        CHECK(co_await holders.front()->try_once() == 1);
    }
    co_await torc::sleep_for(milliseconds{3});
    co_return holders;
}

/// Does `work` in rounds, until it says that it came to what it is about: it does not if the machine stands still for
/// some milliseconds in its middle.
void in_rounds(std::size_t buffers, task<bool> (*work)()) {
    bool came_to_it = false;
    for (int round = 0; round < 50 && !came_to_it; ++round) {
        run_clean([&]() -> task<> { came_to_it = co_await work(); }, few_buffers(buffers));
    }
    CHECK(came_to_it);
}

TEST_CASE("a receive waits for a buffer while they come back, first come first served") {
    in_rounds(2, []() -> task<bool> {
        torc::Driver& driver = Executor::here().driver();
        const Receives holders = co_await lend_all();
        const Receives waiting = co_await starved(2);
        Receive::served.clear();
        for (const auto& each : waiting) {
            if (driver.submit_when_lent(*each)) CHECK(each->state == op_state::waiting_for_buffer);
        }
        holders[0]->slice.release();
        const int first = co_await waiting[0]->done();
        const bool still = waiting[1]->state == op_state::waiting_for_buffer;
        holders[1]->slice.release();
        const int second = co_await waiting[1]->done();
        if (first != 1 || !still || second != 1) co_return false;
        CHECK(Receive::served == std::vector<const Receive*>{waiting[0].get(), waiting[1].get()});
        co_return true;
    });
}

TEST_CASE("a receive that waited comes before one that was submitted since") {
    in_rounds(1, []() -> task<bool> {
        torc::Driver& driver = Executor::here().driver();
        const Receives holders = co_await lend_all();
        const Receives waiting = co_await starved(1);
        const bool waits = driver.submit_when_lent(*waiting[0]);
        Receive late;
        driver.submit(late);
        holders[0]->slice.release();
        const int first = co_await waiting[0]->done();
        const int second = co_await late.done();
        if (!waits) co_return false;
        CHECK(first == 1);
        CHECK(second == -ENOBUFS);
        co_return true;
    });
}

TEST_CASE("a receive that waits for a buffer can be cancelled") {
    in_rounds(2, []() -> task<bool> {
        torc::Driver& driver = Executor::here().driver();
        const Receives holders = co_await lend_all();
        const Receives waiting = co_await starved(2);
        bool all_wait = true;
        for (const auto& each : waiting) all_wait = driver.submit_when_lent(*each) && all_wait;
        driver.cancel(*waiting[0]);
        const int first = co_await waiting[0]->done();
        const bool alone = waiting[1]->state == op_state::waiting_for_buffer;
        holders[0]->slice.release();
        const int second = co_await waiting[1]->done();
        if (!all_wait || !alone) co_return false;
        CHECK(first == -ECANCELED);
        CHECK(second == 1);
        // And it can be used again.
        holders[1]->slice.release();
        CHECK(co_await waiting[0]->try_once() == 1);
        co_return true;
    });
}

TEST_CASE("receives do not wait for buffers that do not come back any more") {
    in_rounds(1, []() -> task<bool> {
        torc::Driver& driver = Executor::here().driver();
        const Receives holders = co_await lend_all();
        const Receives waiting = co_await starved(40);
        bool all_wait = true;
        for (const auto& each : waiting) all_wait = driver.submit_when_lent(*each) && all_wait;
        if (all_wait) {
            CHECK(Executor::here().statistics().waiting_for_buffer == 40);
            for (const auto& each : waiting) each->over.reset();
            // Nothing else is going on that would wake the executor.
            co_await with_timeout(std::chrono::seconds{20}, waiting.back()->over.wait());
        }
        for (const auto& each : waiting) CHECK(co_await each->done() == -ENOBUFS);
        const Receives late = co_await starved(1);
        CHECK_FALSE(driver.submit_when_lent(*late[0]));
        co_return all_wait;
    });
}

TEST_CASE("no more receives wait than have a prospect of a buffer") {
    run_clean(
        []() -> task<> {
            torc::Driver& driver = Executor::here().driver();
            Receive holder;
            CHECK(co_await holder.try_once() == 1);
            const Receives first = co_await starved(1);
            CHECK_FALSE(driver.submit_when_lent(*first[0]));  // nothing was ever given back
            holder.slice.release();
            CHECK(co_await first[0]->try_once() == 1);
            co_await torc::sleep_for(milliseconds{3});
            const Receives others = co_await starved(60);
            int waiting = 0;
            for (const auto& each : others) waiting += driver.submit_when_lent(*each) ? 1 : 0;
            CHECK(waiting <= 20);  // one was given back in 2 ms, so 20 may be in 40 ms
            for (const auto& each : others) co_await each->done();
        },
        few_buffers(1));
}

TEST_CASE("buffers begin with a page: the kernel is slow to receive a little behind one") {
    run_clean([]() -> task<> {
        torc::BufferPool& buffers = Executor::here().driver().buffers();
        for (std::size_t id = 0; id < buffers.count(); ++id) {
            const auto begin = reinterpret_cast<std::uintptr_t>(buffers.buffer(static_cast<std::uint16_t>(id)).data());
            CHECK(begin % 4096 == 0);
        }
        co_return;
    });
}

}  // namespace
