#pragma once

#include <condition_variable>
#include <cstring>
#include <functional>
#include <future>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <netinet/in.h>
#include <sched.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <torc/net/address.hpp>

/// Blocking peers on threads of their own. They take no part in the process's table of descriptors, so that tests can
/// count what they themselves opened.
namespace torc::test {

namespace peer {

/// Reads until the other side ends the stream; an error (a reset) ends it too.
inline std::string read_all(int fd) {
    std::string all;
    char buffer[16384];
    for (ssize_t count = 0; (count = ::recv(fd, buffer, sizeof buffer, 0)) > 0;)
        all.append(buffer, static_cast<std::size_t>(count));
    return all;
}
/// False when the other side has gone.
inline bool write_all(int fd, std::string_view text) {
    while (!text.empty()) {
        const ssize_t count = ::send(fd, text.data(), text.size(), MSG_NOSIGNAL);
        if (count <= 0) return false;
        text.remove_prefix(static_cast<std::size_t>(count));
    }
    return true;
}
inline std::string read_exactly(int fd, std::size_t count) {
    std::string all(count, '\0');
    const ssize_t got = ::recv(fd, all.data(), count, MSG_WAITALL);
    all.resize(got > 0 ? static_cast<std::size_t>(got) : 0);
    return all;
}
inline void echo(int fd) {
    char buffer[16384];
    for (ssize_t count = 0; (count = ::recv(fd, buffer, sizeof buffer, 0)) > 0;) {
        if (!write_all(fd, {buffer, static_cast<std::size_t>(count)})) return;
    }
}
/// Gives the calling thread a table of descriptors of its own, empty but for the standard ones.
inline void leave_descriptor_table() {
    ::unshare(CLONE_FILES);
    ::close_range(3, ~0U, 0);
}
inline int connect_to(const net::Address& address) {
    const int fd = ::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && ::connect(fd, address.data(), address.size()) == 0) return fd;
    if (fd >= 0) ::close(fd);
    return -1;
}

}  // namespace peer

/// Listens, and serves each connection on a thread.
class PeerServer {
   public:
    using Serve = std::function<void(int fd)>;

    explicit PeerServer(Serve serve = peer::echo, const net::Address& address = net::Address::loopback(0),
                        int backlog = 64)
        : serve_(std::move(serve)) {
        std::promise<net::Address> bound;
        auto where = bound.get_future();
        thread_ = std::thread{[this, address, backlog, &bound] { run(address, backlog, bound); }};
        address_ = where.get();
    }
    PeerServer(const PeerServer&) = delete;
    PeerServer& operator=(const PeerServer&) = delete;
    ~PeerServer() {
        {
            const std::lock_guard lock{mutex_};
            stopping_ = true;
        }
        const int knock = peer::connect_to(address_);
        if (knock >= 0) ::close(knock);
        thread_.join();
    }

    [[nodiscard]] const net::Address& address() const noexcept { return address_; }

    /// Blocks until `serve` has returned so often: by then the other sides have gone.
    void wait_for_ends(int count) {
        std::unique_lock lock{mutex_};
        ended_.wait(lock, [&] { return ends_ >= count; });
    }
    [[nodiscard]] int connections() {
        const std::lock_guard lock{mutex_};
        return begun_;
    }

   private:
    void run(const net::Address& address, int backlog, std::promise<net::Address>& bound) {
        peer::leave_descriptor_table();
        const int listener = ::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0);
        ::bind(listener, address.data(), address.size());
        ::listen(listener, backlog);
        sockaddr_storage name{};
        socklen_t size = sizeof name;
        ::getsockname(listener, reinterpret_cast<sockaddr*>(&name), &size);
        bound.set_value(net::Address::from_sockaddr(reinterpret_cast<const sockaddr*>(&name), size));
        std::vector<std::thread> threads;
        for (;;) {
            const int fd = ::accept(listener, nullptr, nullptr);
            const std::lock_guard lock{mutex_};
            if (stopping_) {
                if (fd >= 0) ::close(fd);
                break;
            }
            if (fd < 0) continue;
            ++begun_;
            threads.emplace_back([this, fd] {
                serve_(fd);
                ::close(fd);
                const std::lock_guard end{mutex_};
                ++ends_;
                ended_.notify_all();
            });
        }
        ::close(listener);
        for (std::thread& each : threads) each.join();
    }

    Serve serve_;
    net::Address address_;
    std::mutex mutex_;
    std::condition_variable ended_;
    int begun_ = 0;
    int ends_ = 0;
    bool stopping_ = false;
    std::thread thread_;
};

/// Connects somewhere, does what it is told with the connection, and closes it. Joined by the destructor.
class PeerClient {
   public:
    PeerClient(const net::Address& address, std::function<void(int fd)> use)
        : thread_([address, use = std::move(use)] {
              peer::leave_descriptor_table();
              const int fd = peer::connect_to(address);
              use(fd);
              if (fd >= 0) ::close(fd);
          }) {}
    PeerClient(PeerClient&&) = default;
    ~PeerClient() {
        if (thread_.joinable()) thread_.join();
    }

   private:
    std::thread thread_;
};

/// An address where nobody listens.
inline net::Address dead_address() {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const net::Address any = net::Address::loopback(0);
    ::bind(fd, any.data(), any.size());
    sockaddr_storage name{};
    socklen_t size = sizeof name;
    ::getsockname(fd, reinterpret_cast<sockaddr*>(&name), &size);
    ::close(fd);
    return net::Address::from_sockaddr(reinterpret_cast<const sockaddr*>(&name), size);
}

/// An address that answers nothing: a listener whose queue is full drops what asks to connect.
class SilentAddress {
   public:
    /// With a `backlog` it lets so many connect, and says nothing to them.
    explicit SilentAddress(int backlog = 0) : listener_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        const net::Address any = net::Address::loopback(0);
        ::bind(listener_, any.data(), any.size());
        ::listen(listener_, backlog);
        sockaddr_storage name{};
        socklen_t size = sizeof name;
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&name), &size);
        address_ = net::Address::from_sockaddr(reinterpret_cast<const sockaddr*>(&name), size);
        if (backlog == 0) filler_ = peer::connect_to(address_);
    }
    SilentAddress(const SilentAddress&) = delete;
    SilentAddress& operator=(const SilentAddress&) = delete;
    ~SilentAddress() {
        if (filler_ >= 0) ::close(filler_);
        ::close(listener_);
    }
    [[nodiscard]] const net::Address& address() const noexcept { return address_; }

   private:
    int listener_;
    int filler_ = -1;
    net::Address address_;
};

}  // namespace torc::test
