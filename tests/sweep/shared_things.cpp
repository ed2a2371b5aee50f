#include <doctest/doctest.h>

#include <algorithm>

#include <steps.hpp>

#include "scenario.hpp"

// Theory of operation. What tasks share, used by some that may be cancelled and some that may not. The latter wait
// until they got what they came for: a wake-up that was lost with a cancelled one leaves them waiting for ever.

namespace torc::sweep {
namespace {

/// Items through a channel. Each is, at the end, in exactly one place.
class Channel final : public Scenario {
   public:
    explicit Channel(std::size_t capacity) : channel_(capacity) {}
    task<> play(Stage& stage) override {
        co_await with_scope([&](scope& here) { return meet(stage, here); });
    }
    void check(const Ending& ending) override {
        std::vector<int> places = received_;
        places.insert(places.end(), kept_.begin(), kept_.end());
        while (const auto left = channel_.try_receive()) places.push_back(**left);
        std::ranges::sort(places);
        std::ranges::sort(made_);
        CHECK_MESSAGE(places == made_, "every item is in exactly one place");
        if (ending.undisturbed()) CHECK_MESSAGE(received_.size() == 8, "all were received");
        if (ending.completed()) {
            const auto outside = std::ranges::count_if(received_, [](int item) { return item >= 100; });
            const auto kept_outside = std::ranges::count_if(kept_, [](int item) { return item >= 100; });
            CHECK_MESSAGE(outside == 4, "who was not cancelled sent all it had");
            CHECK(kept_outside == 0);
        }
    }

   private:
    using Item = std::unique_ptr<int>;
    /// Knows the item that its sender still has.
    struct Keeper {
        std::vector<int>& kept;
        Item item;
        ~Keeper() {
            if (item) kept.push_back(*item);
        }
    };

    task<> meet(Stage& stage, scope& here) {
        here.spawn(consume(1000));
        here.spawn(produce_outside());
        co_await stage.client(both());
        co_await produced_.wait();
        channel_.close();
    }
    task<> both() {
        task<> sending = produce(0);
        task<> receiving = consume(3);
        co_await gather(std::move(sending), std::move(receiving));
    }
    task<> produce_outside() {
        co_await produce(100);
        produced_.set();
    }
    task<> produce(int first) {
        for (int number = first; number < first + 4; ++number) {
            made_.push_back(number);
            Keeper keeper{kept_, std::make_unique<int>(number)};
            co_await channel_.send(std::move(keeper.item));
            co_await test::driver_turns(number % 2);
        }
    }
    task<> consume(int most) {
        for (; most > 0; --most) {
            const std::optional<Item> item = co_await channel_.receive();
            if (!item) co_return;
            received_.push_back(**item);
            co_await test::turns(most % 2);
        }
    }

    channel<Item> channel_;
    std::vector<int> made_;
    std::vector<int> received_;
    std::vector<int> kept_;
    event produced_;
};

/// A lock that four want, twice each.
class Mutex final : public Scenario {
   public:
    task<> play(Stage& stage) override {
        co_await with_scope([&](scope& here) -> task<> {
            here.spawn(work(false));
            here.spawn(stage.client(two()));
            here.spawn(work(false));
            co_await work(false);
        });
    }
    void check(const Ending& ending) override {
        CHECK_MESSAGE(!mutex_.locked(), "the lock is free");
        if (ending.completed()) CHECK_MESSAGE(outside_ == 6, "who was not cancelled had its turns");
        if (ending.undisturbed()) CHECK(inside_ == 4);
    }

   private:
    task<> two() {
        task<> one = work(true);
        task<> other = work(true);
        co_await gather(std::move(one), std::move(other));
    }
    task<> work(bool client) {
        for (int round = 0; round < 2; ++round) {
            mutex::guard guard = co_await mutex_.lock();
            CHECK_MESSAGE(!busy_, "one at a time");
            struct Busy {
                bool& flag;
                explicit Busy(bool& set) : flag(set) { flag = true; }
                ~Busy() { flag = false; }
            } const until_left{busy_};
            co_await test::driver_turns(1);
            ++(client ? inside_ : outside_);
        }
    }

    mutex mutex_;
    bool busy_ = false;
    int inside_ = 0;
    int outside_ = 0;
};

/// Two permits that five want, some both.
class Semaphore final : public Scenario {
   public:
    task<> play(Stage& stage) override {
        co_await with_scope([&](scope& here) -> task<> {
            here.spawn(work(1, false));
            here.spawn(stage.client(two()));
            here.spawn(work(1, false));
            co_await work(2, false);
        });
    }
    void check(const Ending& ending) override {
        CHECK_MESSAGE(semaphore_.available() == 2, "every permit is back");
        if (ending.completed()) CHECK_MESSAGE(outside_ == 6, "who was not cancelled had its turns");
        if (ending.undisturbed()) CHECK(inside_ == 4);
    }

   private:
    task<> two() {
        task<> greedy = work(2, true);
        task<> modest = work(1, true);
        co_await gather(std::move(greedy), std::move(modest));
    }
    task<> work(std::size_t count, bool client) {
        for (int round = 0; round < 2; ++round) {
            semaphore::permit permit = co_await semaphore_.acquire(count);
            taken_ += count;
            CHECK_MESSAGE(taken_ <= 2, "no more than there are");
            struct Back {
                std::size_t& taken;
                std::size_t count;
                ~Back() { taken -= count; }
            } const until_left{taken_, count};
            co_await test::driver_turns(1);
            ++(client ? inside_ : outside_);
        }
    }

    semaphore semaphore_{2};
    std::size_t taken_ = 0;
    int inside_ = 0;
    int outside_ = 0;
};

/// A task that wants more permits than there are stands before one that wants few; both may be cancelled, and the first
/// gives up after a while. The other has to be served then, for one who has a permit waits for it.
class GivingUp final : public Scenario {
   public:
    task<> play(Stage& stage) override {
        co_await with_scope([&](scope& here) -> task<> {
            here.spawn(hold());
            here.spawn(stage.client(want_all()));
            here.spawn(want_one());
            co_return;
        });
    }
    void check(const Ending& ending) override {
        CHECK_MESSAGE(semaphore_.available() == 2, "every permit is back");
        if (ending.completed()) CHECK(served_.is_set());
    }

   private:
    task<> hold() {
        const semaphore::permit permit = co_await semaphore_.acquire();
        co_await served_.wait();
    }
    task<> want_all() {
        // Twice, so that one is cancelled while the other one's limit has passed.
        for (int round = 0; round < 2; ++round) {
            auto limited = with_timeout(std::chrono::microseconds{100}, semaphore_.acquire(2));
            static_cast<void>(co_await as_result(std::move(limited)));
        }
    }
    task<> want_one() {
        const semaphore::permit permit = co_await semaphore_.acquire();
        co_await test::driver_turns(1);
        served_.set();
    }

    semaphore semaphore_{2};
    event served_;
};

}  // namespace

void add_shared_things(Scenarios& all) {
    add<Channel>(all, "a channel with two places", std::size_t{2});
    add<Channel>(all, "a channel without room, where sender and receiver meet", std::size_t{0});
    add<Mutex>(all, "a mutex");
    add<Semaphore>(all, "a semaphore");
    add<GivingUp>(all, "a semaphore whose first waiter gives up");
}

}  // namespace torc::sweep
