#include <torc/net/tls_selfsigned.hpp>

#include <array>
#include <cstring>
#include <optional>

#include "programs.hpp"

// One side sends a numbered stream, the other compares every byte, and acknowledges how many it has. Both stop at any
// error; what was acknowledged must have been sent, what was read must be what was sent, and an orderly end means all.

namespace torc::test::programs {
namespace {

using namespace std::chrono_literals;

struct Head {
    std::uint64_t id = 0;
    std::uint64_t size = 0;
};

/// What each end of a stream says of itself, for the other end to be measured against.
struct Ledger {
    std::uint64_t handed = 0;    // to a send that may or may not have ended
    bool all_sent = false;       // and the end behind it
    bool all_confirmed = false;  // the last acknowledgement was sent
};

struct Plan {
    net::Address where;
    std::optional<net::TlsContext> server;
    std::optional<net::TlsContext> client;
    std::array<Ledger, 8> ledgers;  // by the stream's number
};

template <class Stream>
task<bool> read_exactly(Stream& stream, std::span<std::byte> into) {
    std::size_t have = 0;
    while (have < into.size()) {
        const std::size_t count = co_await stream.receive(into.subspan(have));
        if (count == 0) {
            require(have == 0 || have < into.size(), "a receive gave more than was asked for");
            co_return false;
        }
        have += count;
    }
    co_return true;
}

/// The limit of one receive, not what the network said.
bool is_impatience(const Error& error) { return error.code() == errc::timed_out; }

template <class Stream>
task<> acknowledge(Stream& stream, std::uint64_t have) {
    const auto count = std::bit_cast<std::array<std::byte, 8>>(have);
    co_await stream.send(count);
}

template <class Stream>
task<> take_stream(sim::World& world, Plan& plan, Stream stream) {
    Head head;
    if (!co_await read_exactly(stream, std::as_writable_bytes(std::span{&head, 1}))) co_return;
    require(head.id < plan.ledgers.size(), "the first bytes of a stream are not those that were sent");
    Ledger& ledger = plan.ledgers[head.id];
    const bool borrows = world.random().chance(0.5);
    const bool impatient = world.random().chance(0.3);
    const std::uint64_t acknowledge_each = 1 + world.random().below(5'000);
    std::uint64_t have = 0;
    std::uint64_t acknowledged = 0;
    std::array<std::byte, 700> memory{};
    for (;;) {
        // A receive that was cut short has taken nothing, so the next one goes on where the last good one ended.
        const Clock::duration patience = impatient ? some(world, 200us) : 1h;
        std::size_t count = 0;
        if (borrows) {
            const auto slice = co_await as_result(with_timeout(patience, stream.receive()));
            if (!slice && is_impatience(slice.error())) continue;
            if (!slice) throw slice.error();
            count = slice->size();
            require(are_bytes_of(head.id, have, slice->bytes()), "a received byte is not the one that was sent");
        } else {
            const auto part = std::span{memory}.first(1 + world.random().below(memory.size()));
            const auto received = co_await as_result(with_timeout(patience, stream.receive(part)));
            if (!received && is_impatience(received.error())) continue;
            if (!received) throw received.error();
            count = *received;
            require(are_bytes_of(head.id, have, part.first(count)), "a received byte is not the one that was sent");
        }
        if (count == 0) break;
        have += count;
        require(have <= ledger.handed, "more was received than was sent");
        if (have - acknowledged >= acknowledge_each) {
            acknowledged = have;
            co_await acknowledge(stream, have);
        }
        if (world.random().chance(0.05)) co_await sleep_for(some(world, 10ms));
    }
    require(have == head.size || !ledger.all_sent, "an orderly end came before the last byte");
    co_await acknowledge(stream, have);
    ledger.all_confirmed = have == head.size;
}

template <class Stream>
task<> send_all(sim::World& world, Stream& stream, Head head, Ledger& ledger) {
    co_await stream.send(std::as_bytes(std::span{&head, 1}));
    while (ledger.handed < head.size) {
        const std::size_t count = std::min<std::uint64_t>(head.size - ledger.handed, 1 + world.random().below(9'000));
        const std::string piece = bytes_of(head.id, ledger.handed, count);
        ledger.handed += count;
        co_await stream.send(piece);
        if (world.random().chance(0.05)) co_await sleep_for(some(world, 10ms));
    }
    ledger.all_sent = true;
    co_await stream.shutdown_write();
}

template <class Stream>
task<> read_confirmations(Stream& stream, Head head, Ledger& ledger) {
    std::uint64_t confirmed = 0;
    std::uint64_t count = 0;
    while (co_await read_exactly(stream, std::as_writable_bytes(std::span{&count, 1}))) {
        require(count >= confirmed, "an acknowledgement took something back");
        require(count <= ledger.handed, "more was acknowledged than was sent");
        confirmed = count;
    }
    require(confirmed == head.size || !ledger.all_confirmed, "an orderly end came without the last acknowledgement");
}

template <class Stream>
task<> give_stream(sim::World& world, Plan& plan, Stream stream, std::uint64_t id) {
    const Head head{id, world.random().below(60'000)};
    Ledger& ledger = plan.ledgers[id];
    task<> sending = send_all(world, stream, head, ledger);
    task<> reading = read_confirmations(stream, head, ledger);
    co_await gather(std::move(sending), std::move(reading));
}

task<> serve_one(sim::World& world, Plan& plan, net::TcpStream stream) {
    if (!plan.server) {
        co_await take_stream(world, plan, std::move(stream));
        co_return;
    }
    net::TlsStream secured = co_await net::TlsStream::accept(std::move(stream), *plan.server);
    co_await take_stream(world, plan, std::move(secured));
}

task<> serve_one_safely(sim::World& world, Plan& plan, net::TcpStream stream) {
    task<> serving = serve_one(world, plan, std::move(stream));
    static_cast<void>(co_await as_result(with_timeout(30s, std::move(serving))));
}

task<> serve(sim::World& world, Plan& plan, event& listening) {
    std::optional<net::TcpListener> listener;
    listener.emplace(net::TcpListener::bind(plan.where));
    listening.set();
    co_await with_scope([&](scope& connections) -> task<> {
        for (;;) {
            auto accepted = co_await as_result(listener->accept());
            if (accepted) {
                connections.spawn(serve_one_safely(world, plan, std::move(*accepted)));
            } else {
                co_await sleep_for(100ms);
            }
        }
    });
}

task<> connect_and_give(sim::World& world, Plan& plan, std::uint64_t id) {
    if (plan.where.is_unix()) {
        net::UnixStream stream = co_await net::UnixStream::connect(plan.where);
        co_await give_stream(world, plan, std::move(stream), id);
        co_return;
    }
    net::TcpStream stream = co_await net::TcpStream::connect("server", plan.where.port());
    if (!plan.client) {
        co_await give_stream(world, plan, std::move(stream), id);
        co_return;
    }
    net::tls::ClientSide side{"server"};
    net::TlsStream secured = co_await net::TlsStream::connect(std::move(stream), *plan.client, std::move(side));
    co_await give_stream(world, plan, std::move(secured), id);
}

task<> client(sim::World& world, Plan& plan, std::uint64_t id) {
    co_await sleep_for(some(world, 50ms));
    const Clock::duration limit = 1ms + some(world, 20s);
    const Clock::time_point began = world.now();
    task<> giving = connect_and_give(world, plan, id);
    static_cast<void>(co_await as_result(with_timeout(limit, std::move(giving))));
    // A close may still say farewell, for as long as its grace.
    require(world.now() - began <= limit + 3s, "a deadline was not kept");
}

task<> clients(sim::World& world, Plan& plan, event& listening) {
    co_await listening.wait();
    std::vector<task<>> all;
    for (std::uint64_t id = 1 + world.random().below(6); id > 0; --id) all.push_back(client(world, plan, id));
    co_await gather(std::move(all));
}

}  // namespace

task<> transfer(sim::World& world) {
    world.add_host("server", {"10.0.0.1", "fd00::1"});
    world.add_host("client", {"10.0.0.2", "fd00::2"});
    Plan plan;
    const auto kind = world.random().below(6);
    plan.where = kind == 0   ? net::Address::unix_socket("/run/transfer")
                 : kind == 1 ? net::Address::any_v6(7000)
                             : net::Address::any(7000);
    if (kind >= 4) {
        const net::ThrowawayAuthority authority;
        net::TlsServerOptions serving;
        serving.identities.push_back(authority.issue({.common_name = "server", .names = {"server"}}));
        plan.server = net::TlsContext::server(serving);
        net::TlsClientOptions asking;
        asking.trust.ca_pem = authority.certificate_pem();
        plan.client = net::TlsContext::client(asking);
    }
    event listening;
    task<> serving = world.on("server", serve(world, plan, listening));
    task<> asking = world.on(kind == 0 ? "server" : "client", clients(world, plan, listening));
    task<> both = [](task<> server_side, task<> client_side) -> task<> {
        co_await race(std::move(server_side), std::move(client_side));
    }(std::move(serving), std::move(asking));
    co_await in_trouble(world, std::move(both));
}

}  // namespace torc::test::programs
