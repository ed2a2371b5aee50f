#pragma once

#include <cstdint>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>

#include <torc/net.hpp>
#include <torc/runtime.hpp>
#include <torc/runtime/sim.hpp>

/// Whole programs for the simulation. Each draws its shape from `World::random`, lives with every error that the
/// network and the kernel may come up with, ends by itself, and throws `Broken` when something happened that must not.
namespace torc::test::programs {

struct Program {
    std::string_view name;
    task<> (*root)(sim::World& world);
};

/// All of them.
std::span<const Program> all() noexcept;

task<> transfer(sim::World& world);   ///< byte streams over TCP, TLS and unix sockets, acknowledged
task<> web(sim::World& world);        ///< an HTTP server and sessions that fetch, upload, give up and go on
task<> checks(sim::World& world);     ///< the site checker against sites of every kind
task<> queues(sim::World& world);     ///< channels, semaphores, mutexes and streams under cancellation
task<> tree(sim::World& world);       ///< gathers, races, scopes and deadlines, nested at random
task<> datagrams(sim::World& world);  ///< questions and answers over UDP, repeated until one arrives

class Broken : public std::logic_error {
   public:
    using std::logic_error::logic_error;
};

inline void require(bool holds, const char* rule) {
    if (!holds) throw Broken{rule};
}

/// Cuts and mends the network between the hosts "client" and "server" for a while, now and then crashes one; leaves
/// all mended.
task<> trouble(sim::World& world);
/// Runs `work` with trouble beside it, if the seed says so.
task<> in_trouble(sim::World& world, task<> work);

/// Byte number `offset` of the stream `id`: every position of every stream tells itself apart.
constexpr char byte_of(std::uint64_t id, std::uint64_t offset) noexcept {
    const std::uint64_t mixed = (id * 0x9e3779b97f4a7c15U) ^ (offset * 0xc2b2ae3d27d4eb4fU);
    return static_cast<char>(mixed >> 56 ^ mixed >> 32);
}
std::string bytes_of(std::uint64_t id, std::uint64_t offset, std::size_t count);
bool are_bytes_of(std::uint64_t id, std::uint64_t offset, std::span<const std::byte> bytes) noexcept;

/// A duration around `mean`.
inline Clock::duration some(sim::World& world, Clock::duration mean) { return world.random().around(mean); }

}  // namespace torc::test::programs
