#include <cerrno>

#include "sim_network.hpp"

// Theory of operation. Connecting knocks at the other host: the knock takes a way there, and its answer a way back. One
// that is lost (a cut, a full backlog) is repeated after one second, two, four, as Linux does. The accepted end is
// there from the knock on, and may speak before its peer has heard that it is connected.

namespace torc::sim {

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
    const Endpoint to = target.reached();
    from->peer = to;
    if (from->type == SOCK_DGRAM) return 0;
    if (to.family == AF_UNIX) {
        if (to.is_file() && !from->host->files.contains(to.path)) return -ENOENT;
        if (listener_at(*from->host, to) == nullptr) return -ECONNREFUSED;
    } else {
        const Endpoint own = source(*from->host, to);
        from->local.family = to.family;
        if (from->local.is_any() || to.is_loopback()) from->local.ip = own.ip;
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

}  // namespace torc::sim
