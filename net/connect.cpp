#include <torc/net/stream.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <optional>

#include <torc/net/happy_eyeballs.hpp>
#include <torc/net/resolver.hpp>
#include <torc/runtime/as_result.hpp>
#include <torc/runtime/event.hpp>
#include <torc/runtime/scope.hpp>
#include <torc/runtime/timeout.hpp>

// Theory of operation. Opening a connection is one chain: socket, options, connect; one submission and one wake-up
// where the driver can chain behind the opening of a descriptor, one step after the other where it can not. A connect
// that finished although it was cancelled is delivered; whoever drops the stream then closes it.

namespace torc::net {
namespace {

/// Opens and connects the socket of a record.
class connect_awaitable final : public torc::detail::leaf {
   public:
    connect_awaitable(SocketRecord& socket, const ConnectOptions& options) noexcept : socket_(socket) {
        const Address& peer = socket.peer();
        step& open = add(op_kind::socket, op_link::soft);
        open.flags = peer.family();
        open.length = SOCK_STREAM;
        if (!peer.is_unix() && options.no_delay) add_option(IPPROTO_TCP, TCP_NODELAY);
        if (!peer.is_unix() && options.keep_alive) add_option(SOL_SOCKET, SO_KEEPALIVE);
        step& connect = add(op_kind::connect, op_link::none);
        connect.address = const_cast<sockaddr*>(peer.data());
        connect.length = peer.size();
    }

    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        if (!enter(self.promise())) return false;
        chained_ = driver().chains_open();
        if (chained_) {
            for (std::size_t index = 0; index + 1 < count_; ++index) steps_[index].chain = &steps_[index + 1];
        }
        driver().submit(steps_[0]);
        return true;
    }
    /// The negative errno of the step that failed, or 0.
    int await_resume() const {
        throw_if_cancelled();
        for (std::size_t index = 0; index < count_; ++index) {
            const step& each = steps_[index];
            if (each.result >= 0 || each.kind == op_kind::set_option) continue;
            if (each.result == -ECANCELED && cancelling_) throw torc::cancelled{};
            return each.result;
        }
        return 0;
    }
    void cancel() noexcept override {
        cancelling_ = true;
        for (std::size_t index = 0; index < count_; ++index) driver().cancel(steps_[index]);
    }
    [[nodiscard]] std::string describe() const override { return "connect to " + socket_.peer().to_string(); }

   private:
    struct step : operation {
        connect_awaitable* owner = nullptr;
    };

    Driver& driver() noexcept { return socket_.executor().driver(); }

    step& add(op_kind what, op_link link) noexcept {
        step& added = steps_[count_++];
        static_cast<operation&>(added) = operation{what, &socket_.file(), step_done};
        added.link = link;
        added.owner = this;
        return added;
    }
    void add_option(int level, int name) noexcept {
        static const int on = 1;
        step& option = add(op_kind::set_option, op_link::hard);  // without it the connection works all the same
        option.offset = static_cast<std::uint64_t>(level) << 32 | static_cast<std::uint32_t>(name);
        option.address = const_cast<int*>(&on);
        option.length = sizeof on;
    }

    static void step_done(operation& op) noexcept {
        connect_awaitable& self = *static_cast<step&>(op).owner;
        const auto index = static_cast<std::size_t>(static_cast<step*>(&op) - self.steps_.data());
        const bool last = index + 1 == self.count_;
        if (self.chained_) {
            // A cancel that found this step finished has to be repeated for the one it let begin.
            if (!last && self.cancelling_) self.driver().cancel(self.steps_[index + 1]);
            if (++self.done_ == self.count_) self.ready();
        } else if (last || (op.result < 0 && op.link == op_link::soft)) {
            self.ready();
        } else if (self.cancelling_) {
            self.steps_[index + 1].result = -ECANCELED;
            self.ready();
        } else {
            self.driver().submit(self.steps_[index + 1]);
        }
    }

    SocketRecord& socket_;
    std::array<step, 4> steps_;
    std::size_t count_ = 0;
    std::size_t done_ = 0;
    bool chained_ = false;
    bool cancelling_ = false;
};

Error connect_error(std::error_code code, const Address& peer) {
    Error error{code, phase::connect, "connect"};
    error.with_peer(peer.to_string());
    return error;
}

template <class Stream>
task<Stream> connect_without_limit(Address address, ConnectOptions options) {
    Stream stream = Stream::adopt(Executor::here(), {}, address);
    connect_awaitable connecting{stream.record(), options};
    const int result = co_await connecting;
    if (result < 0) throw connect_error({-result, std::generic_category()}, address);
    co_return stream;
}

/// What the attempts of one happy-eyeballs connect share.
struct Attempts {
    std::optional<TcpStream> winner;
    std::vector<std::optional<Error>> errors;  // of each address that failed
    std::size_t failed = 0;
    event progress;
};

task<> attempt(Attempts& all, std::size_t index, Address address, ConnectOptions options, scope& attempts) {
    auto connected = co_await as_result(connect_without_limit<TcpStream>(address, options));
    if (!connected) {
        all.errors[index] = std::move(connected).error();
        ++all.failed;
    } else if (!all.winner) {
        all.winner.emplace(std::move(*connected));
        attempts.cancel();
    }
    all.progress.set();
}

task<> attempt_each(Attempts& all, const std::vector<Address>& addresses, const ConnectOptions& options,
                    scope& attempts) {
    for (std::size_t index = 0; index < addresses.size() && !all.winner; ++index) {
        all.progress.reset();
        const std::size_t failed_before = all.failed;
        attempts.spawn(attempt(all, index, addresses[index], options, attempts));
        if (index + 1 == addresses.size() || all.winner || all.failed > failed_before) continue;
        // The next one begins when this one has failed, or has kept us waiting for long enough.
        static_cast<void>(co_await as_result(with_timeout(options.attempt_delay, all.progress.wait())));
    }
}

task<TcpStream> connect_any(std::vector<Address> addresses, ConnectOptions options) {
    Attempts all;
    all.errors.resize(addresses.size());
    co_await with_scope([&](scope& attempts) { return attempt_each(all, addresses, options, attempts); });
    if (all.winner) co_return std::move(*all.winner);
    Error error = *all.errors.front();
    for (std::size_t index = 1; index < all.errors.size(); ++index) {
        error.attach(std::make_exception_ptr(*all.errors[index]));
    }
    throw error;
}

/// Applies the limit for all attempts, in the words of a connect.
template <class Stream>
task<Stream> limited(std::chrono::nanoseconds limit, Address first, task<Stream> connecting) {
    auto connected = co_await as_result(with_timeout(limit, std::move(connecting)));
    if (connected) co_return std::move(*connected);
    if (connected.error().code() == errc::timed_out) throw connect_error(make_error_code(errc::timed_out), first);
    throw std::move(connected).error();
}

}  // namespace

task<TcpStream> TcpStream::connect(Address address, ConnectOptions options) {
    return limited(options.timeout, address, connect_without_limit<TcpStream>(address, options));
}

task<TcpStream> TcpStream::connect(std::vector<Address> addresses, ConnectOptions options) {
    TORC_ASSERT(!addresses.empty(), "connecting needs at least one address");
    const Address first = addresses.front();
    return limited(options.timeout, first, connect_any(std::move(addresses), options));
}

task<UnixStream> UnixStream::connect(Address address, ConnectOptions options) {
    return limited(options.timeout, address, connect_without_limit<UnixStream>(address, options));
}

task<TcpStream> TcpStream::connect(std::string host, std::uint16_t port, ConnectOptions options) {
    std::vector<Address> addresses = co_await Resolver::of(Executor::here()).resolve(std::move(host), port);
    task<TcpStream> connecting = connect(interleave(addresses), options);
    co_return co_await std::move(connecting);
}

}  // namespace torc::net
