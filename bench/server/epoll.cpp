// The least HTTP server by hand on epoll: it knows GET /13 and GET /16384, with keep-alive, and nothing else. It is no
// server for anybody to use; it is here to show what the kernel alone costs. Built with parsed_requests.hpp it shows
// what reading requests with torc's parser adds to that.

#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "../common/listening.hpp"
#include REQUESTS

namespace {

struct Connection {
    bench::Requests requests;
    std::string unsent;
};

std::string response(std::size_t body_bytes) {
    return "HTTP/1.1 200 OK\r\nServer: epoll\r\nContent-Type: text/plain\r\nContent-Length: " +
           std::to_string(body_bytes) + "\r\n\r\n" + std::string(body_bytes, 'x');
}

class Server {
   public:
    explicit Server(unsigned port)
        : epoll_(::epoll_create1(EPOLL_CLOEXEC)), listener_(bench::listen(port, SOCK_NONBLOCK)) {
        watch(listener_, EPOLLIN);
    }

    [[noreturn]] void serve() {
        std::array<epoll_event, 512> events;
        for (;;) {
            const int ready = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), -1);
            for (int index = 0; index < ready; ++index) {
                const int fd = events[static_cast<std::size_t>(index)].data.fd;
                if (fd == listener_) {
                    accept();
                } else {
                    go_on(fd);
                }
            }
        }
    }

   private:
    void watch(int fd, std::uint32_t what) {
        epoll_event event{.events = what, .data = {.fd = fd}};
        ::epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event);
    }

    void accept() {
        for (;;) {
            const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
            if (fd < 0) return;
            const int on = 1;
            ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
            if (connections_.size() <= static_cast<std::size_t>(fd))
                connections_.resize(static_cast<std::size_t>(fd) + 1);
            watch(fd, EPOLLIN | EPOLLOUT | EPOLLET);
        }
    }

    void go_on(int fd) {
        Connection& connection = connections_[static_cast<std::size_t>(fd)];
        if (!connection.unsent.empty() && !send(fd, connection, std::exchange(connection.unsent, {}))) return;
        const ssize_t got = ::recv(fd, buffer_.data(), buffer_.size(), 0);
        if (got < 0 && errno == EAGAIN) return;
        const std::string_view bytes{buffer_.data(), static_cast<std::size_t>(std::max<ssize_t>(got, 0))};
        const auto answer = [&](std::string_view target) {
            return send(fd, connection, target == "/13" ? small_ : large_);
        };
        if (got > 0 && connection.requests.take(bytes, answer)) return;
        connection = {};
        ::close(fd);
    }

    bool send(int fd, Connection& to, std::string_view bytes) {
        const ssize_t sent = ::send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        const std::size_t taken = sent > 0 ? static_cast<std::size_t>(sent) : 0;
        if (taken == bytes.size()) return true;
        to.unsent.append(bytes.substr(taken));
        return false;
    }

    int epoll_;
    int listener_;
    const std::string small_ = response(13);
    const std::string large_ = response(16384);
    std::vector<Connection> connections_;  // by descriptor
    std::array<char, 16 * 1024> buffer_;
};

}  // namespace

int main(int count, char** arguments) {
    std::signal(SIGTERM, [](int) { std::_Exit(0); });
    Server server{count > 1 ? static_cast<unsigned>(std::atoi(arguments[1])) : 0};
    server.serve();
}
