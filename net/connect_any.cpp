#include <optional>
#include <vector>

#include <torc/net/resolver.hpp>
#include <torc/net/stream.hpp>
#include <torc/runtime/as_result.hpp>
#include <torc/runtime/event.hpp>
#include <torc/runtime/scope.hpp>
#include <torc/runtime/timeout.hpp>

#include "connect_error.hpp"

// Theory of operation. RFC 8305, 5. Attempts are children of one scope. Its body takes the next address, starts an
// attempt, and waits until one has failed or the attempt delay is over; when no address is left it waits for those that
// are still looked up. The attempt that wins cancels the scope, and with it the body and all other attempts. What was
// not looked up by then is dropped with the resolution, in the frame of `connect`.
//
// The limit of time lies around the scope and inside `connect_any`, which can therefore still say what became of each
// attempt. Where all is known and there is one address, there is nothing to choose: that one attempt is the connect.

namespace torc::net {
namespace {

class Attempts {
   public:
    Attempts(Resolution& names, const ConnectOptions& options) noexcept : names_(names), options_(options) {
        options_.timeout = Clock::duration::max();  // of each attempt
    }

    task<> run(scope& here) {
        for (;;) {
            if (names_.addresses().empty()) co_await names_.more();
            const std::optional<Address> address = names_.next();
            if (!address) co_return;  // those under way decide
            const std::size_t ended_before = ended_;
            ends_.push_back({*address, std::nullopt});
            here.spawn(attempt(ends_.size() - 1, here));
            if (winner || (names_.addresses().empty() && names_.settled())) co_return;
            if (ended_ > ended_before) continue;
            static_cast<void>(co_await as_result(with_timeout(options_.attempt_delay, next_end(ended_before))));
        }
    }

    /// Why there is no winner: what the time limit cut short, or else the first attempt's failure. Attached are all
    /// other attempts, and why there may be more addresses.
    [[nodiscard]] Error failure() const {
        std::optional<Error> first;
        const auto add = [&first](Error error) {
            if (!first) {
                first = std::move(error);
            } else {
                first->attach(std::make_exception_ptr(std::move(error)));
            }
        };
        for (const End& end : ends_) {
            if (!end.error) add(connect_error(make_error_code(errc::timed_out), end.address));
        }
        for (const End& end : ends_) {
            if (end.error) add(*end.error);
        }
        for (Error& error : names_.missing()) add(std::move(error));
        TORC_ASSERT(first, "connecting needs at least one address");
        return std::move(*first);
    }

    std::optional<TcpStream> winner;

   private:
    struct End {
        Address address;
        std::optional<Error> error;  // none while it is under way
    };

    task<> attempt(std::size_t index, scope& here) {
        auto connected = co_await as_result(TcpStream::connect(ends_[index].address, options_));
        if (!connected) {
            ends_[index].error = std::move(connected).error();
        } else if (!winner) {
            winner.emplace(std::move(*connected));
            here.cancel();
        }
        ++ended_;
        an_end_.set();
    }

    task<> next_end(std::size_t ended_before) {
        while (ended_ == ended_before) {
            an_end_.reset();
            co_await an_end_.wait();
        }
    }

    Resolution& names_;
    ConnectOptions options_;
    std::vector<End> ends_;
    std::size_t ended_ = 0;
    event an_end_;
};

task<TcpStream> connect_any(Resolution names, ConnectOptions options) {
    co_await names.usable(options.resolution_delay);
    Attempts all{names, options};
    auto run = with_scope([&all](scope& here) { return all.run(here); });
    static_cast<void>(co_await as_result(with_timeout(options.timeout, std::move(run))));
    if (all.winner) co_return std::move(*all.winner);
    throw all.failure();
}

}  // namespace

task<TcpStream> TcpStream::connect(Resolution names, ConnectOptions options) {
    if (const Address* const only = names.only()) return connect(*only, options);
    return connect_any(std::move(names), options);
}

task<TcpStream> TcpStream::connect(std::vector<Address> addresses, ConnectOptions options) {
    return connect(Resolution{std::move(addresses)}, options);
}

task<TcpStream> TcpStream::connect(std::string host, std::uint16_t port, ConnectOptions options) {
    task<TcpStream> connecting = connect(Resolver::of(Executor::here()).look_up(std::move(host), port), options);
    co_return co_await std::move(connecting);
}

}  // namespace torc::net
