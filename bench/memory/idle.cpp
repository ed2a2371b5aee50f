// Connections that do nothing: `bench-memory-idle PORT echo|http|https`.
//
// An order is COUNT AT-ONCE: that many more connections are opened, one after the other; each sends one message and
// takes the answer, so that the server has done for it what it does for a connection, and then stays as it is. Source
// addresses are 127.0.0.1, 127.0.0.2 and so on, because one has too few ports. What TLS needs on this side is dropped
// when the answer is there; the socket stays.

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "../common/contestant.hpp"

namespace {

constexpr std::size_t connections_per_address = 20'000;
constexpr std::string_view request = "GET /13 HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n";

class Crowd {
   public:
    Crowd(unsigned port, std::string_view what) : echoes_(what == "echo") {
        server_.sin_family = AF_INET;
        server_.sin_port = htons(static_cast<std::uint16_t>(port));
        server_.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (what == "https") tls_ = SSL_CTX_new(TLS_client_method());  // whose certificate it is does not matter here
    }

    void add_one() {
        const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0) bench::die(std::strerror(errno));
        sockaddr_in from{};
        from.sin_family = AF_INET;
        from.sin_addr.s_addr = htonl(INADDR_LOOPBACK + static_cast<in_addr_t>(open_.size() / connections_per_address));
        const int on = 1;
        ::setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        // The end of a handshake and the request are two writes, and the second would wait until the first is
        // acknowledged, which a server that has nothing to say to it puts off.
        ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (::bind(fd, reinterpret_cast<sockaddr*>(&from), sizeof from) != 0 ||
            ::connect(fd, reinterpret_cast<sockaddr*>(&server_), sizeof server_) != 0) {
            bench::die(std::strerror(errno));
        }
        open_.push_back(fd);
        if (tls_ != nullptr) {
            exchange_encrypted(fd);
        } else {
            exchange(fd);
        }
    }

   private:
    void exchange(int fd) {
        const std::string_view message = echoes_ ? std::string_view{"x"} : request;
        if (::send(fd, message.data(), message.size(), MSG_NOSIGNAL) < 0) bench::die(std::strerror(errno));
        char answer[4096];
        if (::recv(fd, answer, sizeof answer, 0) <= 0) bench::die("the server gave no answer");
    }

    void exchange_encrypted(int fd) {
        SSL* const ssl = SSL_new(tls_);
        SSL_set_fd(ssl, fd);
        SSL_set_quiet_shutdown(ssl, 1);
        char answer[4096];
        if (SSL_connect(ssl) != 1 || SSL_write(ssl, request.data(), static_cast<int>(request.size())) <= 0 ||
            SSL_read(ssl, answer, sizeof answer) <= 0) {
            bench::die("the server gave no answer over TLS");
        }
        SSL_free(ssl);
    }

    bool echoes_;
    sockaddr_in server_{};
    SSL_CTX* tls_ = nullptr;
    std::vector<int> open_;
};

}  // namespace

int main(int count, char** arguments) {
    if (count != 3) bench::die("bench-memory-idle takes PORT and echo, http or https");
    Crowd crowd{static_cast<unsigned>(std::atoi(arguments[1])), arguments[2]};
    bench::Account account;
    while (const auto order = bench::next_order()) {
        account.begin();
        for (std::uint64_t each = 0; each < order->count; ++each) {
            const std::uint64_t began = bench::now_ns();
            crowd.add_one();
            account.good(bench::now_ns() - began, 0);
        }
        account.report();
    }
}
