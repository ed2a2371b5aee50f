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

namespace torc::http {
namespace {

/// Bodies up to this size go out in one send with the head.
constexpr std::size_t joined_body_bytes = 64 * 1024;
/// Rests of bodies up to this size, and that come within this time, are read to keep a connection; beyond, a new one is
/// cheaper.
constexpr std::uint64_t cheap_rest_bytes = 64 * 1024;
constexpr std::chrono::milliseconds cheap_rest_time{100};
constexpr std::size_t decoded_bytes = 16 * 1024;

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

Clock::duration spent(Clock::time_point& since) {
    const Clock::time_point now = Clock::now();
    return now - std::exchange(since, now);
}

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
        if (session.closed_) throw Error{torc::errc::closed, where, "request", "the session was closed"};
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

SessionState::SessionState(Url where, SessionOptions chosen)
    : url(std::move(where)), options(std::move(chosen)), response_url(url) {}

void SessionState::drop() noexcept {
    body_open_ = false;
    undecoded_ = {};
    connection_.reset();
}

close_awaitable SessionState::close() {
    closed_ = true;
    body_open_ = false;
    if (!connection_) return close_awaitable{nullptr};
    return connection_->transport.close();
}

Clock::duration SessionState::left(Clock::duration limit) const {
    return std::min(limit, deadline_ == Clock::never ? Clock::duration::max() : deadline_ - Clock::now());
}

/// Gives a time-out its words, and any error its phase and peer.
Error SessionState::described(Error error, phase where, Clock::duration limit) const {
    const bool connecting = error.where() == phase::connect && where == phase::connect;
    if (error.code() == torc::errc::timed_out && (error.where() == phase::none || connecting)) {
        const bool total = left(Clock::duration::max()) <= Clock::duration::zero();
        const auto seconds = std::chrono::duration<double>(total ? options.timeouts.total : limit).count();
        std::string what = "timed out after " + format_seconds(seconds);
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

/// Receives for as long as `wait`, which is what is left of `limit`.
task<BufferSlice> SessionState::receive(Clock::duration wait, phase where, Clock::duration limit) {
    auto received = co_await as_result(with_timeout(left(wait), connection_->transport.receive()));
    if (!received) throw described(std::move(received).error(), where, limit);
    co_return std::move(*received);
}

task<> SessionState::send(std::string_view bytes) {
    const Clock::duration limit = options.timeouts.send;
    auto sent = co_await as_result(with_timeout(left(limit), connection_->transport.send(bytes)));
    if (!sent) throw described(std::move(sent).error(), phase::send, limit);
}

task<Response&> SessionState::perform(Request request) {
    const Turn turn{*this, phase::send};
    co_await end_previous();
    timings = {};
    redirects = 0;
    forward_credentials_ = true;
    deadline_ = torc::detail::after(Clock::now(), options.timeouts.total);
    auto resolved = request.url.empty() ? torc::result<Url>{url} : url.resolve(request.url);
    if (!resolved) throw std::move(resolved).error();
    Url target = std::move(*resolved);
    for (;;) {
        co_await exchange(target, request);
        if (!options.redirects.follow || !is_redirect(head.status)) break;
        if (head.status != 303 && !head.headers.contains("Location")) break;
        auto next = follow_redirect(request.method, target, head.status, head.headers, redirects, options.redirects);
        if (!next) {
            drop();
            throw described(std::move(next).error(), phase::head, Clock::duration::zero());
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
        target = std::move(next->url);
        ++redirects;
        co_await end_previous();
    }
    response_url = std::move(target);
    co_return response;
}

/// Reads what is left of the response before, or drops the connection where that would cost more than a new one.
task<> SessionState::end_previous() {
    const Clock::time_point until = torc::detail::after(Clock::now(), cheap_rest_time);
    std::uint64_t rest_bytes = 0;
    while (body_open_ && rest_bytes <= cheap_rest_bytes) {
        auto reading = read_some();
        auto piece = co_await as_result(with_deadline(until, std::move(reading)));
        if (!piece) break;
        rest_bytes += piece->size();
    }
    if (body_open_) drop();
}

task<> SessionState::exchange(const Url& target, Request& request) {
    if (connection_ && !connection_->origin.same_origin(target)) drop();
    if (connection_ && !co_await still_usable()) drop();
    const bool repeatable = is_idempotent_method(request.method) && !request.stream;
    if (connection_) {
        if (co_await try_exchange(target, request, repeatable) == attempt::answered) co_return;
        drop();
    }
    if (!connection_) co_await open(target);
    co_await try_exchange(target, request, false);
}

task<bool> SessionState::still_usable() {
    if (!connection_->transport.is_open() || !connection_->received.empty()) co_return false;
    peek_awaitable peek{connection_->transport.record()};
    const int seen = co_await peek;
    // Over TLS, tickets may wait; what they are is for the engine to say.
    co_return seen == -EAGAIN || (seen > 0 && connection_->transport.tls() != nullptr);
}

task<SessionState::attempt> SessionState::try_exchange(const Url& target, Request& request, bool may_repeat) {
    struct DropUnlessAnswered {
        SessionState& session;
        bool answered = false;
        ~DropUnlessAnswered() {
            if (!answered) session.drop();
        }
    } guard{*this};
    const bool reused = std::exchange(connection_->used, true);
    Clock::time_point since = Clock::now();
    auto sent = co_await as_result(send_request(target, request));
    timings.send += spent(since);
    // A server may answer before it has read everything, and close: the answer counts, not the broken pipe.
    const bool broken = !sent && is_gone(sent.error());
    if (!sent && !broken) throw std::move(sent).error();
    auto read = co_await as_result(read_head());
    timings.wait += spent(since);
    if (!read) {
        const bool nothing_came = !connection_->parser.started();
        if (may_repeat && reused && nothing_came &&
            (is_gone(read.error()) || read.error().code() == errc::unexpected_eof)) {
            co_return attempt::connection_was_stale;
        }
        throw described(broken && nothing_came ? std::move(sent).error() : std::move(read).error(), phase::head, {});
    }
    guard.answered = true;
    begin_body();
    co_return attempt::answered;
}

task<> SessionState::open(const Url& target) {
    const std::string host{target.host()};
    const Timeouts& limits = options.timeouts;
    Clock::time_point since = Clock::now();
    peer = {};
    tls.reset();
    net::ConnectOptions connecting = options.connection;
    net::Resolution names = net::Resolver::of(Executor::here()).look_up(host, target.port());
    auto usable = co_await as_result(with_timeout(left(limits.resolve), names.usable(connecting.resolution_delay)));
    // Addresses that were only waiting for better ones do when the time is over.
    if (!usable && names.addresses().empty()) {
        throw described(std::move(usable).error(), phase::resolve, limits.resolve);
    }
    timings.resolve += spent(since);

    connecting.timeout = left(limits.connect);
    peer = names.addresses().front();
    auto connected = co_await as_result(net::TcpStream::connect(std::move(names), connecting));
    if (!connected) throw described(std::move(connected).error(), phase::connect, limits.connect);
    peer = connected->peer();
    connected->record().keep_receiving(false);
    timings.connect += spent(since);

    Parser parser{Parser::role::response, Parser::Options{options.limits, true}};
    if (!target.secure()) {
        connection_.emplace(Connection{Transport{std::move(*connected)}, std::move(parser), target, {}});
        co_return;
    }
    net::tls::ClientSide side;
    side.server_name = host;
    side.port = target.port();
    const net::TlsContext& context = options.tls ? *options.tls : default_context(Executor::here());
    auto secured = co_await as_result(
        with_timeout(left(limits.tls), net::TlsStream::connect(std::move(*connected), context, std::move(side))));
    if (!secured) throw described(std::move(secured).error(), phase::tls, limits.tls);
    timings.tls += spent(since);
    tls = secured->info();
    connection_.emplace(Connection{Transport{std::move(*secured)}, std::move(parser), target, {}});
}

task<> SessionState::send_request(const Url& target, Request& request) {
    std::string out;
    auto written = append_request(out, target, request, options, forward_credentials_);
    if (!written) throw std::move(written).error().at(phase::send);
    connection_->parser.expect_response_to(request.method);
    if (request.stream) {
        co_await send(out);
        co_await send_stream(*request.stream);
        co_return;
    }
    const bool joined = request.body.size() <= joined_body_bytes;
    if (joined) out += request.body;
    co_await send(out);
    if (!joined) co_await send(request.body);
}

task<> SessionState::send_stream(BodyStream& body) {
    std::uint64_t sent_bytes = 0;
    for (;;) {
        const std::span<const std::byte> piece = co_await body.next();
        if (piece.empty()) break;
        const std::string_view text{reinterpret_cast<const char*>(piece.data()), piece.size()};
        sent_bytes += piece.size();
        if (!body.length) {
            std::string chunk{ChunkHeader{piece.size()}.view()};
            chunk += text;
            chunk += chunk_end;
            co_await send(chunk);
        } else if (sent_bytes <= *body.length) {
            co_await send(text);
        } else {
            break;
        }
    }
    if (!body.length) {
        co_await send(last_chunk);
    } else if (sent_bytes != *body.length) {
        throw Error{torc::errc::invalid_argument, phase::send, "",
                    "the body stream gave " + std::to_string(sent_bytes) + " bytes or more where " +
                        std::to_string(*body.length) + " were promised"};
    }
}

task<> SessionState::read_head() {
    Connection& connection = *connection_;
    const Clock::duration limit = left(options.timeouts.head);
    const Clock::time_point until = torc::detail::after(Clock::now(), limit);
    for (;;) {
        auto step = connection.parser.feed(connection.received.bytes());
        if (!step) throw described(std::move(step).error(), phase::head, {});
        connection.received.consume(step->consumed_bytes);
        if (step->what == Parser::event::head) break;
        if (step->what != Parser::event::need_more) continue;
        connection.received.release();
        const Clock::duration wait = until == Clock::never ? limit : until - Clock::now();
        connection.received = co_await receive(wait, phase::head, limit);
        if (!connection.received.empty()) continue;
        auto finished = connection.parser.finish();
        if (!finished) throw described(std::move(finished).error(), phase::head, {});
        throw described(
            Error{errc::unexpected_eof, phase::head, "", "the server closed the connection without an answer"},
            phase::head, {});
    }
    head = connection.parser.take_response();
    content_length = connection.parser.content_length();
    trailers.clear();
}

void SessionState::begin_body() {
    decoder_.reset();
    undecoded_ = {};
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

task<std::span<const std::byte>> SessionState::read() {
    const Turn turn{*this, phase::body};
    auto piece = read_some();
    co_return co_await std::move(piece);
}

task<std::span<const std::byte>> SessionState::read_some() {
    if (!body_open_) co_return std::span<const std::byte>{};
    struct DropUnlessRead {
        SessionState& session;
        Clock::time_point since = Clock::now();
        bool good = false;
        ~DropUnlessRead() {
            session.timings.body += spent(since);
            if (!good) session.drop();
        }
    } guard{*this};
    if (!decoder_) {
        auto made =
            options.decode ? Decoder::create(head.headers, options.limits) : Decoder::create("", options.limits);
        if (!made) throw described(std::move(made).error(), phase::body, {});
        decoder_.emplace(std::move(*made));
        if (!decoder_->identity()) decoded_.resize(decoded_bytes);
    }
    Connection& connection = *connection_;
    for (;;) {
        if (!decoder_->identity()) {
            auto step = decoder_->decode(undecoded_, decoded_);
            if (!step) throw described(std::move(step).error(), phase::body, {});
            undecoded_ = undecoded_.subspan(step->consumed_bytes);
            if (step->produced_bytes > 0) {
                guard.good = true;
                co_return std::span<const std::byte>{decoded_}.first(step->produced_bytes);
            }
            if (step->consumed_bytes > 0) continue;
        }
        if (wire_done_) {
            auto whole = decoder_->finish();
            if (!whole) throw described(std::move(whole).error(), phase::body, {});
            guard.good = true;
            end_body();
            co_return std::span<const std::byte>{};
        }
        auto step = connection.parser.feed(connection.received.bytes());
        if (!step) throw described(std::move(step).error(), phase::body, {});
        connection.received.consume(step->consumed_bytes);
        if (step->what == Parser::event::end) {
            wire_done_ = true;
        } else if (step->what == Parser::event::body) {
            if (decoder_->identity()) {
                guard.good = true;
                co_return step->body;
            }
            undecoded_ = step->body;
        } else {
            connection.received.release();
            connection.received = co_await receive(options.timeouts.idle, phase::body, options.timeouts.idle);
            if (!connection.received.empty()) continue;
            auto finished = connection.parser.finish();
            if (!finished) throw described(std::move(finished).error(), phase::body, {});
            wire_done_ = true;
        }
    }
}

}  // namespace torc::http
