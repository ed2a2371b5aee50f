#include "sim_network.hpp"

#include <poll.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

// Theory of operation. A connection is two pipes. Sending puts segments on the way, each with the time at which it
// arrives, never before the one sent earlier; an event at that time moves it to what the reader may take. While the two
// hosts are cut off from each other segments stay where they are, as TCP would repeat them, and are given new times
// when the cut heals. What arrives for a socket that is closed comes back as a reset. A reset is a segment like others,
// so nothing that was sent before it comes after it.
//
// An end whose connection is over by a reset, a crash or lost patience is forgotten by its host, as a kernel forgets
// it: it repeats nothing, and all that comes for it is answered with a reset. What it had sent and a cut held up is
// lost then, and what was sent behind that may still arrive, but never reaches the reader.
//
// What a call gives for each state of a socket is what Linux gives: bytes that arrived before anything else, then the
// end, then an error, once; after that the end again, and for who sends EPIPE.

namespace torc::sim {
namespace {

constexpr int first_id = 1'000'000;  // far from the process's descriptors: a call that strays there fails
constexpr std::size_t segment_bytes = 1448;

}  // namespace

Network::Network(const Options& options, Agenda& agenda, std::function<void(int)> changed)
    : options_(options), agenda_(agenda), changed_(std::move(changed)), next_id_(first_id) {
    add_host("local", {"10.255.0.1", "fdff::1"});
}

std::optional<int> Network::receive(int id, std::size_t most_bytes, bool peek, std::string& bytes) {
    Socket* const reader = socket(id);
    if (reader == nullptr) return -EBADF;
    if (reader->crashed) return -ENETDOWN;
    if (!reader->connection) return reader->error != 0 ? -std::exchange(reader->error, 0) : -ENOTCONN;
    const std::shared_ptr<Connection> connection = reader->connection;
    Pipe& pipe = connection->to[reader->side];
    const std::size_t there = std::min(pipe.unread_bytes(), most_bytes);
    if (there == 0) {
        if (pipe.end_arrived) return 0;
        if (reader->error != 0) return -std::exchange(reader->error, 0);
        if (reader->broken || reader->reads_shut || most_bytes == 0) return 0;
        return std::nullopt;
    }
    Random& random = agenda_.random;
    const std::size_t count = random.chance(options_.short_read) ? random.between(1, there) : there;
    bytes.assign(pipe.arrived, pipe.taken_bytes, count);
    if (peek) return static_cast<int>(count);
    pipe.taken_bytes += count;
    if (pipe.taken_bytes == pipe.arrived.size()) {
        pipe.arrived.clear();
        pipe.taken_bytes = 0;
    }
    // The sender hears of the room a way later.
    const std::size_t side = 1 - reader->side;
    agenda_.after(travel(*connection->hosts[1 - side], *connection->hosts[side]),
                  [this, connection, side] { changed_(connection->ends[side]); });
    return static_cast<int>(count);
}

std::optional<int> Network::send(int id, std::span<const char> bytes) {
    Socket* const sender = socket(id);
    if (sender == nullptr) return -EBADF;
    if (sender->crashed) return -ENETDOWN;
    const Connection* const there = sender->connection.get();
    if (sender->family == AF_UNIX && there != nullptr && there->ends[1 - sender->side] < 0) return -EPIPE;
    if (sender->error != 0) return -std::exchange(sender->error, 0);
    if (sender->broken) return -EPIPE;
    if (!sender->connection) return -ENOTCONN;
    const std::shared_ptr<Connection> connection = sender->connection;
    const std::size_t reader = 1 - sender->side;
    Pipe& pipe = connection->to[reader];
    if (pipe.ended) return -EPIPE;
    const std::size_t used = pipe.on_the_way_bytes + pipe.unread_bytes();
    if (bytes.empty()) return 0;
    if (used >= options_.window_bytes) return std::nullopt;
    Random& random = agenda_.random;
    std::size_t count = std::min(bytes.size(), options_.window_bytes - used);
    if (random.chance(options_.short_write)) count = random.between(1, count);
    for (std::size_t at = 0; at < count;) {
        const std::size_t size = std::min(
            count - at, options_.short_read > 0 ? random.between(1, segment_bytes) : std::size_t{16} * segment_bytes);
        put(connection, reader, std::string{bytes.data() + at, size}, segment::bytes);
        at += size;
    }
    return static_cast<int>(count);
}

void Network::put(const std::shared_ptr<Connection>& connection, std::size_t reader, std::string bytes, segment what) {
    Pipe& pipe = connection->to[reader];
    pipe.on_the_way_bytes += bytes.size();
    pipe.ended = pipe.ended || what == segment::end;
    if (connection->immediate) {
        pipe.on_the_way.push_back({agenda_.now(), std::move(bytes), what});
        return arrive(connection, reader);
    }
    const auto needed_ns =
        bytes.size() * 1'000'000'000 / std::max<std::uint64_t>(options_.bandwidth_bytes_per_second, 1);
    pipe.link_free = std::max(agenda_.now(), pipe.link_free) + std::chrono::nanoseconds{needed_ns};
    const Clock::duration way = travel(*connection->hosts[1 - reader], *connection->hosts[reader]);
    pipe.last_arrival = std::max(pipe.last_arrival, pipe.link_free + way);
    pipe.on_the_way.push_back({pipe.last_arrival, std::move(bytes), what});
    agenda_.at(pipe.last_arrival, [this, connection, reader] { arrive(connection, reader); });
}

void Network::arrive(const std::shared_ptr<Connection>& connection, std::size_t reader) {
    Pipe& pipe = connection->to[reader];
    const std::size_t sender = 1 - reader;
    bool arrived = false;
    while (!pipe.on_the_way.empty() && pipe.on_the_way.front().arrival <= agenda_.now()) {
        if (cut(*connection)) {
            hold(connection, reader);
            break;
        }
        const Pipe::Segment came = std::move(pipe.on_the_way.front());
        pipe.on_the_way.pop_front();
        pipe.on_the_way_bytes -= came.bytes.size();
        if (came.what == segment::reset || came.what == segment::refusal) {
            break_end(*connection, reader, ECONNRESET);
            continue;
        }
        if (pipe.torn) {
            // It says to the reader's host that something is missing, which asks for that, and is told by the sender's
            // that there is no such connection.
            put(connection, reader, {}, segment::refusal);
            continue;
        }
        connection->passed_bytes += came.bytes.size();
        if (connection->ends[reader] < 0 || connection->forgotten[reader]) {
            // The end of the other side is the only thing that a closed socket still waits for.
            if (came.what == segment::end && !connection->forgotten[reader]) continue;
            connection->forgotten[reader] = true;
            put(connection, sender, {}, segment::refusal);
            continue;
        }
        if (connection->passed_bytes >= connection->reset_at_bytes) {
            agenda_.note("reset", connection->ends[0], connection->ends[1]);
            connection->reset_at_bytes = UINT64_MAX;
            break_end(*connection, 0, ECONNRESET);
            break_end(*connection, 1, ECONNRESET);
            return;
        }
        pipe.arrived += came.bytes;
        pipe.end_arrived = came.what == segment::end;
        arrived = true;
    }
    if (arrived) changed_(connection->ends[reader]);
}

/// What can not pass a cut waits to be repeated when it heals, or until the sender's patience is over.
void Network::hold(const std::shared_ptr<Connection>& connection, std::size_t reader) {
    Pipe& pipe = connection->to[reader];
    const std::size_t sender = 1 - reader;
    std::erase_if(pipe.on_the_way, [&](const Pipe::Segment& each) {
        if (each.arrival > agenda_.now() || each.what == segment::refusal) return false;
        if (each.what != segment::reset && !connection->forgotten[sender]) return false;
        pipe.lose(each);
        return true;
    });
    if (pipe.on_the_way.empty() || pipe.patience_ends != Clock::time_point{}) return;
    pipe.patience_ends = agenda_.now() + options_.send_patience;
    agenda_.at(pipe.patience_ends, [this, connection, reader, when = pipe.patience_ends] {
        if (connection->to[reader].patience_ends == when) break_end(*connection, 1 - reader, ETIMEDOUT);
    });
}

void Network::resume_traffic() {
    for (const auto& each : connections_) {
        const std::shared_ptr<Connection> connection = each.lock();
        if (!connection || cut(*connection)) continue;
        for (const std::size_t reader : {0U, 1U}) {
            Pipe& pipe = connection->to[reader];
            pipe.patience_ends = {};
            for (Pipe::Segment& waiting : pipe.on_the_way) {
                if (waiting.arrival > agenda_.now()) continue;
                pipe.last_arrival =
                    std::max(pipe.last_arrival, agenda_.now() + travel(*connection->hosts[0], *connection->hosts[1]));
                waiting.arrival = pipe.last_arrival;
                agenda_.at(waiting.arrival, [this, connection, reader] { arrive(connection, reader); });
            }
        }
    }
}

/// The host of this end drops the connection and says so once.
void Network::forget(const std::shared_ptr<Connection>& connection, std::size_t side) {
    connection->ends[side] = -1;
    connection->forgotten[side] = true;
    put(connection, 1 - side, {}, segment::reset);
}

void Network::break_end(Connection& connection, std::size_t side, int error) {
    connection.forgotten[side] = true;
    // What waits for the end of a cut is repeated by nobody now.
    Pipe& sent = connection.to[1 - side];
    std::erase_if(sent.on_the_way, [&](const Pipe::Segment& each) {
        if (each.arrival > agenda_.now() || each.what == segment::refusal) return false;
        sent.lose(each);
        return true;
    });
    Socket* const end = socket(connection.ends[side]);
    if (end == nullptr || end->broken) return;
    if (error == ECONNRESET && connection.to[side].end_arrived) error = EPIPE;
    agenda_.note("broken", end->id, error);
    end->broken = true;
    end->error = error;
    changed_(end->id);
}

int Network::shutdown(int id, int how) {
    Socket* const end = socket(id);
    if (end == nullptr) return -EBADF;
    if (end->crashed) return -ENETDOWN;
    if (!end->connection || end->broken) return -ENOTCONN;
    const std::shared_ptr<Connection> connection = end->connection;
    if (how != SHUT_RD && !connection->to[1 - end->side].ended) put(connection, 1 - end->side, {}, segment::end);
    if (how != SHUT_WR) {
        end->reads_shut = true;
        changed_(id);
    }
    return 0;
}

int Network::close(int id) {
    Socket* const end = socket(id);
    if (end == nullptr) return -EBADF;
    for (const int waiting : end->accepted) {
        if (!end->crashed) forget(socket(waiting)->connection, 1);
        sockets_.erase(waiting);
    }
    if (end->connection && !end->crashed) {
        const std::shared_ptr<Connection> connection = end->connection;
        const std::size_t side = end->side;
        connection->ends[side] = -1;
        if (end->broken) {
            // Nothing more passes.
        } else if (connection->to[side].unread_bytes() > 0 || end->abortive) {
            forget(connection, side);
        } else if (!connection->to[1 - side].ended) {
            put(connection, 1 - side, {}, segment::end);
        }
    }
    sockets_.erase(id);
    return 0;
}

int Network::set_option(int id, int level, int name, std::span<const std::byte> value) noexcept {
    Socket* const set = socket(id);
    if (set == nullptr) return -EBADF;
    if (level == SOL_SOCKET && name == SO_LINGER && value.size() >= sizeof(linger)) {
        linger wanted{};
        std::memcpy(&wanted, value.data(), sizeof wanted);
        set->abortive = wanted.l_onoff != 0 && wanted.l_linger == 0 && set->family != AF_UNIX;
    }
    return 0;  // the others change nothing that is simulated
}

int Network::poll(int id, int events) {
    const Socket* const asked = find(id);
    if (asked == nullptr) return POLLNVAL;
    if (asked->crashed) return POLLERR | POLLHUP | events;
    int ready = asked->broken || asked->error != 0 ? POLLERR : 0;
    bool readable = !asked->accepted.empty() || !asked->datagrams.empty();
    bool writable = asked->type == SOCK_DGRAM;
    if (asked->connection) {
        const Pipe& in = asked->connection->to[asked->side];
        const Pipe& out = asked->connection->to[1 - asked->side];
        readable = readable || in.unread_bytes() > 0 || in.end_arrived;
        writable = writable || out.on_the_way_bytes + out.unread_bytes() < options_.window_bytes;
    }
    if (readable) ready |= events & POLLIN;
    if (writable) ready |= events & POLLOUT;
    return ready;
}

}  // namespace torc::sim
