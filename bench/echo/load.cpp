// Load for the echo servers: `bench-echo-load PORT SIZE CONNECTIONS`.
//
// Opens the connections, then carries out orders: COUNT messages of SIZE bytes in all, AT-ONCE of them on each
// connection at the same time (1 is ping-pong). A message that came back is at once followed by the next one on its
// connection. Level-triggered epoll and blocking-free sockets: it has a core of its own, so that all it must be is the
// same for every server.

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <vector>

#include "../common/contestant.hpp"

namespace {

struct Connection {
    int fd = -1;
    std::size_t at_once = 0;             // messages under way
    std::size_t unread_bytes = 0;        // of what is under way
    std::vector<std::uint64_t> sent_ns;  // when each of them was sent, a ring
    std::size_t oldest = 0;
};

class Load {
   public:
    Load(unsigned port, std::size_t size_bytes, std::size_t connections)
        : size_bytes_(size_bytes), connections_(connections), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
        sockaddr_in server{};
        server.sin_family = AF_INET;
        server.sin_port = htons(static_cast<std::uint16_t>(port));
        server.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        for (std::size_t index = 0; index < connections; ++index) {
            Connection& one = connections_[index];
            one.fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
            if (one.fd < 0 || ::connect(one.fd, reinterpret_cast<sockaddr*>(&server), sizeof server) != 0) {
                bench::die(std::strerror(errno));
            }
            const int on = 1;
            ::setsockopt(one.fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            epoll_event event{.events = EPOLLIN, .data = {.u64 = index}};
            ::epoll_ctl(epoll_, EPOLL_CTL_ADD, one.fd, &event);
        }
    }

    void carry_out(const bench::Order& order) {
        account_->begin();
        left_to_send_ = order.count;
        message_.assign(order.at_once * size_bytes_, 'x');
        incoming_.resize(std::max<std::size_t>(message_.size(), 64 * 1024));
        for (Connection& one : connections_) {
            one.sent_ns.assign(order.at_once, 0);
            one.oldest = 0;
            send(one, order.at_once);
        }
        epoll_event events[512];
        while (account_->checks() < order.count) {
            const int ready = ::epoll_wait(epoll_, events, 512, -1);
            for (int index = 0; index < ready; ++index) receive(connections_[events[index].data.u64]);
        }
        account_->report();
    }

   private:
    void send(Connection& to, std::size_t messages) {
        messages = static_cast<std::size_t>(std::min<std::uint64_t>(messages, left_to_send_));
        if (messages == 0) return;
        left_to_send_ -= messages;
        const std::uint64_t now = bench::now_ns();
        for (std::size_t each = 0; each < messages; ++each) {
            to.sent_ns[(to.oldest + to.at_once++) % to.sent_ns.size()] = now;
        }
        to.unread_bytes += messages * size_bytes_;
        const std::size_t bytes = messages * size_bytes_;
        // At most what the peer has echoed before is under way, which the socket's buffer holds.
        if (::send(to.fd, message_.data(), bytes, MSG_NOSIGNAL) != static_cast<ssize_t>(bytes)) {
            bench::die("a message could not be sent as a whole");
        }
    }

    void receive(Connection& from) {
        const ssize_t got = ::recv(from.fd, incoming_.data(), incoming_.size(), MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN) return;
        if (got <= 0 || static_cast<std::size_t>(got) > from.unread_bytes) bench::die("the server is not an echo");
        from.unread_bytes -= static_cast<std::size_t>(got);
        const std::size_t still_under_way = (from.unread_bytes + size_bytes_ - 1) / size_bytes_;
        const std::uint64_t now = bench::now_ns();
        std::size_t came_back = 0;
        while (from.at_once > still_under_way) {
            account_->good(now - from.sent_ns[from.oldest], size_bytes_);
            from.oldest = (from.oldest + 1) % from.sent_ns.size();
            --from.at_once;
            ++came_back;
        }
        send(from, came_back);
    }

    std::size_t size_bytes_;
    std::vector<Connection> connections_;
    int epoll_;
    std::uint64_t left_to_send_ = 0;
    std::vector<char> message_;
    std::vector<char> incoming_;
    std::unique_ptr<bench::Account> account_ = std::make_unique<bench::Account>();
};

}  // namespace

int main(int count, char** arguments) {
    if (count != 4) bench::die("bench-echo-load takes PORT SIZE CONNECTIONS");
    Load load{static_cast<unsigned>(std::atoi(arguments[1])), std::strtoul(arguments[2], nullptr, 10),
              std::strtoul(arguments[3], nullptr, 10)};
    bench::say_listening(0);
    while (const auto order = bench::next_order()) load.carry_out(*order);
}
