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
// when the cut heals. What arrives for a socket that is closed comes back as a reset. A reset is a segment like others,
// so nothing that was sent before it comes after it.
//
// An end whose connection is over by a reset, a crash or lost patience is forgotten by its host, as a kernel forgets
// it: it repeats nothing, and all that comes for it is answered with a reset.
//
// Connecting knocks at the other host: the knock takes a way there, and its answer a way back. One that is lost (a cut,
// a full backlog) is repeated after one second, two, four, as Linux does.
//
// What a call gives for each state of a socket is what Linux gives: bytes that arrived before anything else, then the
// end, then an error, once; after that the end again, and for who sends EPIPE.

namespace torc::sim {
namespace {

constexpr int first_id = 1'000'000;  // far from the process's descriptors: a call that strays there fails
constexpr std::size_t most_datagrams = 64;
constexpr std::size_t segment_bytes = 1448;

Error refused(std::string why) { return Error{errc::invalid_argument, phase::none, "simulate", std::move(why)}; }

Endpoint parsed(const std::string& text) {
    const auto address = Endpoint::parse(text);
    if (!address) throw refused('"' + text + "\" is no IP address");
    return *address;
}

/// As a resolver asks for it.
std::string plain_name(std::string name) {
    if (name.ends_with('.')) name.pop_back();
    for (char& letter : name) {
        if (letter >= 'A' && letter <= 'Z') letter = static_cast<char>(letter - 'A' + 'a');
    }
    return name;
}

constexpr std::array<std::uint8_t, 16> loopback_v4{127, 0, 0, 1};
constexpr std::array<std::uint8_t, 16> loopback_v6{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1};
constexpr std::array<std::uint8_t, 12> mapped{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};

bool is_file(const Endpoint& local) noexcept {
    return local.family == AF_UNIX && !local.path.empty() && local.path.front() != '\0';
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
        if (std::ranges::equal(mapped, std::span{made.ip}.first<12>())) {
            made.family = AF_INET;
            made.ip = {made.ip[12], made.ip[13], made.ip[14], made.ip[15]};
        }
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

Endpoint Endpoint::seen_by(int asking) const noexcept {
    if (family != AF_INET || asking != AF_INET6) return *this;
    Endpoint seen = *this;
    seen.family = AF_INET6;
    std::ranges::copy(mapped, seen.ip.begin());
    std::ranges::copy(std::span{ip}.first<4>(), seen.ip.begin() + mapped.size());
    return seen;
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
    return family == AF_INET ? ip[0] == 127 : family == AF_INET6 && ip == loopback_v6;
}

Network::Network(const Options& options, Agenda& agenda, std::function<void(int)> changed)
    : options_(options), agenda_(agenda), changed_(std::move(changed)), next_id_(first_id) {
    add_host("local", {"10.255.0.1", "fdff::1"});
}

// ---- hosts and names ------------------------------------------------------------------------------------------------

Host& Network::add_host(std::string name, const std::vector<std::string>& addresses) {
    auto added = std::make_unique<Host>();
    added->name = name;
    for (const auto& other : hosts_) {
        if (other->name == name) throw refused("there is a host " + name + " already");
    }
    for (const std::string& text : addresses) {
        const Endpoint address = parsed(text);
        if (address.is_any() || address.is_loopback()) throw refused(text + " is every host's own");
        for (const auto& other : hosts_) {
            if (std::ranges::find(other->addresses, address) == other->addresses.end()) continue;
            throw refused(text + " belongs to host " + other->name);
        }
        added->addresses.push_back(address);
    }
    names_.insert_or_assign(plain_name(std::move(name)), Name{addresses, {}});
    return *hosts_.emplace_back(std::move(added));
}

Host& Network::host(std::string_view name) {
    for (const auto& each : hosts_) {
        if (each->name == name) return *each;
    }
    throw Error{errc::not_found, phase::none, "simulate", "there is no simulated host " + std::string{name}};
}

void Network::add_name(std::string name, std::vector<std::string> addresses) {
    for (const std::string& text : addresses) static_cast<void>(parsed(text));
    names_.insert_or_assign(plain_name(std::move(name)), Name{std::move(addresses), {}});
}

void Network::fail_name(std::string name, std::error_code failure) {
    names_.insert_or_assign(plain_name(std::move(name)), Name{{}, failure});
}

name_answer Network::look_up(std::string_view name) {
    name_answer answer;
    Random& random = agenda_.random;
    answer.after = random.around(options_.latency);
    if (random.chance(options_.name_delay)) answer.after += random.around(std::chrono::seconds{3});
    const auto found = names_.find(plain_name(std::string{name}));
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
            socket.connection->forgotten[socket.side] = true;
        }
        socket.connecting = socket.listening = false;
        socket.crashed = true;
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

bool Network::taken(const Host& host, const Endpoint& local, const binding& what) const {
    for (const auto& [id, socket] : sockets_) {
        if (socket.host != &host || socket.type != (what.type & 0xf) || !socket.bound || socket.crashed) continue;
        if (socket.connection || socket.local.port != local.port || (what.reuse_port && socket.reuse_port)) continue;
        if ((socket.local.family == AF_UNIX) != (local.family == AF_UNIX)) continue;
        if (local.family == AF_UNIX) {
            if (socket.local.path == local.path) return true;
        } else if (socket.local.family == local.family) {
            if (socket.local.is_any() || local.is_any() || socket.local.ip == local.ip) return true;
        } else {
            const bool other_takes_v4 = socket.local.family == AF_INET6 && !socket.v6_only && socket.local.is_any();
            const bool takes_v4 = local.family == AF_INET6 && !what.v6_only && local.is_any();
            if (other_takes_v4 || takes_v4) return true;
        }
    }
    return false;
}

std::uint16_t Network::free_port(Host& host, int family, int type) {
    Endpoint tried;
    tried.family = family;
    for (int left = 28'232; left > 0; --left) {
        tried.port = host.next_port;
        host.next_port = host.next_port == 60'999 ? 32'768 : static_cast<std::uint16_t>(host.next_port + 1);
        if (!taken(host, tried, binding{.type = type})) return tried.port;
    }
    return 0;
}

int Network::bind(Host& host, const binding& what, int& id) {
    Endpoint local = Endpoint::from(what.address, what.address_bytes);
    if (is_file(local)) {
        if (what.unlink_first) host.files.erase(local.path);
        if (host.files.contains(local.path)) return -EADDRINUSE;
    } else {
        if (local.family != AF_UNIX && owner_of(host, local) != &host) return -EADDRNOTAVAIL;
        if (local.family != AF_UNIX && local.port == 0) {
            local.port = free_port(host, local.family, what.type);
            if (local.port == 0) return -EADDRINUSE;
        }
        if (taken(host, local, what)) return -EADDRINUSE;
    }
    id = open(host, what.address->sa_family, what.type);
    if (is_file(local)) host.files.emplace(local.path, id);
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
    if (is_file(to)) {
        const auto file = host.files.find(to.path);
        Socket* const bound = file != host.files.end() ? socket(file->second) : nullptr;
        return bound != nullptr && bound->listening ? bound : nullptr;
    }
    std::vector<Socket*> found;
    for (auto& [id, socket] : sockets_) {
        if (socket.host != &host || !socket.listening) continue;
        const Endpoint& local = socket.local;
        if (to.family == AF_UNIX) {
            if (local.family == AF_UNIX && local.path == to.path) found.push_back(&socket);
            continue;
        }
        if (local.family == AF_UNIX || local.port != to.port) continue;
        const bool fits = local.family == to.family && (local.is_any() || local.ip == to.ip);
        const bool takes_both = local.family == AF_INET6 && !socket.v6_only && local.is_any();
        if (fits || takes_both) found.push_back(&socket);
    }
    return found.empty() ? nullptr : found[agenda_.random.below(found.size())];
}

// ---- connecting -----------------------------------------------------------------------------------------------------

/// How far the repetitions of a connect have come.
struct Network::Attempts {
    Clock::duration next_after;
    Clock::time_point give_up;
};

std::optional<int> Network::connect(int id, const Endpoint& target) {
    Socket* const from = socket(id);
    if (from == nullptr) return -EBADF;
    if (from->crashed) return -ENETDOWN;
    if (from->error != 0) return -std::exchange(from->error, 0);
    if (from->connection) return 0;
    if (from->connecting) return std::nullopt;
    if (target.seen_by(from->family).family != from->family) return -EAFNOSUPPORT;
    Endpoint to = target;
    if (to.is_any()) to.ip = to.family == AF_INET ? loopback_v4 : loopback_v6;
    from->peer = to;
    if (from->type == SOCK_DGRAM) return 0;
    if (to.family == AF_UNIX) {
        if (is_file(to) && !from->host->files.contains(to.path)) return -ENOENT;
        if (listener_at(*from->host, to) == nullptr) return -ECONNREFUSED;
    } else {
        from->local.family = to.family;
        for (const Endpoint& own : from->host->addresses) {
            if (own.family == to.family && from->local.is_any()) from->local.ip = own.ip;
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
        const Attempts attempts{std::chrono::seconds{1}, agenda_.now() + options_.connect_patience};
        agenda_.after(way, [this, id, to, attempts] { knock(id, to, attempts); });
    }
    return std::nullopt;
}

void Network::knock(int id, const Endpoint& to, Attempts attempts) {
    const Socket* const from = socket(id);
    if (from == nullptr || !from->connecting) return;
    Host& there = *owner_of(*from->host, to);
    const Socket* const listener = listener_at(there, to);
    if (!cut(*from->host, there) && (listener == nullptr || listener->accepted.size() <= listener->backlog)) {
        return answer_knock(id, there, to, attempts);
    }
    try_again(id, attempts, [this, id, to](Attempts later) { knock(id, to, later); });
}

void Network::try_again(int id, Attempts attempts, std::move_only_function<void(Attempts)> again) {
    agenda_.note("knock lost", id);
    if (agenda_.now() + attempts.next_after >= attempts.give_up) {
        agenda_.at(attempts.give_up, [this, id] { end_connect(id, ETIMEDOUT); });
        return;
    }
    const Attempts later{2 * attempts.next_after, attempts.give_up};
    agenda_.after(attempts.next_after, [later, again = std::move(again)]() mutable { again(later); });
}

void Network::answer_knock(int id, Host& there, const Endpoint& to, Attempts attempts) {
    Random& random = agenda_.random;
    Host& here = *socket(id)->host;
    Socket* const listener = listener_at(there, to);
    if (listener == nullptr) return take_answer(id, there, to, nullptr, attempts);
    auto connection = std::make_shared<Connection>();
    if (connections_.size() >= tidy_at_) {
        std::erase_if(connections_, [](const auto& each) { return each.expired(); });
        tidy_at_ = 2 * connections_.size() + 64;
    }
    connections_.push_back(connection);
    if (random.chance(options_.reset)) connection->reset_at_bytes = 1 + random.below(20'000);
    if (random.chance(options_.stall)) connection->stall_at_bytes = random.below(20'000);
    const int listening = listener->id;
    const int other = open(there, listener->family, SOCK_STREAM);
    connection->immediate = to.family == AF_UNIX;
    connection->ends = {id, other};
    connection->hosts = {&here, &there};
    Socket& accepted = *socket(other);
    accepted.connection = connection;
    accepted.side = 1;
    accepted.local = to;
    accepted.peer = socket(id)->local;
    socket(listening)->accepted.push_back(other);
    agenda_.note("connection", id, other);
    changed_(listening);
    take_answer(id, there, to, connection, attempts);
}

/// Takes the answer to a knock back: a connection, or that there is none. Lost in a cut, it is repeated.
void Network::take_answer(int id, Host& there, const Endpoint& to, const std::shared_ptr<Connection>& made,
                          Attempts attempts) {
    agenda_.after(travel(there, *socket(id)->host), [this, id, &there, to, made, attempts] {
        Socket* const from = socket(id);
        if (from == nullptr || !from->connecting) {
            if (made) forget(made, 0);
            return;
        }
        if (cut(*from->host, there)) {
            try_again(id, attempts, [this, id, &there, to, made](Attempts later) {
                if (!made) {
                    knock(id, to, later);
                } else if (socket(id) != nullptr) {
                    take_answer(id, there, to, made, later);
                }
            });
            return;
        }
        if (made) {
            from->connection = made;
            from->side = 0;
        }
        end_connect(id, made ? 0 : ECONNREFUSED);
    });
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
    if (listener->crashed) return -ENETDOWN;
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
        pipe.on_the_way_bytes -= each.bytes.size();
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
        sent.on_the_way_bytes -= each.bytes.size();
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

// ---- datagrams ------------------------------------------------------------------------------------------------------

std::optional<int> Network::send_message(int id, const msghdr& message) {
    Socket* const sender = socket(id);
    if (sender == nullptr) return -EBADF;
    if (sender->crashed) return -ENETDOWN;
    Endpoint to = Endpoint::from(static_cast<const sockaddr*>(message.msg_name), message.msg_namelen);
    if (to.family == AF_UNSPEC) to = sender->peer;
    if (to.seen_by(sender->family).family != sender->family) return -EAFNOSUPPORT;
    if (to.is_any()) to.ip = to.family == AF_INET ? loopback_v4 : loopback_v6;
    Host* const there = owner_of(*sender->host, to);
    if (there == nullptr) return -EHOSTUNREACH;
    Datagram datagram{sender->local, {}};
    for (std::size_t part = 0; part < message.msg_iovlen; ++part) {
        datagram.bytes.append(static_cast<const char*>(message.msg_iov[part].iov_base), message.msg_iov[part].iov_len);
    }
    if (datagram.bytes.size() > 65'507) return -EMSGSIZE;
    if (datagram.from.is_any()) {
        datagram.from.family = to.family;
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
        Socket* taker = nullptr;
        for (auto& [id, socket] : sockets_) {
            const Endpoint& local = socket.local;
            if (socket.host != &to || socket.type != SOCK_DGRAM || socket.crashed || local.port != target.port)
                continue;
            const bool fits = local.family == target.family && (local.is_any() || local.ip == target.ip);
            const bool takes_both = local.family == AF_INET6 && !socket.v6_only && local.is_any();
            if (!fits && !takes_both) continue;
            if (taker == nullptr || !local.is_any()) taker = &socket;
        }
        if (taker == nullptr || taker->datagrams.size() == most_datagrams) return;
        taker->datagrams.push_back(datagram);
        changed_(taker->id);
    });
}

std::optional<int> Network::receive_message(int id, msghdr& message) {
    Socket* const reader = socket(id);
    if (reader == nullptr) return -EBADF;
    if (reader->crashed) return -ENETDOWN;
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
        datagram.from.seen_by(reader->family).write(static_cast<sockaddr*>(message.msg_name), &message.msg_namelen);
    }
    return static_cast<int>(copied);
}

}  // namespace torc::sim
