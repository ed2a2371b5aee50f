#include "session_state.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include <torc/net/resolver.hpp>
#include <torc/net/tls_error.hpp>
#include <torc/runtime/as_result.hpp>
#include <torc/runtime/timeout.hpp>

#include <torc/http/method.hpp>
#include <torc/http/status.hpp>

#include "request_head.hpp"

// Theory of operation. A request is a loop over redirects; each step sends on the connection that is there, if it leads
// to the same origin and is still alive, or opens one. A kept connection may die at the moment it is used; if nothing
// of an answer came and the request may be repeated (RFC 9110, 9.2.2), it is sent once more on a fresh one. Whether a
// kept connection is alive is asked of the kernel before each use, with a peek: an end of stream, or bytes that nobody
// asked for, which could otherwise be taken for the next answer.
//
// One reading of the clock ends a phase and begins the next, so that the parts of a request make the whole; a limit of
// time is a point in time that lies behind the beginning of its phase.

namespace torc::http {
namespace {

/// Rests of bodies up to this size, and that come within this time, are read to keep a connection; beyond, a new one is
/// cheaper.
constexpr std::uint64_t cheap_rest_bytes = 64 * 1024;
constexpr std::chrono::milliseconds cheap_rest_time{100};
constexpr std::size_t decoded_bytes = 16 * 1024;

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span{text}); }

class peek_awaitable final : public net::side_awaitable {
   public:
    explicit peek_awaitable(net::SocketRecord& socket) noexcept : side_awaitable(op_kind::receive, socket) {
        address = &byte_;
        length = 1;
        flags = MSG_PEEK | MSG_DONTWAIT;
    }
    int await_resume() const { return outcome(); }

   private:
    char byte_ = 0;
};

/// The context of sessions that bring none: one for each executor, because the trust store is dear to load.
const net::TlsContext& default_context(Executor& executor) {
    static const char key = 0;
    std::shared_ptr<void>& service = executor.service(&key);
    if (!service) service = std::make_shared<net::TlsContext>(net::TlsContext::client());
    return *static_cast<const net::TlsContext*>(service.get());
}

}  // namespace

/// Marks the session as taken while one of its coroutines runs.
class SessionState::Turn {
   public:
    Turn(SessionState& session, phase where) : session_(session) {
        session.require_not_closed(where);
        if (session.busy_) {
            throw Error{torc::errc::busy, where, "request", "another task is using the session at this moment"};
        }
        session.busy_ = true;
    }
    Turn(const Turn&) = delete;
    Turn& operator=(const Turn&) = delete;
    ~Turn() { session_.busy_ = false; }

   private:
    SessionState& session_;
};

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

void SessionState::drop() noexcept {
    body_open_ = false;
    undecoded_ = {};
    connection_.reset();
}

/// Drops the connection with the body that was not read to its end.
void SessionState::fail_body(Error why) noexcept {
    if (body_open_) body_failure_ = std::move(why);
    drop();
}

void SessionState::abandon_body(const char* why) noexcept {
    try {
        fail_body(Error{std::make_error_code(std::errc::operation_canceled), phase::body, "read", why});
    } catch (const std::bad_alloc&) {
        drop();
    }
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

/// Reads what is left of the response before, or drops the connection where that would cost more than a new one.
task<> SessionState::end_previous() {
    const Clock::time_point cheap_until = torc::detail::after(Clock::now(), cheap_rest_time);
    std::uint64_t rest_bytes = 0;
    while (body_open_ && rest_bytes <= cheap_rest_bytes) {
        auto piece = co_await as_result(with_deadline(cheap_until, read_body(false)));
        if (!piece) break;
        rest_bytes += piece->size();
    }
    if (body_open_) drop();
}

task<bool> SessionState::still_usable() {
    if (!connection_->transport.is_open() || !connection_->received.empty()) co_return false;
    peek_awaitable peek{connection_->transport.record()};
    const int seen = co_await peek;
    // Over TLS, tickets may wait; what they are is for the engine to say.
    co_return seen == -EAGAIN || (seen > 0 && connection_->transport.tls() != nullptr);
}

task<> SessionState::open() {
    const Url& target = response_url();
    const std::string host{target.host()};
    const std::uint16_t port = target.port();
    const Timeouts& limits = options.timeouts;
    peer = {};
    tls.reset();
    net::Resolver& resolver = net::Resolver::of(Executor::here());
    net::ConnectOptions connecting = options.connection;
    std::optional<net::Address> literal;
    if (target.is_ipv4() || target.is_ipv6()) literal = resolver.literal(host, port);
    std::optional<net::Resolution> names;
    if (!literal) {
        names = resolver.look_up(host, port);
        auto usable =
            co_await as_result(with_deadline(until(limits.resolve), names->usable(connecting.resolution_delay)));
        // Addresses that were only waiting for better ones do when the time is over.
        if (!usable && names->addresses().empty()) {
            throw described(std::move(usable).error(), phase::resolve, limits.resolve);
        }
        end_phase(timings.resolve);
    }
    peer = literal ? *literal : names->addresses().front();

    connecting.timeout = until(limits.connect) - phase_began_;
    // A request that is sent whole is one write with nothing before it: TCP_NODELAY changes nothing for it, and costs
    // an operation. Where there is more to write it is set then.
    const bool delays = connecting.no_delay && !target.secure();
    if (delays) connecting.no_delay = false;
    auto connect =
        literal ? net::TcpStream::connect(peer, connecting) : net::TcpStream::connect(std::move(*names), connecting);
    auto connected = co_await as_result(std::move(connect));
    if (!connected) throw described(std::move(connected).error(), phase::connect, limits.connect);
    peer = connected->peer();
    connected->record().keep_receiving(false);
    end_phase(timings.connect);

    Parser parser{Parser::role::response, Parser::Options{options.limits, true}};
    if (!target.secure()) {
        connection_.emplace(Connection{Transport{std::move(*connected)}, std::move(parser), {}, delays});
        co_return;
    }
    net::tls::ClientSide side;
    side.server_name = host;
    side.port = port;
    const net::TlsContext& context = options.tls ? *options.tls : default_context(Executor::here());
    auto secured = co_await as_result(
        with_deadline(until(limits.tls), net::TlsStream::connect(std::move(*connected), context, std::move(side))));
    if (!secured) throw described(std::move(secured).error(), phase::tls, limits.tls);
    end_phase(timings.tls);
    tls = secured->info();
    connection_.emplace(Connection{Transport{std::move(*secured)}, std::move(parser), {}});
}

/// Sends the request and reads the head of its response.
task<SessionState::attempt> SessionState::exchange(Request& request, bool may_repeat) {
    struct DropUnlessAnswered {
        SessionState& session;
        bool answered = false;
        ~DropUnlessAnswered() {
            if (!answered) session.drop();
        }
    } guard{*this};
    Connection& connection = *connection_;
    const Timeouts& limits = options.timeouts;
    const bool reused = std::exchange(connection.used, true);
    torc::detail::pooled_string out;
    auto written = append_request(out, response_url(), request, options, forward_credentials_);
    if (!written) throw std::move(written).error().at(phase::send);
    connection.parser.expect_response_to(request.method);

    const std::string_view body = request.stream ? std::string_view{} : request.body;
    auto sent =
        co_await as_result(with_deadline(until(limits.send), connection.transport.send(bytes_of(out), bytes_of(body))));
    if (!sent) sent = std::unexpected{described(std::move(sent).error(), phase::send, limits.send)};
    if (sent && request.stream) sent = co_await send_stream(*request.stream);
    end_phase(timings.send);
    // A server may answer before it has read everything, and close: the answer counts, not the broken pipe.
    const bool broken = !sent && is_gone(sent.error());
    if (!sent && !broken) throw std::move(sent).error();

    const Clock::time_point head_until = until(limits.head);
    result<bool> whole = false;
    while (whole && !*whole) {
        auto received = co_await as_result(with_deadline(head_until, connection.transport.receive()));
        whole = received ? read_head(std::move(*received)) : std::unexpected{std::move(received).error()};
    }
    end_phase(timings.wait);
    if (!whole) {
        const bool nothing_came = !connection.parser.started();
        if (may_repeat && reused && nothing_came &&
            (is_gone(whole.error()) || whole.error().code() == errc::unexpected_eof)) {
            co_return attempt::connection_was_stale;
        }
        if (broken && nothing_came) throw described(std::move(sent).error(), phase::head);
        throw described(std::move(whole).error(), phase::head, limits.head);
    }
    guard.answered = true;
    begin_body();
    co_return attempt::answered;
}

task<result<void>> SessionState::send(std::string_view bytes) {
    const Clock::duration limit = options.timeouts.send;
    end_phase(timings.send);
    auto sent = co_await as_result(with_deadline(until(limit), connection_->transport.send(bytes)));
    if (!sent) sent = std::unexpected{described(std::move(sent).error(), phase::send, limit)};
    co_return sent;
}

/// Sends a body that is made piece by piece. Throws what making it throws; what becomes of sending is the result.
task<result<void>> SessionState::send_stream(BodyStream& body) {
    if (std::exchange(connection_->delays, false)) {
        // If that fails the request is slower, or the connection is broken, which sending finds out.
        static_cast<void>(co_await as_result(connection_->transport.plain()->set_no_delay(true)));
    }
    std::uint64_t sent_bytes = 0;
    for (;;) {
        const std::span<const std::byte> piece = co_await body.next();
        if (piece.empty()) break;
        const std::string_view text{reinterpret_cast<const char*>(piece.data()), piece.size()};
        sent_bytes += piece.size();
        if (body.length && sent_bytes > *body.length) break;
        std::string chunk;
        if (!body.length) {
            chunk += ChunkHeader{piece.size()}.view();
            chunk += text;
            chunk += chunk_end;
        }
        result<void> sent = co_await send(body.length ? text : chunk);
        if (!sent) co_return sent;
    }
    if (!body.length) co_return co_await send(last_chunk);
    if (sent_bytes != *body.length) {
        throw Error{torc::errc::invalid_argument, phase::send, "",
                    "the body stream gave " + std::to_string(sent_bytes) + " bytes or more where " +
                        std::to_string(*body.length) + " were promised"};
    }
    co_return result<void>{};
}

/// Reads on in the head with what was received. False if there is more to come.
result<bool> SessionState::read_head(BufferSlice received) {
    Parser& parser = connection_->parser;
    if (received.empty()) {
        auto finished = parser.finish();
        if (!finished) return std::unexpected{std::move(finished).error()};
        return std::unexpected{
            Error{errc::unexpected_eof, phase::head, "", "the server closed the connection without an answer"}};
    }
    for (;;) {
        auto step = parser.feed(received.bytes());
        if (!step) return std::unexpected{std::move(step).error()};
        received.consume(step->consumed_bytes);
        if (step->what == Parser::event::need_more) return false;
        if (step->what == Parser::event::head) break;
    }
    connection_->received = std::move(received);
    head = parser.take_response();
    content_length = parser.content_length();
    trailers.clear();
    return true;
}

void SessionState::begin_body() {
    decoder_.reset();
    undecoded_ = {};
    body_failure_.reset();
    body_begun_ = false;
    wire_done_ = false;
    body_open_ = true;
    if (connection_->parser.body() == body_kind::none) end_body();
}

/// The message is complete: the connection waits for the next request, or goes.
void SessionState::end_body() {
    body_open_ = false;
    Parser& parser = connection_->parser;
    if (!parser.done()) static_cast<void>(parser.feed({}));
    const bool reusable = parser.done() && parser.keep_alive() && !parser.upgrade() && connection_->received.empty();
    trailers = parser.take_trailers();
    if (!reusable) {
        drop();
        return;
    }
    parser.next_message();
    connection_->received.release();
}

task<std::span<const std::byte>> SessionState::read_body(bool for_user) {
    std::optional<Turn> turn;
    if (for_user) turn.emplace(*this, phase::body);
    if (!body_open_ && body_failure_) throw *body_failure_;
    if (!body_open_) co_return std::span<const std::byte>{};
    const Clock::duration idle = options.timeouts.idle;
    try {
        for (;;) {
            const std::optional<std::span<const std::byte>> piece = take_piece();
            if (piece) co_return *piece;
            phase_began_ = Clock::now();
            // Cancelled here, nothing is lost, and the body may be read on.
            auto received = co_await as_result(with_deadline(until(idle), connection_->transport.receive()));
            end_phase(timings.body);
            if (!received) throw described(std::move(received).error(), phase::body, idle);
            connection_->received = std::move(*received);
            if (!connection_->received.empty()) continue;
            auto finished = connection_->parser.finish();
            if (!finished) throw described(std::move(finished).error(), phase::body);
            wire_done_ = true;
        }
    } catch (const Error& error) {
        fail_body(error);
        throw;
    } catch (const std::bad_alloc&) {
        fail_body(Error{std::make_error_code(std::errc::not_enough_memory), phase::body, "read"});
        throw;
    }
}

/// The next bytes of the body that what was received holds, empty at its end; nothing if there is more to receive.
std::optional<std::span<const std::byte>> SessionState::take_piece() {
    if (!std::exchange(body_begun_, true)) choose_decoder();
    BufferSlice& received = connection_->received;
    for (;;) {
        if (decoder_) {
            auto step = decoder_->decode(undecoded_, decoded_);
            if (!step) throw described(std::move(step).error(), phase::body);
            undecoded_ = undecoded_.subspan(step->consumed_bytes);
            if (step->produced_bytes > 0) return std::span<const std::byte>{decoded_}.first(step->produced_bytes);
            if (step->consumed_bytes > 0) continue;
        }
        if (wire_done_) {
            auto whole = decoder_ ? decoder_->finish() : result<void>{};
            if (!whole) throw described(std::move(whole).error(), phase::body);
            end_body();
            return std::span<const std::byte>{};
        }
        auto step = connection_->parser.feed(received.bytes());
        if (!step) throw described(std::move(step).error(), phase::body);
        received.consume(step->consumed_bytes);
        if (step->what == Parser::event::end) {
            wire_done_ = true;
        } else if (step->what != Parser::event::body) {
            received.release();
            return std::nullopt;
        } else if (!decoder_) {
            return step->body;
        } else {
            undecoded_ = step->body;
        }
    }
}

void SessionState::choose_decoder() {
    if (!options.decode || !head.headers.contains("Content-Encoding")) return;
    auto made = Decoder::create(head.headers, options.limits);
    if (!made) throw described(std::move(made).error(), phase::body);
    if (made->identity()) return;
    decoder_.emplace(std::move(*made));
    decoded_.resize(decoded_bytes);
}

}  // namespace torc::http
