#include "session_state.hpp"

#include <algorithm>

#include <torc/net/resolver.hpp>
#include <torc/net/tls_error.hpp>

#include <torc/http/method.hpp>
#include <torc/http/status.hpp>

// Theory of operation. A request is a loop over redirects; each step sends on the connection that is there, if it leads
// to the same origin and is still alive, or opens one. A kept connection may die at the moment it is used; if nothing
// of an answer came and the request may be repeated (RFC 9110, 9.2.2), it is sent once more on a fresh one.
//
// One reading of the clock ends a phase and begins the next, so that the parts of a request make the whole; a limit of
// time is a point in time that lies behind the beginning of its phase.
//
// session_exchange.cpp sends a request and reads the head of its response, session_body.cpp reads the body.

namespace torc::http {
namespace {

/// The context of sessions that bring none: one for each executor, because the trust store is dear to load.
const net::TlsContext& default_context(Executor& executor) {
    static const char key = 0;
    std::shared_ptr<void>& service = executor.service(&key);
    if (!service) service = std::make_shared<net::TlsContext>(net::TlsContext::client());
    return *static_cast<const net::TlsContext*>(service.get());
}

}  // namespace

/// Awaits `open` so that `close` can end it, with `errc::closed`.
class SessionState::Opening final : public torc::detail::child_group {
   public:
    explicit Opening(SessionState& session) : child_group("opening"), session_(session), open_(session.open()) {}
    Opening(const Opening&) = delete;
    Opening& operator=(const Opening&) = delete;
    ~Opening() {
        session_.opening_ = nullptr;
        session_.not_opening_.set();
    }

    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        session_.opening_ = this;
        session_.not_opening_.reset();
        child_group::open(*self.promise().executor, &self.promise());
        start(open_.state());
        return wait();
    }
    void await_resume() {
        const torc::detail::task_state& opened = open_.state();
        const bool cancelled_here = opened.ended == torc::detail::outcome::cancelled && !outer_cancelled();
        if (cancelled_here) session_.require_not_closed(phase::connect);
        torc::detail::rethrow_end(opened);
        session_.require_not_closed(phase::connect);
    }

   private:
    void child_finished(torc::detail::task_state&) noexcept override {}

    SessionState& session_;
    task<> open_;
};

SessionState::SessionState(Url&& where, SessionOptions&& chosen) : url(std::move(where)), options(std::move(chosen)) {}

SessionState::Turn::Turn(SessionState& session, phase where) : session_(session) {
    session.require_not_closed(where);
    if (session.busy_) {
        throw Error{torc::errc::busy, where, "request", "another task is using the session at this moment"};
    }
    session.busy_ = true;
}

void SessionState::drop() noexcept {
    body_open_ = false;
    undecoded_ = {};
    connection_.reset();
}

void SessionState::require_not_closed(phase where) const {
    if (closed_) throw Error{torc::errc::closed, where, "request", "the session was closed"};
}

task<> SessionState::close() {
    closed_ = true;
    body_open_ = false;
    if (opening_ != nullptr) {
        opening_->cancel();
        co_await shield(Executor::here().options().close_grace, not_opening_.wait());
    }
    if (connection_ && !busy_) connection_->received.release();
    if (connection_) co_await connection_->transport.close();
}

/// The time since the phase before belongs to `part`.
void SessionState::end_phase(Clock::duration& part) {
    const Clock::time_point now = Clock::now();
    part += now - std::exchange(phase_began_, now);
}

/// When a phase that has just begun has lasted for `limit`, or the whole request for too long.
Clock::time_point SessionState::until(Clock::duration limit) const {
    return std::min(torc::detail::after(phase_began_, limit), deadline_);
}

/// Gives a time-out its words, and any error its phase and peer.
Error SessionState::described(Error error, phase where, Clock::duration limit) const {
    const bool connecting = error.where() == phase::connect && where == phase::connect;
    if (error.code() == torc::errc::timed_out && (error.where() == phase::none || connecting)) {
        const bool total = deadline_ <= Clock::now();
        std::string what = "timed out after " + torc::detail::in_seconds(total ? options.timeouts.total : limit);
        if (total) what += " in all";
        Error timed_out{torc::errc::timed_out, where, "", std::move(what)};
        timed_out.with_trace(std::string{error.trace()}).with_peer(error.peer());
        for (const std::exception_ptr& other : error.attached()) timed_out.attach(other);
        error = std::move(timed_out);
    }
    // The end of the stream, also when TLS notices it, belongs to the part of the conversation that is missing.
    if (error.where() == phase::none || error.code() == net::tls_errc::truncated) error.at(where);
    if (error.peer().empty() && !peer.empty()) error.with_peer(peer.to_string());
    return error;
}

task<Response&> SessionState::perform(Request request) {
    const Turn turn{*this, phase::send};
    if (body_open_) co_await end_previous();
    phase_began_ = Clock::now();
    deadline_ = torc::detail::after(phase_began_, options.timeouts.total);
    timings = {};
    redirects = 0;
    forward_credentials_ = true;
    if (!request.url.empty()) {
        auto target = url.resolve(request.url);
        if (!target) throw std::move(target).error();
        aim_at(std::move(*target));
    } else if (elsewhere_) {
        if (connection_ && !elsewhere_->same_origin(url)) drop();
        elsewhere_.reset();
    }
    do {
        if (body_open_) co_await end_previous();
        if (connection_ && !co_await still_usable()) drop();
        require_not_closed(phase::send);
        const bool repeatable = connection_ && is_idempotent_method(request.method) && !request.stream;
        if (connection_ && co_await exchange(request, repeatable) == attempt::answered) continue;
        require_not_closed(phase::connect);
        {
            Opening opening{*this};
            co_await opening;
        }
        co_await exchange(request, false);
    } while (redirected(request));
    co_return response;
}

/// Sets the target of the next request. A connection that leads elsewhere is of no use for it.
void SessionState::aim_at(Url target) {
    if (connection_ && !response_url().same_origin(target)) drop();
    elsewhere_ = std::move(target);
}

/// Whether the response is a redirect to follow: then the request is made the next one.
bool SessionState::redirected(Request& request) {
    if (!options.redirects.follow || !is_redirect(head.status)) return false;
    if (head.status != 303 && !head.headers.contains("Location")) return false;
    auto next =
        follow_redirect(request.method, response_url(), head.status, head.headers, redirects, options.redirects);
    if (!next) {
        drop();
        throw described(std::move(next).error(), phase::head);
    }
    if (next->keep_body && request.stream) {
        drop();
        throw Error{errc::bad_redirect, phase::head, "",
                    "the server redirects a request whose streamed body can not be sent again"};
    }
    strip_headers(request.headers, *next);
    if (!next->keep_body) {
        request.body.clear();
        request.stream.reset();
    }
    request.method = std::move(next->method);
    forward_credentials_ = forward_credentials_ && next->same_origin;
    aim_at(std::move(next->url));
    ++redirects;
    return true;
}

/// A connection to the origin of the present target, with what it takes to speak HTTP on it.
task<> SessionState::open() {
    const Url& target = response_url();
    peer = {};
    tls.reset();
    std::optional<net::Address> literal;
    std::optional<net::Resolution> names;
    if (target.is_ipv4() || target.is_ipv6()) {
        literal = net::Resolver::of(Executor::here()).literal(target.host(), target.port());
    }
    if (!literal) names = co_await resolve(target);
    peer = literal ? *literal : names->addresses().front();

    net::ConnectOptions connecting = options.connection;
    connecting.timeout = until(options.timeouts.connect) - phase_began_;
    // A request that is sent whole is one write with nothing before it: TCP_NODELAY changes nothing for it, and costs
    // an operation. Where there is more to write it is set then.
    const bool delays = connecting.no_delay && !target.secure();
    if (delays) connecting.no_delay = false;
    auto connect =
        literal ? net::TcpStream::connect(peer, connecting) : net::TcpStream::connect(std::move(*names), connecting);
    auto connected = co_await as_result(std::move(connect));
    if (!connected) throw described(std::move(connected).error(), phase::connect, options.timeouts.connect);
    peer = connected->peer();
    connected->record().keep_receiving(false);
    end_phase(timings.connect);

    Transport transport{std::move(*connected)};
    if (target.secure()) transport = co_await secure(std::move(*transport.plain()), target);
    Parser parser{Parser::role::response, Parser::Options{options.limits, true}};
    connection_.emplace(Connection{std::move(transport), std::move(parser), {}, delays});
}

/// The addresses of a host, as soon as there is one to begin with.
task<net::Resolution> SessionState::resolve(const Url& target) {
    net::Resolver& resolver = net::Resolver::of(Executor::here());
    net::Resolution names = resolver.look_up(std::string{target.host()}, target.port());
    const Clock::duration limit = options.timeouts.resolve;
    auto usable = co_await as_result(with_deadline(until(limit), names.usable(options.connection.resolution_delay)));
    // Addresses that were only waiting for better ones do when the time is over.
    if (!usable && names.addresses().empty()) throw described(std::move(usable).error(), phase::resolve, limit);
    end_phase(timings.resolve);
    co_return names;
}

task<Transport> SessionState::secure(net::TcpStream plain, const Url& target) {
    net::tls::ClientSide side;
    side.server_name = target.host();
    side.port = target.port();
    const net::TlsContext& context = options.tls ? *options.tls : default_context(Executor::here());
    const Clock::duration limit = options.timeouts.tls;
    auto secured = co_await as_result(
        with_deadline(until(limit), net::TlsStream::connect(std::move(plain), context, std::move(side))));
    if (!secured) throw described(std::move(secured).error(), phase::tls, limit);
    end_phase(timings.tls);
    tls = secured->info();
    co_return Transport{std::move(*secured)};
}

}  // namespace torc::http
