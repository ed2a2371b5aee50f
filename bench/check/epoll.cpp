// Theory of operation: as few system calls as readiness permits. A check is socket, connect, send, epoll_ctl, recv,
// close, and its share of an epoll_wait. The socket enters the set once, edge-triggered, and leaves it by being closed.
//
// Sending is tried right after connecting, before the set is asked anything: on loopback the connection is there by
// then, which saves a wake-up and is the best that epoll can do. Elsewhere the try fails with EAGAIN, and the send
// happens when the set says that the socket became writable.

#include <fcntl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <vector>

#include "target.hpp"
#include REPLY

namespace {

struct Connection {
    int file = -1;
    bool sent = false;
    std::uint64_t began_ns = 0;
    bench::Reply reply;
};

class Checks {
   public:
    explicit Checks(const bench::Target& target) : target_(target), set_(::epoll_create1(EPOLL_CLOEXEC)) {
        if (set_ < 0) bench::die("there is no epoll here");
    }
    Checks(const Checks&) = delete;
    ~Checks() { ::close(set_); }

    void carry_out(bench::Order order, bench::Account& account) {
        if (connections_.size() < order.at_once) {
            connections_.resize(order.at_once);
            for (auto& each : connections_) {
                if (!each) each = std::make_unique<Connection>();
            }
        }
        std::uint64_t to_begin = order.count;
        // A check that can not begin counts as failed, and the next takes its place.
        const auto begin_next = [&](Connection& connection) {
            while (to_begin > 0) {
                --to_begin;
                if (begin(connection)) return;
                finish(connection, account, false);
            }
        };
        for (std::size_t at = 0; at < order.at_once; ++at) begin_next(*connections_[at]);
        epoll_event events[256];
        while (account.checks() < order.count) {
            const int seen = ::epoll_wait(set_, events, std::size(events), -1);
            for (int at = 0; at < seen; ++at) {
                auto& connection = *static_cast<Connection*>(events[at].data.ptr);
                const auto state = go_on(connection, events[at].events);
                if (state == bench::Reply::state::more) continue;
                finish(connection, account, state == bench::Reply::state::complete);
                begin_next(connection);
            }
        }
    }

   private:
    bool begin(Connection& connection) {
        connection.began_ns = bench::now_ns();
        connection.reply.begin();
        connection.sent = false;
        connection.file = ::socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
        if (connection.file < 0) return false;
        const auto* address = reinterpret_cast<const sockaddr*>(&target_.address);
        if (::connect(connection.file, address, sizeof target_.address) < 0 && errno != EINPROGRESS) return false;
        if (!send(connection)) return false;
        epoll_event event{};
        event.events = EPOLLIN | EPOLLET | (connection.sent ? 0U : unsigned{EPOLLOUT});
        event.data.ptr = &connection;
        return ::epoll_ctl(set_, EPOLL_CTL_ADD, connection.file, &event) == 0;
    }

    /// False if that is the end of it; true if it was sent, or can not be yet.
    bool send(Connection& connection) {
        const std::string& request = target_.request;
        const ssize_t sent = ::send(connection.file, request.data(), request.size(), MSG_NOSIGNAL);
        if (sent < 0) return errno == EAGAIN;
        connection.sent = true;  // an empty socket takes a request that is much smaller than its buffer as a whole
        return static_cast<std::size_t>(sent) == request.size();
    }

    bench::Reply::state go_on(Connection& connection, unsigned events) {
        if (!connection.sent && !send(connection)) return bench::Reply::state::bad;
        if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) == 0) return bench::Reply::state::more;
        for (;;) {
            const std::span<char> room = connection.reply.room();
            const ssize_t received = ::recv(connection.file, room.data(), room.size(), 0);
            if (received < 0) return errno == EAGAIN ? bench::Reply::state::more : bench::Reply::state::bad;
            const auto state = connection.reply.received(static_cast<std::size_t>(received));
            if (state != bench::Reply::state::more) return state;
        }
    }

    void finish(Connection& connection, bench::Account& account, bool good) {
        if (good) {
            account.good(bench::now_ns() - connection.began_ns, connection.reply.body_bytes());
        } else {
            account.bad();
        }
        if (connection.file >= 0) ::close(connection.file);
    }

    const bench::Target& target_;
    int set_;
    std::vector<std::unique_ptr<Connection>> connections_;
};

}  // namespace

int main(int count, char** arguments) {
    if (count < 2) bench::die("bench-check-epoll URL");
    const bench::Target target = bench::target_of(arguments[1]);
    if (target.secure) bench::die("this program speaks no TLS");
    Checks checks{target};
    static bench::Account account;
    while (const auto order = bench::next_order()) {
        account.begin();
        checks.carry_out(*order, account);
        account.report();
    }
}
