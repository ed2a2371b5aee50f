#include <algorithm>
#include <cerrno>
#include <iterator>

#include "sim_network.hpp"

// Theory of operation. A host is a set of addresses with ports and files of its own. Which address belongs to which
// host decides who is reached; the loopback and the empty address are each host's own. Hosts are never taken away, so
// what refers to one stays good.

namespace torc::sim {
namespace {

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

}  // namespace

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
    names_.insert_or_assign(plain_name(std::move(name)), Name{addresses, {}, {}});
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
    names_.insert_or_assign(plain_name(std::move(name)), Name{std::move(addresses), {}, {}});
}

void Network::fail_name(std::string name, std::error_code failure) {
    names_.insert_or_assign(plain_name(std::move(name)), Name{{}, {{}, failure}, {{}, failure}});
}

void Network::delay_name(const std::string& name, int family, Clock::duration after, std::error_code failure) {
    const auto found = names_.find(plain_name(name));
    if (found == names_.end()) throw Error{errc::not_found, phase::none, "simulate", "there is no name " + name};
    if (family != AF_INET && family != AF_INET6) throw refused("a name is asked for with AF_INET and AF_INET6");
    (family == AF_INET ? found->second.v4 : found->second.v6) = {after, failure};
}

name_answer Network::look_up(std::string_view name, int family) {
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
        const Name::Answer& given = family == AF_INET ? found->second.v4 : found->second.v6;
        answer.failure = given.failure;
        if (given.after > Clock::duration::zero()) answer.after = given.after;
        std::ranges::copy_if(found->second.addresses, std::back_inserter(answer.addresses),
                             [family](const std::string& text) { return parsed(text).family == family; });
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

void Network::isolate(Host& host) noexcept {
    host.isolated = true;
    agenda_.note("isolate");
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

Endpoint Network::source(const Host& host, const Endpoint& to) {
    Endpoint own;
    own.family = to.family;
    const auto found = std::ranges::find(host.addresses, to.family, &Endpoint::family);
    if (to.is_loopback()) {
        own.ip = to.ip;
    } else if (found != host.addresses.end()) {
        own.ip = found->ip;
    }
    return own;
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
    if (local.is_file()) {
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
    if (local.is_file()) host.files.emplace(local.path, id);
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
    if (to.is_file()) {
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
        if (socket.takes(to)) found.push_back(&socket);
    }
    return found.empty() ? nullptr : found[agenda_.random.below(found.size())];
}

}  // namespace torc::sim
