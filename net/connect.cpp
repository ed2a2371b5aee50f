#include <torc/net/stream.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <array>
#include <cerrno>
#include <optional>

#include <torc/runtime/as_result.hpp>
#include <torc/runtime/timeout.hpp>

#include "connect_error.hpp"

// Theory of operation. Opening a connection to one address is one chain: socket, options, connect; one submission and
// one wake-up where the driver can chain behind the opening of a descriptor, one step after the other where it can not.
// A connect that finished although it was cancelled is delivered; whoever drops the stream then closes it. The limit of
// time lies around that one wait.

namespace torc::net {
namespace {

/// Opens and connects the socket of a record.
class connect_awaitable;

struct connect_step : operation {
    connect_awaitable* owner = nullptr;
};

class connect_awaitable final : public torc::detail::leaf {
   public:
    connect_awaitable(SocketRecord& socket, const ConnectOptions& options) noexcept
        : socket_(socket), options_(options) {}
    /// Only before it is awaited.
    connect_awaitable(connect_awaitable&& other) noexcept : connect_awaitable(other.socket_, other.options_) {}

    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        if (!enter(self.promise())) return false;
        plan();
        chained_ = driver().chains_open();
        if (chained_) {
            for (std::size_t index = 0; index + 1 < count_; ++index) step_at(index).chain = &step_at(index + 1);
        }
        driver().submit(step_at(0));
        return true;
    }
    /// For as_result.
    torc::result<void> take() const {
        throw_if_cancelled();
        for (std::size_t index = 0; index < count_; ++index) {
            const connect_step& each = (*steps_)[index];
            if (each.result >= 0 || each.kind == op_kind::set_option) continue;
            if (each.result == -ECANCELED && cancelling_) throw torc::cancelled{};
            return std::unexpected{connect_error({-each.result, std::generic_category()}, socket_.peer())};
        }
        return {};
    }
    void await_resume() const {
        auto connected = take();
        if (!connected) torc::detail::throw_error(std::move(connected).error(), task_);
    }
    void cancel() noexcept override {
        cancelling_ = true;
        for (std::size_t index = 0; index < count_; ++index) driver().cancel(step_at(index));
    }
    [[nodiscard]] std::string describe() const override { return "connect to " + socket_.peer().to_string(); }

   private:
    Driver& driver() noexcept { return socket_.executor().driver(); }
    connect_step& step_at(std::size_t index) noexcept { return (*steps_)[index]; }

    void plan() noexcept {
        steps_.emplace();
        const Address& peer = socket_.peer();
        connect_step& open = add(op_kind::socket, op_link::soft);
        open.flags = peer.family();
        open.length = SOCK_STREAM;
        if (!peer.is_unix() && options_.no_delay) add_option(IPPROTO_TCP, TCP_NODELAY);
        if (!peer.is_unix() && options_.keep_alive) add_option(SOL_SOCKET, SO_KEEPALIVE);
        connect_step& connect = add(op_kind::connect, op_link::none);
        connect.address = const_cast<sockaddr*>(peer.data());
        connect.length = peer.size();
    }
    connect_step& add(op_kind what, op_link link) noexcept {
        connect_step& added = step_at(count_++);
        static_cast<operation&>(added) = operation{what, &socket_.file(), step_done};
        added.link = link;
        added.owner = this;
        return added;
    }
    void add_option(int level, int name) noexcept {
        static const int on = 1;
        connect_step& option = add(op_kind::set_option, op_link::hard);  // without it the connection works all the same
        option.offset = static_cast<std::uint64_t>(level) << 32 | static_cast<std::uint32_t>(name);
        option.address = const_cast<int*>(&on);
        option.length = sizeof on;
    }

    static void step_done(operation& op) noexcept {
        connect_awaitable& self = *static_cast<connect_step&>(op).owner;
        const auto index = static_cast<std::size_t>(static_cast<connect_step*>(&op) - self.steps_->data());
        const bool last = index + 1 == self.count_;
        if (self.chained_) {
            // A cancel that found this step finished has to be repeated for the one it let begin.
            if (!last && self.cancelling_) self.driver().cancel(self.step_at(index + 1));
            if (++self.done_ == self.count_) self.ready();
        } else if (last || (op.result < 0 && op.link == op_link::soft)) {
            self.ready();
        } else if (self.cancelling_) {
            for (std::size_t later = index + 1; later < self.count_; ++later) self.step_at(later).result = -ECANCELED;
            self.ready();
        } else {
            self.driver().submit(self.step_at(index + 1));
        }
    }

    SocketRecord& socket_;
    const ConnectOptions& options_;
    std::optional<std::array<connect_step, 4>> steps_;  // from its beginning on: until then it may move, and is light
    std::size_t count_ = 0;
    std::size_t done_ = 0;
    bool chained_ = false;
    bool cancelling_ = false;
};

/// Put together here, not where it is awaited: there each step would take a place in the frame.
auto connect_within(SocketRecord& socket, const ConnectOptions& options) {
    return as_result(with_timeout(options.timeout, connect_awaitable{socket, options}));
}

template <class Stream>
task<Stream> connect_one(Address address, ConnectOptions options) {
    Stream stream = Stream::adopt(Executor::here(), {}, address);
    auto connected = co_await connect_within(stream.record(), options);
    if (connected) co_return stream;
    if (connected.error().code() == errc::timed_out) throw connect_error(make_error_code(errc::timed_out), address);
    throw std::move(connected).error();
}

}  // namespace

Error connect_error(std::error_code code, const Address& peer) {
    Error error{code, phase::connect, "connect"};
    error.with_peer(peer.to_string());
    return error;
}

task<TcpStream> TcpStream::connect(Address address, ConnectOptions options) {
    return connect_one<TcpStream>(address, options);
}

task<UnixStream> UnixStream::connect(Address address, ConnectOptions options) {
    return connect_one<UnixStream>(address, options);
}

}  // namespace torc::net
