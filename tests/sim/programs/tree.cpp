#include <array>
#include <vector>

#include "programs.hpp"

// A tree of combinators down to sleeps, yields, failures and waits for what never comes, under deadlines of their own.
// Every node counts itself; when a combinator has returned none of its children may live, and none may have taken
// longer than its deadline allows.

namespace torc::test::programs {
namespace {

using namespace std::chrono_literals;

struct Census {
    int alive = 0;
    int made = 0;
};

struct Alive {
    explicit Alive(Census& all) : census(all) {
        ++census.alive;
        ++census.made;
    }
    Alive(const Alive&) = delete;
    Alive& operator=(const Alive&) = delete;
    ~Alive() { --census.alive; }
    Census& census;
};

task<> node(sim::World& world, Census& census, int depth);

std::vector<task<>> nodes(sim::World& world, Census& census, int depth) {
    std::vector<task<>> all;
    for (auto count = 1 + world.random().below(4); count > 0; --count) all.push_back(node(world, census, depth - 1));
    return all;
}

task<> leaf(sim::World& world) {
    switch (world.random().below(10)) {
        case 0:
        case 1:
        case 2: co_await sleep_for(some(world, 5ms)); break;
        case 3: co_await yield(); break;
        case 4: throw Error{errc::not_found, phase::none, "leaf", "made to fail"};
        case 5: {
            event never;
            co_await with_timeout(1s, never.wait());
            break;
        }
        case 6: {
            int sum = 0;
            sum = co_await offload([] { return 42; });
            require(sum == 42, "offloaded work gave something else");
            break;
        }
        case 7: co_await shield(1s, sleep_for(some(world, 2ms))); break;
        default: break;
    }
}

task<> spawn_some(sim::World& world, Census& census, int depth, scope& children) {
    for (auto count = world.random().below(5); count > 0; --count) {
        children.spawn(node(world, census, depth - 1));
        if (world.random().chance(0.3)) co_await yield();
    }
    if (world.random().chance(0.2)) children.cancel();
}

task<> limited(sim::World& world, Census& census, int depth) {
    const Clock::duration limit = some(world, 10ms);
    const Clock::time_point began = world.now();
    task<> inner = node(world, census, depth - 1);
    auto ended = co_await as_result(with_timeout(limit, std::move(inner)));
    // Shielded sleeps of a leaf may go on a little; the driver's lag comes on top.
    require(world.now() - began <= limit + 500ms, "a deadline was not kept");
    if (!ended && ended.error().code() != errc::timed_out) throw ended.error();
}

task<> node(sim::World& world, Census& census, int depth) {
    const Alive alive{census};
    if (depth == 0 || census.made > 200) {
        co_await leaf(world);
        co_return;
    }
    switch (world.random().below(7)) {
        case 0: {
            std::vector<task<>> all = nodes(world, census, depth);
            co_await gather(std::move(all));
            break;
        }
        case 1: {
            std::vector<task<>> all = nodes(world, census, depth);
            static_cast<void>(co_await gather_settled(std::move(all)));
            break;
        }
        case 2: {
            std::vector<task<>> all = nodes(world, census, depth);
            static_cast<void>(co_await race(std::move(all)));
            break;
        }
        case 3: co_await with_scope([&](scope& children) { return spawn_some(world, census, depth, children); }); break;
        case 4: co_await limited(world, census, depth); break;
        case 5: {
            const std::array<int, 5> numbers{1, 2, 3, 4, 5};
            const std::size_t most = 1 + world.random().below(3);
            auto each = [&world, &census, depth](int) { return node(world, census, depth - 2 > 0 ? depth - 2 : 0); };
            co_await gather_limited(most, numbers, each);
            break;
        }
        default: {
            task<> inner = node(world, census, depth - 1);
            auto ended = co_await as_result(std::move(inner));
            if (!ended && world.random().chance(0.5)) throw ended.error();
        }
    }
}

}  // namespace

task<> tree(sim::World& world) {
    Census census;
    task<> whole = node(world, census, static_cast<int>(1 + world.random().below(5)));
    static_cast<void>(co_await as_result(std::move(whole)));
    require(census.alive == 0, "a task outlived the combinator that started it");
}

}  // namespace torc::test::programs
