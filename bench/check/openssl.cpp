// Theory of operation: one check after the other on blocking sockets, whatever number at once is asked for: no loop, no
// readiness, no state of its own. Over TLS that is the floor, because OpenSSL does most of the work.
//
// What a program can do for OpenSSL is done: one SSL_CTX, TLS 1.3 alone, read_ahead (a record's header and body with
// one system call), no memory of sessions unless asked for. A session that arrives as a ticket is used once; the newest
// is kept.

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <unistd.h>

#include <memory>
#include <utility>

#include "reply.hpp"
#include "target.hpp"

namespace {

struct Free {
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
    void operator()(SSL* connection) const { SSL_free(connection); }
    void operator()(SSL_SESSION* session) const { SSL_SESSION_free(session); }
};
template <class T>
using owned = std::unique_ptr<T, Free>;

class Socket {
   public:
    Socket() : file_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {}
    Socket(const Socket&) = delete;
    ~Socket() {
        if (file_ >= 0) ::close(file_);
    }
    [[nodiscard]] int file() const { return file_; }
    [[nodiscard]] bool connect(const sockaddr_in& address) const {
        return ::connect(file_, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0;
    }

   private:
    int file_;
};

class Checks {
   public:
    Checks(bench::Target target, const char* ca_file, bool resume) : target_(std::move(target)), resume_(resume) {
        if (!target_.secure) return;
        context_.reset(SSL_CTX_new(TLS_client_method()));
        SSL_CTX_set_min_proto_version(context_.get(), TLS1_3_VERSION);
        SSL_CTX_set_verify(context_.get(), SSL_VERIFY_PEER, nullptr);
        SSL_CTX_set_read_ahead(context_.get(), 1);
        if (SSL_CTX_load_verify_file(context_.get(), ca_file) != 1) bench::die("the CA file can not be read");
        SSL_CTX_set_session_cache_mode(context_.get(), SSL_SESS_CACHE_OFF);
        if (!resume_) return;
        SSL_CTX_set_session_cache_mode(context_.get(), SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_set_app_data(context_.get(), this);
        SSL_CTX_sess_set_new_cb(context_.get(), [](SSL* connection, SSL_SESSION* session) {
            auto& self = *static_cast<Checks*>(SSL_CTX_get_app_data(SSL_get_SSL_CTX(connection)));
            self.newest_.reset(session);
            return 1;
        });
    }

    bool check() {
        const Socket socket;
        reply_.begin();
        if (!socket.connect(target_.address)) return false;
        return target_.secure ? ask_securely(socket.file()) : ask(socket.file());
    }

    [[nodiscard]] std::uint64_t body_bytes() const { return reply_.body_bytes(); }

   private:
    bool ask(int file) {
        const std::string& request = target_.request;
        if (::send(file, request.data(), request.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(request.size()))
            return false;
        return is_complete([file](std::span<char> room) { return ::recv(file, room.data(), room.size(), 0); });
    }

    bool ask_securely(int file) {
        const owned<SSL> connection{SSL_new(context_.get())};
        SSL* const tls = connection.get();
        SSL_set_fd(tls, file);
        SSL_set1_host(tls, target_.host.c_str());  // names and addresses
        if (!is_address(target_.host)) SSL_set_tlsext_host_name(tls, target_.host.c_str());
        if (newest_) SSL_set_session(tls, std::exchange(newest_, {}).get());
        if (SSL_connect(tls) != 1) return failed();
        const std::string& request = target_.request;
        if (SSL_write(tls, request.data(), static_cast<int>(request.size())) <= 0) return failed();
        const bool good = is_complete([tls](std::span<char> room) {
            return static_cast<ssize_t>(SSL_read(tls, room.data(), static_cast<int>(room.size())));
        });
        if (!good) return failed();
        SSL_shutdown(tls);  // says good-bye and does not wait for the answer
        return true;
    }

    template <class Receive>
    bool is_complete(Receive receive) {
        auto state = bench::Reply::state::more;
        while (state == bench::Reply::state::more) {
            const ssize_t received = receive(reply_.room());
            if (received <= 0) return false;
            state = reply_.received(static_cast<std::size_t>(received));
        }
        return state == bench::Reply::state::complete;
    }

    static bool is_address(const std::string& host) { return host.find_first_not_of("0123456789.") == host.npos; }

    static bool failed() {
        ERR_clear_error();
        return false;
    }

    bench::Target target_;
    bool resume_;
    owned<SSL_CTX> context_;
    owned<SSL_SESSION> newest_;
    bench::Reply reply_;
};

}  // namespace

int main(int count, char** arguments) {
    if (count < 2) bench::die("bench-check-openssl URL [CA-FILE [resume]]");
    bench::Target target = bench::target_of(arguments[1]);
    if (target.secure && count < 3) bench::die("whom to trust for https?");
    static Checks checks{std::move(target), count > 2 ? arguments[2] : nullptr, count > 3};
    static bench::Account account;
    while (const auto order = bench::next_order()) {
        account.begin();
        for (std::uint64_t done = 0; done < order->count; ++done) {
            const std::uint64_t began_ns = bench::now_ns();
            if (checks.check()) {
                account.good(bench::now_ns() - began_ns, checks.body_bytes());
            } else {
                account.bad();
            }
        }
        account.report();
    }
}
