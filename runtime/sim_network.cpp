#include "sim_network.hpp"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/un.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>

// Theory of operation. A connection is two pipes. Sending puts segments on the way, each with the time at which it
// arrives, never before the one sent earlier; an event at that time moves it to what the reader may take. While the two
// hosts are cut off from each other segments stay where they are, as TCP would repeat them, and are given new times
// when the cut heals. What arrives for a socket that is closed comes back as a reset.
//
// Connecting knocks at the other host: the knock takes a way there, and its answer a way back. A knock that is lost (a
// cut, a full backlog) is repeated after one second, two, four, as Linux does.

namespace torc::sim {
namespace {

constexpr int first_id = 1'000'000;  // far from the process's descriptors: a call that strays there fails
constexpr std::size_t most_datagrams = 64;
constexpr std::size_t segment_bytes = 1448;

std::unexpected<Error> no_address(const std::string& text) {
    return std::unexpected{Error{errc::invalid_argument, phase::none, "simulate", "\"" + text + "\" is no IP address"}};
}

}  // namespace

Endpoint Endpoint::from(const sockaddr* address, std::size_t address_bytes) {
    Endpoint made;
    if (address == nullptr || address_bytes < sizeof(sa_family_t)) return made;
    made.family = address->sa_family;
    if (made.family == AF_INET && address_bytes >= sizeof(sockaddr_in)) {
        sockaddr_in v4{};
        std::memcpy(&v4, address, sizeof v4);
        std::memcpy(made.ip.data(), &v4.sin_addr, 4);
        made.port = ntohs(v4.sin_port);
    } else if (made.family == AF_INET6 && address_bytes >= sizeof(sockaddr_in6)) {
        sockaddr_in6 v6{};
        std::memcpy(&v6, address, sizeof v6);
        std::memcpy(made.ip.data(), &v6.sin6_addr, 16);
        made.port = ntohs(v6.sin6_port);
    } else if (made.family == AF_UNIX) {
        const auto* const path = reinterpret_cast<const char*>(address) + offsetof(sockaddr_un, sun_path);
        made.path.assign(path, address_bytes - std::min(address_bytes, offsetof(sockaddr_un, sun_path)));
        if (!made.path.empty() && made.path.front() != '\0') made.path = made.path.c_str();
    }
    return made;
}

std::optional<Endpoint> Endpoint::parse(const std::string& text) {
    Endpoint made;
    if (::inet_pton(AF_INET, text.c_str(), made.ip.data()) == 1) {
        made.family = AF_INET;
    } else if (::inet_pton(AF_INET6, text.c_str(), made.ip.data()) == 1) {
        made.family = AF_INET6;
    } else {
        return std::nullopt;
    }
    return made;
}

void Endpoint::write(sockaddr* address, std::uint32_t* address_bytes) const noexcept {
    sockaddr_storage full{};
    std::uint32_t size = sizeof(sa_family_t);
    full.ss_family = static_cast<sa_family_t>(family);
    if (family == AF_INET) {
        auto& v4 = reinterpret_cast<sockaddr_in&>(full);
        std::memcpy(&v4.sin_addr, ip.data(), 4);
        v4.sin_port = htons(port);
        size = sizeof v4;
    } else if (family == AF_INET6) {
        auto& v6 = reinterpret_cast<sockaddr_in6&>(full);
        std::memcpy(&v6.sin6_addr, ip.data(), 16);
        v6.sin6_port = htons(port);
        size = sizeof v6;
    } else if (family == AF_UNIX && !path.empty()) {
        auto& local = reinterpret_cast<sockaddr_un&>(full);
        const std::size_t count = std::min(path.size(), sizeof local.sun_path - 1);
        std::memcpy(local.sun_path, path.data(), count);
        size = static_cast<std::uint32_t>(offsetof(sockaddr_un, sun_path) + count + (path.front() != '\0' ? 1 : 0));
    }
    std::memcpy(address, &full, std::min(*address_bytes, size));
    *address_bytes = size;
}

bool Endpoint::is_loopback() const noexcept {
    if (family == AF_INET) return ip[0] == 127;
    std::array<std::uint8_t, 16> one{};
    one.back() = 1;
    return family == AF_INET6 && ip == one;
}

Network::Network(const Options& options, Agenda& agenda, std::function<void(int)> changed)
    : options_(options), agenda_(agenda), changed_(std::move(changed)), next_id_(first_id) {
    add_host("local", {"10.255.0.1", "fdff::1"});
}

// ---- hosts and names ------------------------------------------------------------------------------------------------

Host& Network::add_host(std::string name, const std::vector<std::string>& addresses) {
    auto added = std::make_unique<Host>();
    added->name = name;
    for (const std::string& text : addresses) {
        const auto address = Endpoint::parse(text);
        if (!address) throw no_address(text).error();
        for (const auto& other : hosts_) {
            if (std::ranges::find(other->addresses, *address) == other->addresses.end()) continue;
            throw Error{errc::invalid_argument, phase::none, "simulate", text + " belongs to host " + other->name};
        }
        added->addresses.push_back(*address);
    }
    names_.insert_or_assign(std::move(name), Name{addresses, {}});
    return *hosts_.emplace_back(std::move(added));
}

Host& Network::host(std::string_view name) {
    for (const auto& each : hosts_) {
        if (each->name == name) return *each;
    }
    throw Error{errc::not_found, phase::none, "simulate", "there is no simulated host " + std::string{name}};
}

void Network::add_name(std::string name, std::vector<std::string> addresses) {
    for (const std::string& text : addresses) {
        if (!Endpoint::parse(text)) throw no_address(text).error();
    }
    names_.insert_or_assign(std::move(name), Name{std::move(addresses), {}});
}

void Network::fail_name(std::string name, std::error_code failure) {
    names_.insert_or_assign(std::move(name), Name{{}, failure});
}

name_answer Network::look_up(std::string_view name) {
    name_answer answer;
    Random& random = agenda_.random;
    answer.after = random.around(options_.latency);
    if (random.chance(options_.name_delay)) answer.after += random.around(std::chrono::seconds{3});
    const auto found = names_.find(name);
    if (random.chance(options_.name_failure)) {
        answer.failure = make_error_code(random.chance(0.5) ? errc::resolver_failed : errc::not_found);
    } else if (found == names_.end()) {
        answer.failure = make_error_code(errc::not_found);
    } else {
        answer.failure = found->second.failure;
        answer.addresses = found->second.addresses;
    }
    agenda_.note("look up", 0, answer.failure.value());
    return answer;
}

Host* Network::owner_of(const Host& asking, const Endpoint& address) noexcept {
    for (const auto& each : hosts_) {
        if (address.is_loopback() || address.is_any() || address.family == AF_UNIX) {
            if (each.get() == &asking) return each.get();
        } else if (std::ranges::any_of(each->addresses, [&](const Endpoint& own) { return own.same_host(address); })) {
            return each.get();
        }
    }
    return nullptr;
}

bool Network::cut(const Host& one, const Host& other) const {
    if (&one == &other) return false;
    return one.isolated || other.isolated || partitions_.contains(std::minmax(&one, &other));
}

void Network::partition(Host& one, Host& other) {
    partitions_.insert(std::minmax<const Host*>(&one, &other));
    agenda_.note("partition");
}

void Network::heal(Host& one, Host& other) {
    partitions_.erase(std::minmax<const Host*>(&one, &other));
    agenda_.note("heal");
    resume_traffic();
}

void Network::rejoin(Host& host) {
    host.isolated = false;
    agenda_.note("rejoin");
    resume_traffic();
}

void Network::crash(Host& host) {
    agenda_.note("crash");
    std::vector<int> concerned;
    for (auto& [id, socket] : sockets_) {
        if (socket.host != &host) continue;
        concerned.push_back(id);
        if (socket.connection) {
            socket.connection->ends[socket.side] = -1;
            Pipe& pipe = socket.connection->to[socket.side];
            pipe.on_the_way.clear();
            pipe.on_the_way_bytes = 0;
        }
        socket.connecting = socket.listening = false;
        socket.broken = true;
        socket.error = ENETDOWN;
    }
    for (const int id : concerned) changed_(id);
}

Clock::duration Network::travel(const Host& from, const Host& to) {
    Random& random = agenda_.random;
    if (&from == &to) return random.around(std::chrono::microseconds{5});
    Clock::duration way = options_.latency + random.around(options_.jitter);
    if (random.chance(options_.spike)) way += 100 * (options_.latency + random.around(options_.jitter));
    return way;
}

// ---- sockets --------------------------------------------------------------------------------------------------------

Socket* Network::socket(int id) noexcept {
    const auto found = sockets_.find(id);
    return found == sockets_.end() ? nullptr : &found->second;
}

const Socket* Network::find(int id) const noexcept {
    const auto found = sockets_.find(id);
    return found == sockets_.end() ? nullptr : &found->second;
}

int Network::open(Host& host, int family, int type) {
    const int id = next_id_++;
    Socket& made = sockets_[id];
    made.id = id;
    made.host = &host;
    made.family = family;
    made.type = type & 0xf;
    made.local.family = family;
    return id;
}

bool Network::taken(const Host& host, const Endpoint& local, int type, bool reuse_port) const {
    for (const auto& [id, socket] : sockets_) {
        if (socket.host != &host || socket.type != type || !socket.bound || socket.local.port != local.port) continue;
        if (socket.connection || (reuse_port && socket.reuse_port)) continue;
        if (local.family == AF_UNIX && socket.local.path == local.path) return true;
        if (local.family == AF_UNIX || socket.family != local.family) continue;
        if (socket.local.is_any() || local.is_any() || socket.local.ip == local.ip) return true;
    }
    return false;
}

std::uint16_t Network::free_port(Host& host, int family, int type) {
    Endpoint tried;
    tried.family = family;
    for (int left = 28'000; left > 0; --left) {
        tried.port = host.next_port;
        host.next_port = host.next_port == 60'999 ? 32'768 : static_cast<std::uint16_t>(host.next_port + 1);
        if (!taken(host, tried, type, false)) return tried.port;
    }
    return 0;
}

int Network::bind(Host& host, const binding& what, int& id) {
    Endpoint local = Endpoint::from(what.address, what.address_bytes);
    if (local.family != AF_UNIX && owner_of(host, local) != &host) return -EADDRNOTAVAIL;
    if (local.family != AF_UNIX && local.port == 0) {
        local.port = free_port(host, local.family, what.type);
        if (local.port == 0) return -EADDRINUSE;
    }
    if (taken(host, local, what.type, what.reuse_port)) return -EADDRINUSE;
    id = open(host, local.family, what.type);
    Socket& made = *socket(id);
    made.local = std::move(local);
    made.bound = true;
    made.reuse_port = what.reuse_port;
    made.v6_only = what.v6_only;
    made.listening = what.backlog > 0;
    made.backlog = static_cast<std::size_t>(std::max(what.backlog, 0));
    return 0;
}

Socket* Network::listener_at(const Host& host, const Endpoint& to) {
    std::vector<Socket*> found;
    for (auto& [id, socket] : sockets_) {
        if (socket.host != &host || !socket.listening) continue;
        if (to.family == AF_UNIX) {
            if (socket.family == AF_UNIX && socket.local.path == to.path) found.push_back(&socket);
            continue;
        }
        if (socket.family == AF_UNIX || socket.local.port != to.port) continue;
        const bool both = socket.family == AF_INET6 && !socket.v6_only && socket.local.is_any();
        const bool fits = socket.family == to.family && (socket.local.is_any() || socket.local.ip == to.ip);
        if (fits || both) found.push_back(&socket);
    }
    return found.empty() ? nullptr : found[agenda_.random.below(found.size())];
}

// ---- connecting -----------------------------------------------------------------------------------------------------

std::optional<int> Network::connect(int id, const Endpoint& to) {
    Socket* const from = socket(id);
    if (from == nullptr) return -EBADF;
    if (from->error != 0) return -std::exchange(from->error, 0);
    if (from->connection) return 0;
    if (from->connecting) return std::nullopt;
    if (from->family != to.family) return -EAFNOSUPPORT;
    from->peer = to;
    if (from->type == SOCK_DGRAM) return 0;
    if (to.family == AF_UNIX) {
        const Socket* const listener = listener_at(*from->host, to);
        if (listener == nullptr) return -ECONNREFUSED;
    } else {
        for (const Endpoint& own : from->host->addresses) {
            if (own.family == to.family && from->local.ip == std::array<std::uint8_t, 16>{}) from->local.ip = own.ip;
        }
        if (to.is_loopback()) from->local.ip = to.ip;
        from->local.port = free_port(*from->host, to.family, SOCK_STREAM);
        if (from->local.port == 0) return -EADDRNOTAVAIL;
        from->bound = true;
    }
    from->connecting = true;
    Random& random = agenda_.random;
    Host* const there = owner_of(*from->host, to);
    const Clock::duration way = travel(*from->host, there != nullptr ? *there : local());
    if (there == nullptr) {
        agenda_.after(way, [this, id] { end_connect(id, EHOSTUNREACH); });
    } else if (random.chance(options_.refuse)) {
        agenda_.after(2 * way, [this, id] { end_connect(id, ECONNREFUSED); });
    } else if (random.chance(options_.black_hole)) {
        agenda_.after(options_.connect_patience, [this, id] { end_connect(id, ETIMEDOUT); });
    } else {
        const Clock::time_point give_up = agenda_.now() + options_.connect_patience;
        agenda_.after(way, [this, id, to, give_up] { knock(id, to, std::chrono::seconds{1}, give_up); });
    }
    return std::nullopt;
}

void Network::knock(int id, const Endpoint& to, Clock::duration next_try, Clock::time_point give_up) {
    const Socket* const from = socket(id);
    if (from == nullptr || !from->connecting) return;
    Host& there = *owner_of(*from->host, to);
    const Socket* const listener = listener_at(there, to);
    if (!cut(*from->host, there) && (listener == nullptr || listener->accepted.size() < listener->backlog)) {
        return answer_knock(id, there, to);
    }
    agenda_.note("knock lost", id);
    if (agenda_.now() + next_try >= give_up) {
        agenda_.at(give_up, [this, id] { end_connect(id, ETIMEDOUT); });
    } else {
        agenda_.after(next_try, [this, id, to, next_try, give_up] { knock(id, to, 2 * next_try, give_up); });
    }
}

void Network::answer_knock(int id, Host& there, const Endpoint& to) {
    Random& random = agenda_.random;
    Host& here = *socket(id)->host;
    const Clock::duration way = travel(there, here);
    Socket* const listener = listener_at(there, to);
    if (listener == nullptr) {
        agenda_.after(way, [this, id] { end_connect(id, ECONNREFUSED); });
        return;
    }
    auto connection = std::make_shared<Connection>();
    connections_.push_back(connection);
    if (random.chance(options_.reset)) connection->reset_at_bytes = 1 + random.below(20'000);
    if (random.chance(options_.stall)) connection->stall_at_bytes = random.below(20'000);
    const int listening = listener->id;
    const int other = open(there, to.family, SOCK_STREAM);
    connection->ends = {id, other};
    connection->hosts = {&here, &there};
    Socket& accepted = *socket(other);
    accepted.connection = connection;
    accepted.side = 1;
    accepted.local = to;
    accepted.peer = socket(id)->local;
    socket(listening)->accepted.push_back(other);
    agenda_.note("connection", id, other);
    agenda_.after(way, [this, id, connection] {
        Socket* const from = socket(id);
        if (from == nullptr || !from->connecting) {
            connection->ends[0] = -1;
            break_end(*connection, 1, ECONNRESET);
            return;
        }
        from->connection = connection;
        from->side = 0;
        end_connect(id, 0);
    });
    changed_(listening);
}

void Network::end_connect(int id, int error) {
    Socket* const from = socket(id);
    if (from == nullptr || !from->connecting) return;
    from->connecting = false;
    from->error = error;
    changed_(id);
}

void Network::stop_connecting(int id) noexcept {
    if (Socket* const from = socket(id)) from->connecting = false;
}

std::optional<int> Network::accept(int id) {
    Socket* const listener = socket(id);
    if (listener == nullptr) return -EBADF;
    if (listener->error != 0) return -std::exchange(listener->error, 0);
    if (!listener->listening) return -EINVAL;
    if (listener->accepted.empty()) return std::nullopt;
    const int accepted = listener->accepted.front();
    listener->accepted.pop_front();
    return accepted;
}

// ---- streams --------------------------------------------------------------------------------------------------------

std::optional<int> Network::receive(int id, std::size_t most_bytes, bool peek, std::string& bytes) {
    Socket* const reader = socket(id);
    if (reader == nullptr) return -EBADF;
    if (!reader->connection) return reader->error != 0 ? -std::exchange(reader->error, 0) : -ENOTCONN;
    const std::shared_ptr<Connection> connection = reader->connection;
    Pipe& pipe = connection->to[reader->side];
    const std::size_t there = std::min(pipe.unread_bytes(), most_bytes);
    if (there == 0) {
        if (reader->error != 0) return -std::exchange(reader->error, 0);
        if (pipe.end_arrived || reader->broken || reader->reads_shut || most_bytes == 0) return 0;
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
        put(connection, reader, std::string{bytes.data() + at, size}, false);
        at += size;
    }
    return static_cast<int>(count);
}

void Network::put(const std::shared_ptr<Connection>& connection, std::size_t reader, std::string bytes, bool last) {
    Pipe& pipe = connection->to[reader];
    const auto needed_ns =
        bytes.size() * 1'000'000'000 / std::max<std::uint64_t>(options_.bandwidth_bytes_per_second, 1);
    pipe.link_free = std::max(agenda_.now(), pipe.link_free) + std::chrono::nanoseconds{needed_ns};
    const Clock::duration way = travel(*connection->hosts[1 - reader], *connection->hosts[reader]);
    pipe.last_arrival = std::max(pipe.last_arrival, pipe.link_free + way);
    pipe.on_the_way_bytes += bytes.size();
    pipe.ended = pipe.ended || last;
    pipe.on_the_way.push_back({pipe.last_arrival, std::move(bytes), last});
    agenda_.at(pipe.last_arrival, [this, connection, reader] { arrive(connection, reader); });
}

void Network::arrive(const std::shared_ptr<Connection>& connection, std::size_t reader) {
    Pipe& pipe = connection->to[reader];
    if (const Socket* const end = socket(connection->ends[reader]); end != nullptr && end->broken) {
        pipe.on_the_way.clear();  // a reset came first
        pipe.on_the_way_bytes = 0;
    }
    bool arrived = false;
    while (!pipe.on_the_way.empty() && pipe.on_the_way.front().arrival <= agenda_.now()) {
        if (cut(*connection)) {
            if (std::exchange(pipe.given_up, true)) break;
            agenda_.after(options_.send_patience, [this, connection, reader] {
                Pipe& waiting = connection->to[reader];
                if (std::exchange(waiting.given_up, false) && cut(*connection) && !waiting.on_the_way.empty()) {
                    break_end(*connection, 1 - reader, ETIMEDOUT);
                }
            });
            break;
        }
        pipe.given_up = false;
        Pipe::Segment segment = std::move(pipe.on_the_way.front());
        pipe.on_the_way.pop_front();
        pipe.on_the_way_bytes -= segment.bytes.size();
        connection->passed_bytes += segment.bytes.size();
        if (connection->ends[reader] < 0) {
            if (!segment.bytes.empty()) refuse_bytes(connection, 1 - reader);
            continue;
        }
        if (connection->passed_bytes >= connection->reset_at_bytes) {
            agenda_.note("reset", connection->ends[0], connection->ends[1]);
            connection->reset_at_bytes = UINT64_MAX;
            break_end(*connection, 0, ECONNRESET);
            break_end(*connection, 1, ECONNRESET);
            return;
        }
        pipe.arrived += segment.bytes;
        pipe.end_arrived = segment.last;
        arrived = true;
    }
    if (arrived) changed_(connection->ends[reader]);
}

void Network::resume_traffic() {
    std::erase_if(connections_, [](const auto& each) { return each.expired(); });
    for (const auto& each : connections_) {
        const std::shared_ptr<Connection> connection = each.lock();
        for (const std::size_t reader : {0U, 1U}) {
            Pipe& pipe = connection->to[reader];
            pipe.given_up = false;
            for (Pipe::Segment& segment : pipe.on_the_way) {
                if (segment.arrival > agenda_.now()) continue;
                pipe.last_arrival =
                    std::max(pipe.last_arrival, agenda_.now() + travel(*connection->hosts[0], *connection->hosts[1]));
                segment.arrival = pipe.last_arrival;
                agenda_.at(segment.arrival, [this, connection, reader] { arrive(connection, reader); });
            }
        }
    }
}

/// Bytes came for a socket that is closed.
void Network::refuse_bytes(const std::shared_ptr<Connection>& connection, std::size_t sender) {
    agenda_.after(travel(*connection->hosts[0], *connection->hosts[1]),
                  [this, connection, sender] { break_end(*connection, sender, ECONNRESET); });
}

void Network::break_end(Connection& connection, std::size_t side, int error) {
    Socket* const end = socket(connection.ends[side]);
    if (end == nullptr || end->broken || cut(*connection.hosts[0], *connection.hosts[1])) {
        if (end == nullptr || end->broken || error != ETIMEDOUT) return;  // a reset does not get through either
    }
    agenda_.note("broken", end->id, error);
    end->broken = true;
    end->error = error;
    changed_(end->id);
}

int Network::shutdown(int id, int how) {
    Socket* const end = socket(id);
    if (end == nullptr) return -EBADF;
    if (!end->connection || end->broken) return -ENOTCONN;
    const std::shared_ptr<Connection> connection = end->connection;
    if (how != SHUT_RD && !connection->to[1 - end->side].ended) put(connection, 1 - end->side, {}, true);
    if (how != SHUT_WR) {
        end->reads_shut = true;
        changed_(id);
    }
    return 0;
}

int Network::close(int id) {
    Socket* const end = socket(id);
    if (end == nullptr) return -EBADF;
    while (!end->accepted.empty()) {
        const int waiting = end->accepted.front();
        end->accepted.pop_front();
        const std::shared_ptr<Connection> dropped = socket(waiting)->connection;
        if (dropped) {
            dropped->ends[1] = -1;
            refuse_bytes(dropped, 0);
        }
        sockets_.erase(waiting);
    }
    if (end->connection) {
        const std::shared_ptr<Connection> connection = end->connection;
        const std::size_t side = end->side;
        connection->ends[side] = -1;
        if (end->broken) {
            // Nothing more passes.
        } else if (connection->to[side].unread_bytes() > 0) {
            refuse_bytes(connection, 1 - side);
        } else if (!connection->to[1 - side].ended) {
            put(connection, 1 - side, {}, true);
        }
    }
    sockets_.erase(id);
    return 0;
}

int Network::poll(int id, int events) {
    const Socket* const asked = find(id);
    if (asked == nullptr) return POLLNVAL;
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

// ---- datagrams ------------------------------------------------------------------------------------------------------

std::optional<int> Network::send_message(int id, const msghdr& message) {
    Socket* const sender = socket(id);
    if (sender == nullptr) return -EBADF;
    Endpoint to = Endpoint::from(static_cast<const sockaddr*>(message.msg_name), message.msg_namelen);
    if (to.family == AF_UNSPEC) to = sender->peer;
    if (to.family != sender->family) return -EAFNOSUPPORT;
    Host* const there = owner_of(*sender->host, to);
    if (there == nullptr) return -EHOSTUNREACH;
    Datagram datagram{sender->local, {}};
    for (std::size_t part = 0; part < message.msg_iovlen; ++part) {
        datagram.bytes.append(static_cast<const char*>(message.msg_iov[part].iov_base), message.msg_iov[part].iov_len);
    }
    if (datagram.bytes.size() > 65'507) return -EMSGSIZE;
    if (datagram.from.is_any()) {
        for (const Endpoint& own : sender->host->addresses) {
            if (own.family == to.family) datagram.from.ip = own.ip;
        }
        if (to.is_loopback()) datagram.from.ip = to.ip;
    }
    const int size = static_cast<int>(datagram.bytes.size());
    Random& random = agenda_.random;
    const int copies = random.chance(options_.datagram_loss) ? 0 : random.chance(options_.datagram_copy) ? 2 : 1;
    for (int copy = 0; copy < copies; ++copy) deliver(*sender->host, *there, to, datagram);
    return size;
}

void Network::deliver(const Host& from, Host& to, const Endpoint& target, Datagram datagram) {
    Clock::time_point arrival = agenda_.now() + travel(from, to);
    if (&from == &to) arrival = to.last_datagram = std::max(arrival, to.last_datagram + Clock::duration{1});
    agenda_.at(arrival, [this, &from, &to, target, datagram = std::move(datagram)] {
        if (cut(from, to)) return;
        for (auto& [id, socket] : sockets_) {
            if (socket.host != &to || socket.type != SOCK_DGRAM || socket.local.port != target.port) continue;
            if (socket.family != target.family || (!socket.local.is_any() && socket.local.ip != target.ip)) continue;
            if (socket.datagrams.size() == most_datagrams) return;
            socket.datagrams.push_back(datagram);
            return changed_(id);
        }
    });
}

std::optional<int> Network::receive_message(int id, msghdr& message) {
    Socket* const reader = socket(id);
    if (reader == nullptr) return -EBADF;
    if (reader->error != 0) return -std::exchange(reader->error, 0);
    if (reader->datagrams.empty()) return std::nullopt;
    const Datagram datagram = std::move(reader->datagrams.front());
    reader->datagrams.pop_front();
    std::size_t copied = 0;
    for (std::size_t part = 0; part < message.msg_iovlen; ++part) {
        const iovec& into = message.msg_iov[part];
        const std::size_t count = std::min(into.iov_len, datagram.bytes.size() - copied);
        std::memcpy(into.iov_base, datagram.bytes.data() + copied, count);
        copied += count;
    }
    message.msg_flags = copied < datagram.bytes.size() ? MSG_TRUNC : 0;
    if (message.msg_name != nullptr) {
        datagram.from.write(static_cast<sockaddr*>(message.msg_name), &message.msg_namelen);
    }
    return static_cast<int>(copied);
}

}  // namespace torc::sim
