#include <doctest/doctest.h>

#include <atomic>

#include <steps.hpp>

#include "scenario.hpp"

// Theory of operation. Tasks in tasks, with resources whose close takes turns of the driver: however they end, each
// that was begun has ended, and each resource is closed.

namespace torc::sweep {
namespace {

/// Work on other threads: what ran is delivered.
class Offload final : public Scenario {
   public:
    task<> play(Stage& stage) override {
        co_await with_scope([&](scope& here) -> task<> {
            here.spawn(work(2));
            here.spawn(stage.client(two()));
            co_await work(1);
        });
    }
    void check(const Ending& ending) override {
        CHECK_MESSAGE(ran_ == delivered_, "what ran was delivered");
        if (ending.completed()) CHECK(delivered_ >= 3);
        if (ending.undisturbed()) CHECK(delivered_ == 7);
    }

   private:
    task<> two() {
        task<> one = work(2);
        task<> other = work(2);
        co_await gather(std::move(one), std::move(other));
    }
    task<> work(int rounds) {
        for (int round = 0; round < rounds; ++round) {
            const int number = co_await offload([this] { return ++ran_; });
            CHECK(number > 0);
            ++delivered_;
        }
    }

    std::atomic<int> ran_ = 0;
    int delivered_ = 0;
};

/// Combinators in combinators, with resources in their tasks.
class Nest final : public Scenario {
   public:
    task<> play(Stage& stage) override {
        const test::Resource own{counts_};
        co_await with_scope([&](scope& here) -> task<> {
            here.spawn(branch(1));
            here.spawn(stage.client(tree()));
            co_await branch(2);
        });
        left_ = true;
    }
    void check(const Ending& ending) override {
        CHECK_MESSAGE(counts_.open == 0, "every resource is closed");
        CHECK(begun_ == ended_);
        CHECK_MESSAGE(shielded_begun_ == shielded_done_, "what is shielded was not disturbed");
        if (ending.completed()) CHECK(left_);
        if (ending.undisturbed()) CHECK(winner_ == 7);
    }

   private:
    task<> branch(int turns) {
        ++begun_;
        struct Ended {
            int& count;
            ~Ended() { ++count; }
        } const at_end{ended_};
        const test::Resource resource{counts_};
        co_await test::turns(turns);
        co_await test::driver_turns(turns);
    }
    task<int> winning(int value) {
        co_await branch(1);
        co_return value;
    }
    task<> racing() {
        task<int> fast = winning(7);
        task<int> slow = test::stubborn(8);
        const auto won = co_await race(std::move(fast), std::move(slow));
        winner_ = won.index() == 0 ? std::get<0>(won) : std::get<1>(won);
    }
    task<> protected_part() {
        ++shielded_begun_;
        co_await test::driver_turns(3);
        ++shielded_done_;
    }
    task<> shielding() { co_await shield(std::chrono::seconds{5}, protected_part()); }
    task<> limited() {
        task<> endless = test::forever();
        const result<void> over = co_await as_result(with_timeout(std::chrono::microseconds{50}, std::move(endless)));
        CHECK_MESSAGE(!over, "the limit was kept");
        if (!over) CHECK(over.error().code() == errc::timed_out);
    }
    task<> settled() {
        task<> failing = test::fail_after(1, "as it should");
        task<> working = branch(1);
        const auto all = co_await gather_settled(std::move(failing), std::move(working));
        CHECK(!std::get<0>(all));
        CHECK(std::get<1>(all));
    }
    task<> grown() {
        co_await with_scope([this](scope& here) -> task<> {
            here.spawn(branch(2));
            here.spawn([this]() -> task<> { co_await branch(0); });
            co_await racing();
        });
    }
    task<> tree() {
        task<> one = grown();
        task<> two = shielding();
        task<> three = limited();
        task<> four = settled();
        co_await gather(std::move(one), std::move(two), std::move(three), std::move(four));
    }

    test::Resource::Counts counts_;
    int begun_ = 0;
    int ended_ = 0;
    int shielded_begun_ = 0;
    int shielded_done_ = 0;
    int winner_ = 0;
    bool left_ = false;
};

}  // namespace

void add_tasks(Scenarios& all) {
    add<Offload>(all, "work on other threads");
    add<Nest>(all, "gather, race, scope, shield and time limits in each other");
}

}  // namespace torc::sweep
