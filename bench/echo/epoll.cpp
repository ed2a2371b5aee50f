// An echo server by hand on epoll: edge-triggered, one buffer for everybody, no allocation after a connection is open.
//
// What is received is sent on the spot. Only what the socket does not take is kept, until it is writable again; nothing
// is received meanwhile, so a slow reader holds one buffer at most.

#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "../common/listening.hpp"

namespace {

constexpr std::size_t buffer_bytes = 16 * 1024;

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
                    echo(fd);
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
            if (unsent_.size() <= static_cast<std::size_t>(fd)) unsent_.resize(static_cast<std::size_t>(fd) + 1);
            watch(fd, EPOLLIN | EPOLLOUT | EPOLLET);
        }
    }

    void echo(int fd) {
        std::string& unsent = unsent_[static_cast<std::size_t>(fd)];
        if (!unsent.empty() && !send(fd, unsent.data(), unsent.size())) return;
        for (;;) {
            const ssize_t got = ::recv(fd, buffer_.data(), buffer_.size(), 0);
            if (got < 0 && errno == EAGAIN) return;
            if (got <= 0) {
                unsent.clear();
                ::close(fd);
                return;
            }
            if (!send(fd, buffer_.data(), static_cast<std::size_t>(got))) return;
            // A buffer that did not get full was the last there was; another edge will tell of more.
            if (static_cast<std::size_t>(got) < buffer_.size()) return;
        }
    }

    /// Keeps what the socket does not take; says whether it took all.
    bool send(int fd, const char* bytes, std::size_t count) {
        const ssize_t sent = ::send(fd, bytes, count, MSG_NOSIGNAL);
        const std::size_t taken = sent > 0 ? static_cast<std::size_t>(sent) : 0;
        unsent_[static_cast<std::size_t>(fd)] =
            taken < count ? std::string{bytes + taken, count - taken} : std::string{};
        return taken == count;
    }

    int epoll_;
    int listener_;
    std::vector<std::string> unsent_;  // by descriptor
    std::array<char, buffer_bytes> buffer_;
};

}  // namespace

int main(int count, char** arguments) {
    std::signal(SIGTERM, [](int) { std::_Exit(0); });
    const auto server = std::make_unique<Server>(count > 1 ? static_cast<unsigned>(std::atoi(arguments[1])) : 0);
    server->serve();
}
