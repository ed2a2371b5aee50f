#include <algorithm>
#include <cerrno>
#include <cstring>

#include "sim_network.hpp"

// Theory of operation. A datagram is an event at the time at which it arrives: nothing waits for it, nothing repeats
// it, and who overtakes whom is decided by the time. Within a host they keep their order.

namespace torc::sim {
namespace {

constexpr std::size_t most_datagrams = 64;

}  // namespace

std::string gathered(const msghdr& message) {
    std::string bytes;
    for (std::size_t part = 0; part < message.msg_iovlen; ++part) {
        bytes.append(static_cast<const char*>(message.msg_iov[part].iov_base), message.msg_iov[part].iov_len);
    }
    return bytes;
}

std::optional<int> Network::send_message(int id, const msghdr& message) {
    Socket* const sender = socket(id);
    if (sender == nullptr) return -EBADF;
    if (sender->crashed) return -ENETDOWN;
    Endpoint to = Endpoint::from(static_cast<const sockaddr*>(message.msg_name), message.msg_namelen);
    if (to.family == AF_UNSPEC) to = sender->peer;
    if (to.seen_by(sender->family).family != sender->family) return -EAFNOSUPPORT;
    to = to.reached();
    Host* const there = owner_of(*sender->host, to);
    if (there == nullptr) return -EHOSTUNREACH;
    Datagram datagram{sender->local, gathered(message)};
    if (datagram.bytes.size() > 65'507) return -EMSGSIZE;
    if (datagram.from.is_any()) {
        const Endpoint own = source(*sender->host, to);
        datagram.from.family = own.family;
        datagram.from.ip = own.ip;
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
            if (socket.host != &to || socket.type != SOCK_DGRAM || socket.crashed || !socket.takes(target)) continue;
            if (taker == nullptr || !socket.local.is_any()) taker = &socket;
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
