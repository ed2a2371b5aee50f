#include <algorithm>

#include "programs.hpp"

namespace torc::test::programs {

using namespace std::chrono_literals;

std::span<const Program> all() noexcept {
    static constexpr Program list[] = {
        {"transfer", transfer}, {"web", web},   {"checks", checks},
        {"queues", queues},     {"tree", tree}, {"datagrams", datagrams},
    };
    return list;
}

task<> trouble(sim::World& world) {
    const auto acts = world.random().below(8);
    for (std::uint64_t act = 0; act < acts; ++act) {
        co_await sleep_for(some(world, 500ms));
        const auto what = world.random().below(10);
        const char* const host = world.random().chance(0.5) ? "client" : "server";
        if (what < 4) {
            world.partition("client", "server");
            co_await shield(1h, sleep_for(some(world, 2s)));
            world.heal("client", "server");
        } else if (what < 8) {
            world.isolate(host);
            co_await shield(1h, sleep_for(some(world, 2s)));
            world.rejoin(host);
        } else {
            world.crash(host);
        }
    }
}

task<> in_trouble(sim::World& world, task<> work) {
    if (world.random().chance(0.5)) {
        co_await std::move(work);
        co_return;
    }
    task<> troubled = trouble(world);
    co_await gather(std::move(work), std::move(troubled));
}

std::string bytes_of(std::uint64_t id, std::uint64_t offset, std::size_t count) {
    std::string bytes(count, '\0');
    for (std::size_t index = 0; index < count; ++index) bytes[index] = byte_of(id, offset + index);
    return bytes;
}

bool are_bytes_of(std::uint64_t id, std::uint64_t offset, std::span<const std::byte> bytes) noexcept {
    return std::ranges::all_of(bytes, [&](std::byte byte) { return static_cast<char>(byte) == byte_of(id, offset++); });
}

}  // namespace torc::test::programs
