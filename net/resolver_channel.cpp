#include "resolver_channel.hpp"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <limits>
#include <new>

// The socket functions and ares_timeout are deprecated in newer releases in favour of calls that 1.18 does not have.
#define CARES_NO_DEPRECATED
#include <ares.h>

#include "resolver_hosts.hpp"

// Theory of operation
//
// c-ares is a state machine without I/O of its own: it says which descriptors to watch and until when, and is told
// when something happened. Each of its sockets here has one poll operation at the driver, each channel one timer. Their
// completions call `process`; what c-ares then wants is compared with what is asked of the driver, in `settle`.
//
// A channel holds one question at a time, because c-ares can cancel a channel but not a single question. It also gives
// every question sockets of its own, so that a forged answer has to guess a port (RFC 5452). Channels are reused: what
// is expensive is reading resolv.conf.
//
// The life of a socket. c-ares opens and closes through our functions. A poll holds the descriptor's number until its
// terminal completion, so "close" cancels the poll and the socket is closed, and its record freed, when that has ended.
// In between nobody but the driver knows the record; the executor counts it as a close under way, and `run` does not
// return before it is over. So no task waits for a stale poll, and none is ever left behind.
//
// Callbacks of c-ares come from inside `ares_*` calls, also from the one that asks. They only note the answer; it is
// handed on by `settle`, after c-ares has returned, as the last thing done, because the listener may end the channel.

namespace torc::net::dns {

namespace {

Error failure(errc code, std::string sentence) { return Error{code, phase::resolve, "resolve", std::move(sentence)}; }

Error error_from_status(int status, int family) {
    switch (status) {
        case ARES_ENOTFOUND: return no_such_name();
        case ARES_ENODATA: return no_address(family);
        case ARES_ETIMEOUT: return failure(errc::resolver_failed, "the name servers did not answer");
        case ARES_ECONNREFUSED: return failure(errc::resolver_failed, "no name server could be reached");
        case ARES_ESERVFAIL:
            return failure(errc::resolver_failed, "the name servers could not find out (they answered SERVFAIL)");
        case ARES_EREFUSED: return failure(errc::resolver_failed, "the name servers refused to answer");
        case ARES_ENOTIMP: return failure(errc::resolver_failed, "the name servers do not answer such questions");
        case ARES_EFORMERR: return failure(errc::resolver_failed, "the name servers did not understand the question");
        case ARES_EBADRESP: return failure(errc::resolver_failed, "the name servers' answer makes no sense");
        case ARES_EBADNAME: return failure(errc::invalid_argument, "this can not be the name of a host");
        case ARES_ENOMEM: return failure(errc::resolver_failed, "out of memory");
        default: return failure(errc::resolver_failed, ares_strerror(status));
    }
}

DnsAnswer answer_from(const ares_addrinfo& info, int family) {
    std::vector<Address> addresses;
    int ttl_seconds = std::numeric_limits<int>::max();
    for (const ares_addrinfo_node* node = info.nodes; node != nullptr; node = node->ai_next) {
        const Address address = Address::from_sockaddr(node->ai_addr, static_cast<std::size_t>(node->ai_addrlen));
        if (address.empty() || std::find(addresses.begin(), addresses.end(), address) != addresses.end()) continue;
        addresses.push_back(address.with_port(0));
        ttl_seconds = std::min(ttl_seconds, node->ai_ttl);
    }
    for (const ares_addrinfo_cname* alias = info.cnames; alias != nullptr; alias = alias->next) {
        ttl_seconds = std::min(ttl_seconds, alias->ttl);
    }
    if (addresses.empty()) return {std::unexpected{error_from_status(ARES_ENODATA, family)}};
    return {std::move(addresses), std::chrono::seconds{std::max(ttl_seconds, 0)}};
}

Error cannot_start(int status) {
    return failure(errc::resolver_failed, std::string{"the resolver can not start: "} + ares_strerror(status));
}

void start(ares_channel& channel, ares_options& options, int given) {
    static const int library = ares_library_init(ARES_LIB_INIT_ALL);
    const int status = library != ARES_SUCCESS ? library : ares_init_options(&channel, &options, given);
    if (status != ARES_SUCCESS) throw cannot_start(status);
}

}  // namespace

Error no_such_name() { return failure(errc::not_found, "no such name"); }

Error no_address(int family) {
    return failure(errc::not_found,
                   family == AF_INET ? "the name has no IPv4 address" : "the name has no IPv6 address");
}

/// A socket of c-ares's with its poll. Owned by its channel until c-ares closes it, then, while the poll is at the
/// driver, by itself.
class DnsSocket {
   public:
    DnsSocket(DnsChannel& channel, int fd, bool datagrams)
        : datagrams_(datagrams), channel_(&channel), executor_(channel.executor_), file_{fd, false} {
        poll_.socket = close_.socket = this;
        executor_.driver().opened_outside();
    }
    [[nodiscard]] int fd() const noexcept { return file_.value; }
    [[nodiscard]] bool datagrams() const noexcept { return datagrams_; }

    void want(bool readable, bool writable) noexcept { wanted_ = (readable ? POLLIN : 0) | (writable ? POLLOUT : 0); }

    /// Makes the driver watch what is wanted. A poll for something else ends first and is then replaced.
    void watch() noexcept {
        if (poll_.state != op_state::idle) {
            if (poll_.flags != wanted_) executor_.driver().cancel(poll_);
            return;
        }
        if (wanted_ == 0) return;
        poll_.flags = wanted_;
        executor_.driver().submit(poll_);
    }

    /// Closes through the driver, once the poll has ended, and then frees this object.
    void close() noexcept {
        channel_ = nullptr;
        executor_.close_began(nullptr);
        if (poll_.state == op_state::idle) {
            executor_.driver().submit(close_);
        } else {
            executor_.driver().cancel(poll_);
        }
    }

   private:
    struct Owned : operation {
        using operation::operation;
        DnsSocket* socket = nullptr;
    };
    ~DnsSocket() = default;

    static void completed(operation& op) noexcept { static_cast<Owned&>(op).socket->polled(op.result); }
    static void closed(operation& op) noexcept {
        DnsSocket* const self = static_cast<Owned&>(op).socket;
        Executor& executor = self->executor_;
        delete self;
        executor.close_ended(nullptr, true);
    }

    void polled(int result) noexcept {
        if (channel_ == nullptr) return executor_.driver().submit(close_);
        if (result == -ECANCELED) return watch();
        // A poll that failed is shown to c-ares as readiness: the read that follows says what is wrong.
        const bool broken = result < 0 || (result & (POLLERR | POLLHUP | POLLNVAL)) != 0;
        const bool readable = broken || (result & POLLIN) != 0;
        const bool writable = (wanted_ & POLLOUT) != 0 && (broken || (result & POLLOUT) != 0);
        channel_->process(readable ? file_.value : -1, writable ? file_.value : -1);  // may free this object
    }

    bool datagrams_;
    DnsChannel* channel_;
    Executor& executor_;
    descriptor file_;
    Owned poll_{op_kind::poll, &file_, completed};
    Owned close_{op_kind::close, &file_, closed};
    int wanted_ = 0;
};

/// What c-ares calls.
struct DnsChannel::Callbacks {
    static DnsChannel& channel(void* data) noexcept { return *static_cast<DnsChannel*>(data); }

    static std::vector<DnsSocket*>::iterator find(std::vector<DnsSocket*>& among, int fd) noexcept {
        return std::find_if(among.begin(), among.end(), [fd](DnsSocket* socket) { return socket->fd() == fd; });
    }

    static ares_socket_t open(int family, int type, int protocol, void* data) noexcept {
        const int fd = ::socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, protocol);
        if (fd < 0) {
            if (is_shortage(errno)) channel(data).shortage_ = errno;
            return ARES_SOCKET_BAD;
        }
        try {
            std::vector<DnsSocket*>& open_ones = channel(data).sockets_;
            open_ones.reserve(open_ones.size() + 1);
            open_ones.push_back(new DnsSocket{channel(data), fd, (type & SOCK_DGRAM) != 0});
            return fd;
        } catch (const std::bad_alloc&) {
            ::close(fd);
            errno = channel(data).shortage_ = ENOMEM;
            return ARES_SOCKET_BAD;
        }
    }
    static int close(ares_socket_t fd, void* data) noexcept {
        std::vector<DnsSocket*>& open_ones = channel(data).sockets_;
        const auto at = find(open_ones, fd);
        TORC_ASSERT(at != open_ones.end(), "c-ares closed a socket that it did not open");
        DnsSocket* const socket = *at;
        open_ones.erase(at);
        socket->close();
        return 0;
    }
    static int connect(ares_socket_t fd, const sockaddr* address, ares_socklen_t size_bytes, void*) noexcept {
        return ::connect(fd, address, size_bytes);
    }
    static ares_ssize_t receive(ares_socket_t fd, void* buffer, std::size_t size_bytes, int flags, sockaddr* from,
                                ares_socklen_t* from_bytes, void* data) noexcept {
        const ssize_t received = ::recvfrom(fd, buffer, size_bytes, flags, from, from_bytes);
        constexpr ssize_t header_bytes = 12;
        if (received >= header_bytes && is_datagram_socket(fd, data)) {
            channel(data).last_rcode_ = static_cast<const unsigned char*>(buffer)[3] & 0xf;
        }
        return received;
    }
    static ares_ssize_t send(ares_socket_t fd, const iovec* parts, int count, void* data) noexcept {
        msghdr message{};
        message.msg_iov = const_cast<iovec*>(parts);
        message.msg_iovlen = static_cast<std::size_t>(count);
        const ssize_t sent = ::sendmsg(fd, &message, MSG_NOSIGNAL);
        if (sent >= 0 || errno != ECONNREFUSED || !is_datagram_socket(fd, data)) return sent;
        // That was the fate of the datagram before, and is now forgotten by the kernel: c-ares 1.18 would blame this
        // question and let the earlier one wait for its time-out. Sent again, both fail by the read that follows.
        return ::sendmsg(fd, &message, MSG_NOSIGNAL);
    }
    static bool is_datagram_socket(int fd, void* data) noexcept {
        std::vector<DnsSocket*>& open_ones = channel(data).sockets_;
        const auto at = find(open_ones, fd);
        return at != open_ones.end() && (*at)->datagrams();
    }
    static constexpr ares_socket_functions sockets{open, close, connect, receive, send};

    static void state_changed(void* data, ares_socket_t fd, int readable, int writable) noexcept {
        std::vector<DnsSocket*>& open_ones = channel(data).sockets_;
        if (const auto at = find(open_ones, fd); at != open_ones.end()) (*at)->want(readable != 0, writable != 0);
    }

    static void answered(void* data, int status, int, ares_addrinfo* info) noexcept {
        DnsChannel& self = channel(data);
        const std::unique_ptr<ares_addrinfo, void (*)(ares_addrinfo*)> owned{info, ares_freeaddrinfo};
        if (self.listener_ == nullptr) return;  // dropped
        self.answered_ = true;
        try {
            if (status != ARES_SUCCESS || info == nullptr) {
                self.answer_ = DnsAnswer{std::unexpected{self.failure_of(status)}};
            } else {
                self.answer_ = answer_from(*info, self.family_);
            }
        } catch (const std::bad_alloc&) {
            self.answer_.reset();
        }
    }
};

DnsChannel::DnsChannel(Executor& executor, const ResolverOptions& options) : Timer(timer_fired), executor_(executor) {
    std::string list;
    for (const Address& server : options.servers) list += (list.empty() ? "" : ",") + server.to_string();
    ares_options wanted{};
    int given = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_LOOKUPS | ARES_OPT_SOCK_STATE_CB;
    wanted.timeout = static_cast<int>(options.timeout.count());
    wanted.tries = options.tries;
#ifdef ARES_OPT_MAXTIMEOUTMS
    // Newer releases learn how long a server takes, and wait for no less than a quarter of a second. Older ones wait
    // twice as long with each try; the last of these waits is the longest that there may be.
    given |= ARES_OPT_MAXTIMEOUTMS;
    wanted.maxtimeout = wanted.timeout << (std::clamp(options.tries, 1, 8) - 1);
#endif
    char lookups[] = "b";  // the hosts file is read by HostsFile
    wanted.lookups = lookups;
    wanted.sock_state_cb = Callbacks::state_changed;
    wanted.sock_state_cb_data = this;
    std::string resolv_conf = options.resolv_conf;
    wanted.resolvconf_path = resolv_conf.data();
    given |= ARES_OPT_RESOLVCONF;
    given |= ARES_OPT_DOMAINS;  // none: see search_list.cpp
#ifdef ARES_OPT_QUERY_CACHE
    given |= ARES_OPT_QUERY_CACHE;  // off: the resolver has a cache, on the executor's clock
    wanted.qcache_max_ttl = 0;
#endif
    start(ares_, wanted, given);
    if (!options.servers.empty()) {
        const int status = ares_set_servers_ports_csv(ares_, list.c_str());
        if (status != ARES_SUCCESS) {
            ares_destroy(ares_);
            throw cannot_start(status);
        }
    }
    ares_set_socket_functions(ares_, &Callbacks::sockets, this);
}

/// When every server refused the question, c-ares 1.18 calls that unreachable; what the last one answered says more.
int DnsChannel::cause(int status) const noexcept {
    if (status != ARES_ECONNREFUSED) return status;
    switch (last_rcode_) {
        case 1: return ARES_EFORMERR;  // RFC 1035 section 4.1.1
        case 2: return ARES_ESERVFAIL;
        case 4: return ARES_ENOTIMP;
        case 5: return ARES_EREFUSED;
        default: return status;
    }
}

/// What kept the question from being asked counts, unless a server answered it all the same.
Error DnsChannel::failure_of(int status) const {
    Error error = error_from_status(cause(status), family_);
    if (shortage_ == 0 || error.code() == errc::not_found) return error;
    return Error{std::error_code{shortage_, std::generic_category()}, phase::resolve, "resolve"};
}

DnsChannel::~DnsChannel() {
    listener_ = nullptr;
    ares_destroy(ares_);
    if (armed()) executor_.timers().disarm(*this);
    TORC_ASSERT(sockets_.empty(), "c-ares left a socket open");
}

void DnsChannel::ask(const std::string& host, int family, Listener& listener) noexcept {
    TORC_ASSERT(listener_ == nullptr, "a name was asked for while the channel was busy");
    listener_ = &listener;
    family_ = family;
    last_rcode_ = 0;
    shortage_ = 0;
    ares_addrinfo_hints hints{};
    hints.ai_family = family;
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = ARES_AI_NOSORT;  // that is done with the addresses of both families together
    ares_getaddrinfo(ares_, host.c_str(), nullptr, &hints, Callbacks::answered, this);
    settle();
}

void DnsChannel::abandon() noexcept {
    listener_ = nullptr;
    answer_.reset();
    answered_ = false;
    ares_cancel(ares_);
    if (armed()) executor_.timers().disarm(*this);
}

void DnsChannel::process(int readable, int writable) noexcept {
    ares_process_fd(ares_, readable < 0 ? ARES_SOCKET_BAD : readable, writable < 0 ? ARES_SOCKET_BAD : writable);
    settle();
}

/// After every call into c-ares: does what it now wants, then hands on the answer if there is one.
void DnsChannel::settle() noexcept {
    for (DnsSocket* const socket : sockets_) socket->watch();
    arm_timer();
    if (!std::exchange(answered_, false)) return;
    Listener& listener = *std::exchange(listener_, nullptr);
    std::optional<DnsAnswer> answer = std::exchange(answer_, std::nullopt);
    listener.answered(std::move(answer));
}

void DnsChannel::arm_timer() noexcept {
    if (armed()) executor_.timers().disarm(*this);
    timeval left{};
    if (ares_timeout(ares_, nullptr, &left) == nullptr) return;
    // c-ares rounds in its own way; a millisecond more saves waking up just before its time has come.
    const auto wait = std::chrono::seconds{left.tv_sec} + std::chrono::microseconds{left.tv_usec};
    executor_.timers().arm(*this, executor_.now() + wait + std::chrono::milliseconds{1});
}

void DnsChannel::timer_fired(Timer& timer) noexcept { static_cast<DnsChannel&>(timer).process(-1, -1); }

}  // namespace torc::net::dns
