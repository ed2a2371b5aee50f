#include <algorithm>
#include <vector>

#include "programs.hpp"

// Producers and consumers over a channel, workers around a semaphore and a mutex, readers of streams; all of them are
// cancelled at any moment. Every item that was accepted is received once or still in the channel, in the order in which
// each producer sent; every permit comes back; nobody waits for ever.

namespace torc::test::programs {
namespace {

using namespace std::chrono_literals;

struct Item {
    int producer = 0;
    int number = 0;
};

struct Books {
    explicit Books(std::size_t capacity, std::size_t all_permits)
        : items(capacity), permits(all_permits), permit_count(all_permits) {}

    channel<Item> items;
    semaphore permits;
    mutex lock;
    std::size_t permit_count;
    std::size_t holders = 0;
    bool locked = false;
    bool steady = false;         // one consumer goes on until the channel is closed
    std::vector<int> accepted;   // by producer: how many of its items
    std::vector<Item> received;  // in the order in which they were
};

task<> produce(sim::World& world, Books& books, int producer) {
    const int count = static_cast<int>(world.random().below(30));
    for (int number = 0; number < count; ++number) {
        if (world.random().chance(0.3)) co_await sleep_for(some(world, 1ms));
        const Item item{producer, books.accepted[static_cast<std::size_t>(producer)]};
        co_await books.items.send(item);
        ++books.accepted[static_cast<std::size_t>(producer)];
    }
}

task<> consume(sim::World& world, Books& books) {
    while (auto item = co_await books.items.receive()) {
        books.received.push_back(*item);
        if (world.random().chance(0.3)) co_await sleep_for(some(world, 1ms));
    }
}

task<> work(sim::World& world, Books& books) {
    for (auto round = world.random().below(10); round > 0; --round) {
        const std::size_t count = 1 + world.random().below(books.permit_count);
        auto permit = co_await books.permits.acquire(count);
        books.holders += count;
        require(books.holders <= books.permit_count, "more permits were given than there are");
        struct Leave {
            Books& books;
            std::size_t count;
            ~Leave() { books.holders -= count; }
        } const leave{books, count};
        if (world.random().chance(0.5)) co_await sleep_for(some(world, 1ms));
        auto guard = co_await books.lock.lock();
        require(!books.locked, "two held one mutex");
        books.locked = true;
        struct Unlock {
            Books& books;
            ~Unlock() { books.locked = false; }
        } const unlock{books};
        if (world.random().chance(0.5)) co_await yield();
    }
}

stream<int> count_to(sim::World& world, int last) {
    for (int number = 1; number <= last; ++number) {
        if (world.random().chance(0.2)) co_await sleep_for(some(world, 500us));
        co_yield number;
    }
}

task<> read_stream(sim::World& world) {
    const int last = static_cast<int>(world.random().below(20));
    stream<int> numbers = count_to(world, last);
    int seen = 0;
    while (auto* const number = co_await numbers.next()) {
        require(*number == ++seen, "a stream skipped or repeated a value");
        if (world.random().chance(0.05)) co_return;
    }
    require(seen == last, "a stream ended early");
}

/// Cuts `inner` short at some moment, or not.
task<> perhaps_cut(sim::World& world, task<> inner) {
    if (world.random().chance(0.5)) {
        static_cast<void>(co_await as_result(with_timeout(some(world, 5ms), std::move(inner))));
    } else {
        co_await std::move(inner);
    }
}

task<> produce_all(sim::World& world, Books& books) {
    std::vector<task<>> all;
    for (std::size_t producer = 0; producer < books.accepted.size(); ++producer) {
        all.push_back(perhaps_cut(world, produce(world, books, static_cast<int>(producer))));
    }
    task<> producing = [](std::vector<task<>> tasks) -> task<> { co_await gather(std::move(tasks)); }(std::move(all));
    // Those whose consumers were all cut would wait for ever.
    const auto produced = co_await as_result(with_timeout(1min, std::move(producing)));
    require(produced || !books.steady, "a producer waited although somebody consumed");
    books.items.close();
}

task<> everything(sim::World& world, Books& books) {
    std::vector<task<>> all;
    books.steady = world.random().chance(0.5);
    all.push_back(produce_all(world, books));
    if (books.steady) all.push_back(consume(world, books));
    for (auto count = world.random().below(4); count > 0; --count) {
        all.push_back(perhaps_cut(world, consume(world, books)));
    }
    for (auto count = world.random().below(6); count > 0; --count)
        all.push_back(perhaps_cut(world, work(world, books)));
    for (auto count = world.random().below(3); count > 0; --count)
        all.push_back(perhaps_cut(world, read_stream(world)));
    co_await gather(std::move(all));
}

}  // namespace

task<> queues(sim::World& world) {
    Books books{static_cast<std::size_t>(world.random().below(4)), 1 + world.random().below(4)};
    books.accepted.resize(world.random().below(5));
    co_await perhaps_cut(world, everything(world, books));
    // What nobody took is still there.
    books.items.close();
    while (auto left = co_await books.items.receive()) books.received.push_back(*left);
    std::vector<int> next(books.accepted.size());
    std::ranges::sort(books.received, {}, [](const Item& item) { return std::pair{item.producer, item.number}; });
    for (const Item& item : books.received) {
        int& expected = next[static_cast<std::size_t>(item.producer)];
        require(item.number >= expected, "an item of a channel was received twice");
        require(item.number == expected, "an item of a channel was lost");
        ++expected;
    }
    require(next == books.accepted, "an item that a channel had accepted was lost");
    require(books.permits.available() == books.permit_count, "a permit was lost or made");
    require(!books.lock.locked(), "a mutex stayed locked");
}

}  // namespace torc::test::programs
