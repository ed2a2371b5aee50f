#include "server_connection.hpp"

#include <torc/http/status.hpp>
#include <torc/net/tls_error.hpp>

#include <algorithm>

#include "bytes.hpp"
#include "guard.hpp"

// Theory of operation. A connection is one task that goes round in a circle:
//
//     idle -> head -> (handler: body and answer, in any order) -> rest of the body -> idle
//       |       |                       |                              |
//       +-------+----- refused ---------+----- last response ----------+--> linger -> closed
//
// While it is idle it holds no buffer of the executor's, and its scope may be cancelled without anything being lost;
// that is how a server that stops gets rid of it. What was received stays in one slice, `in_`, until the parser has
// consumed it.
//
// The circle is gone round again only if it is beyond doubt where the next request begins: the parser found the end of
// the last one, and the answer to it was sent whole. Whatever else happened, the connection is closed, and bytes behind
// the fault are never looked at. Before such a close this side stops sending and reads on for a while (RFC 9112, 9.6):
// a close with unread input would reset the connection, and the client could lose the answer.

namespace torc::http::detail {
namespace {

constexpr std::size_t send_at_once_bytes = 256 * 1024;    // what `write_timeout` is for
constexpr std::size_t receive_at_once_bytes = 16 * 1024;  // what `body_timeout` is for
constexpr std::string_view plain_text = "text/plain; charset=utf-8";
constexpr std::string_view go_on = "HTTP/1.1 100 Continue\r\n\r\n";

Clock::time_point time_after(std::chrono::nanoseconds wait) { return torc::detail::after(Clock::now(), wait); }

// What an awaited task ends with, unless it was cancelled.
task<std::exception_ptr> failure_of(task<> inner) {
    std::exception_ptr failure;
    try {
        co_await std::move(inner);
    } catch (const cancelled&) {
        throw;
    } catch (...) {
        failure = std::current_exception();
    }
    co_return failure;
}

bool is_same_failure(const std::exception_ptr& failure, const std::optional<Error>& known) {
    if (!known) return false;
    try {
        std::rethrow_exception(failure);
    } catch (const Error& error) {
        return error.code() == known->code();
    } catch (...) {
        return false;
    }
}

int status_for_body(const Error& error) {
    if (error.code() == errc::body_too_large) return 413;
    return error.code() == torc::errc::timed_out ? 408 : 400;
}

}  // namespace

ServerConnection::ServerConnection(ServerShared& server, net::TcpStream stream)
    : server_(server),
      next_(server.first),
      accepted_(std::move(stream)),
      parser_(Parser::role::request, Parser::Options{server.options.limits}) {
    if (next_ != nullptr) next_->previous_ = this;
    server_.first = this;
    ++server_.statistics.connections;
    server_.empty.reset();
}

ServerConnection::~ServerConnection() {
    (previous_ != nullptr ? previous_->next_ : server_.first) = next_;
    if (next_ != nullptr) next_->previous_ = previous_;
    if (--server_.statistics.connections == 0) server_.empty.set();
}

void ServerConnection::IdleMark::set(bool idle) noexcept {
    if (idle == connection_.idle_) return;
    connection_.idle_ = idle;
    connection_.server_.statistics.idle += idle ? 1 : std::size_t(-1);
}

void ServerConnection::report(ServerFault::stage where, std::exception_ptr error) noexcept {
    try {
        ServerFault fault{where, std::move(error), {}, {}};
        if (transport_ && !transport_->peer().empty()) fault.peer = transport_->peer().to_string();
        if (request_ != nullptr)
            fault.request = std::string{request_->method()} + " " + std::string{request_->target()};
        server_.report(std::move(fault));
    } catch (const std::exception&) {
        // No memory to say it with.
    }
}

task<> ServerConnection::run(scope& here) {
    scope_ = &here;
    bool more = co_await open();
    while (more) {
        more = co_await read_head();
        if (more) more = co_await exchange();
    }
    if (linger_) co_await linger();
}

/// False if nobody will be served any more.
task<bool> ServerConnection::open() {
    net::TcpStream plain = std::move(*accepted_);
    accepted_.reset();
    if (server_.stopping) co_return false;
    if (!server_.options.tls) {
        transport_.emplace(std::move(plain));
        co_return true;
    }
    stage_ = ServerFault::stage::handshake;
    const IdleMark nothing_to_lose{*this, true};
    net::TlsStream encrypted = co_await with_timeout(server_.options.handshake_timeout,
                                                     net::TlsStream::accept(std::move(plain), *server_.options.tls));
    transport_.emplace(std::move(encrypted));
    stage_ = ServerFault::stage::connection;
    co_return true;
}

ServerConnection::received ServerConnection::take(result<BufferSlice> arrived) {
    if (!arrived) {
        const Error& error = arrived.error();
        if (error.code() == torc::errc::timed_out) return received::nothing;
        // A request says itself where it ends, so an end of TLS that says nothing is an end like any other.
        const bool ended = error.code() == net::tls_errc::truncated;
        if (!ended && !idle_) throw error;
        return received::end;
    }
    in_ = std::move(*arrived);
    return in_.empty() ? received::end : received::bytes;
}

task<bool> ServerConnection::read_head() {
    const ServerOptions& options = server_.options;
    std::optional<Clock::time_point> deadline;  // of the head, or until it begins
    bool begun = first_request_;
    while (true) {
        if (!in_.empty()) {
            const result<Parser::Progress> step = parser_.feed(in_.bytes());
            if (!step) {
                co_await refuse(step.error(), status_for_head(step.error()));
                co_return false;
            }
            in_.consume(step->consumed_bytes);
            if (step->what == Parser::event::head) co_return true;
        }
        const bool between = !parser_.started();
        if (between && server_.stopping) co_return false;
        if (!deadline || (!between && !begun)) {
            begun = begun || !between;
            deadline = time_after(begun ? options.head_timeout : options.idle_timeout);
        }
        received what{};
        {
            const IdleMark idle{*this, between};
            result<BufferSlice> arrived = co_await receive_until(*deadline);
            what = take(std::move(arrived));
        }
        // A request that came as the server stopped finds the connection on its way to its close; nothing is begun.
        if (between && server_.stopping) co_return false;
        if (what == received::bytes) continue;
        if (between) co_return false;
        if (what == received::nothing) {
            Error late{torc::errc::timed_out, phase::head, "receive", "the head of the request did not come in time"};
            co_await refuse(std::move(late), 408);
        } else {
            const result<void> ended = parser_.finish();
            if (!ended) report(ServerFault::stage::request, std::make_exception_ptr(ended.error()));
        }
        co_return false;
    }
}

int ServerConnection::status_for_head(const Error& error) const noexcept {
    if (error.code() == errc::unknown_method) return 501;
    if (error.code() == errc::unsupported_version) return 505;
    if (error.code() == errc::head_too_large || error.code() == errc::too_many_headers) return 431;
    if (error.code() != errc::line_too_long) return 400;
    const std::string_view so_far = HeadReader::raw(parser_.request().headers);
    return so_far.find('\n') == std::string_view::npos ? 414 : 431;
}

task<> ServerConnection::refuse(Error why, int status) {
    report(ServerFault::stage::request, std::make_exception_ptr(why));
    input_broken_ = true;
    linger_ = true;
    response_.renew(false, 1);
    std::string words = std::string{why.message()} + "\n";
    const result<void> sent = co_await as_result(response_.send(status, std::move(words), plain_text));
    if (!sent) linger_ = false;
}

task<bool> ServerConnection::exchange() {
    ServerRequest request{*this, parser_.request()};
    struct Present {
        ServerConnection& connection;
        ~Present() { connection.request_ = nullptr; }
    } const present{*this};
    request_ = &request;
    response_.renew(request.method() == "HEAD", request.minor_version());
    refused_.reset();
    body_bytes_ = 0;
    body_wait_ = {};
    body_wait_bytes_ = 0;
    ++server_.statistics.requests;

    const Refusal refusal = meet_expectations(request);
    std::exception_ptr failure;
    try {
        task<> handling = refusal.status == 0 ? server_.handler(request, response_)
                                              : response_.send(refusal.status, std::string{refusal.words}, plain_text);
        co_await std::move(handling);
    } catch (const cancelled&) {
        throw;
    } catch (...) {
        failure = std::current_exception();
    }
    const bool settled = !failure && response_.finished();
    if (!settled) co_await settle(std::move(failure));
    if (output_broken_) co_return false;
    if (closing_ || input_broken_ || server_.stopping) {
        // A client that has said or been told nothing of the end may be sending its next request at this moment, as
        // with an idle connection; one that was told only now may not have read it yet.
        const bool told_by_us = closing_ && parser_.keep_alive();
        linger_ = input_broken_ || !parser_.done() || !in_.empty() || told_by_us;
        co_return false;
    }
    bool dropped = parser_.done();
    if (!dropped) dropped = co_await drop_rest_of_body();
    if (!dropped) {
        linger_ = true;
        co_return false;
    }
    if (in_.empty()) in_.release();
    parser_.next_message();
    response_.let_go();
    first_request_ = false;
    co_return true;
}

ServerConnection::Refusal ServerConnection::meet_expectations(const ServerRequest& request) {
    const Headers& headers = request.headers();
    owes_continue_ = false;
    if (request.method() == "CONNECT") return {501, "CONNECT is not served here\n"};
    if (request.minor_version() == 0 || !headers.contains("Expect")) return {};
    const bool known = headers.count("Expect") == 1 && equals_ignoring_case(*headers.get("Expect"), "100-continue");
    if (!known) {
        closing_ = true;
        return {417, "the only expectation known here is 100-continue\n"};
    }
    // Whoever sends the body already does not wait.
    owes_continue_ = !parser_.done() && in_.empty();
    return {};
}

/// Ends what the handler left undone.
task<> ServerConnection::settle(std::exception_ptr failure) {
    if (!failure && !response_.begun()) {
        failure = std::make_exception_ptr(
            Error{torc::errc::invalid_argument, phase::none, "handle", "the handler returned without an answer"});
    }
    if (!failure && !response_.finished()) failure = co_await failure_of(response_.finish());
    if (!failure) co_return;

    const bool refused = is_same_failure(failure, refused_);
    report(output_broken_ ? ServerFault::stage::connection
           : refused      ? ServerFault::stage::request
                          : ServerFault::stage::handler,
           failure);
    if (response_.finished()) co_return;
    if (response_.sent_ || output_broken_) {
        output_broken_ = true;
        co_return;
    }
    response_.start_over();
    const int status = refused ? status_for_body(*refused_) : 500;
    std::string words{refused ? refused_->message() : reason_phrase(status)};
    words += '\n';
    failure = co_await failure_of(response_.send(status, std::move(words), plain_text));
    if (failure) output_broken_ = true;
}

task<std::span<const std::byte>> ServerConnection::read_body() {
    if (reading_) throw Error{torc::errc::busy, phase::body, "read", "two tasks read one request's body at once"};
    struct Reading {
        bool& flag;
        explicit Reading(bool& set) : flag(set) { flag = true; }
        ~Reading() { flag = false; }
    } const reading{reading_};
    while (true) {
        const result<Parser::Progress> step = parser_.feed(in_.bytes());
        if (!step) refuse_body(step.error(), true);
        in_.consume(step->consumed_bytes);
        if (step->what == Parser::event::body) {
            body_bytes_ += step->body.size();
            co_return step->body;
        }
        if (step->what == Parser::event::end) {
            if (in_.empty()) in_.release();
            co_return std::span<const std::byte>{};
        }
        if (owes_continue_) {
            owes_continue_ = false;
            try {
                if (!response_.sent_) co_await send(std::as_bytes(std::span{go_on}), {});
            } catch (const cancelled&) {
                owes_continue_ = true;
                throw;
            }
        }
        const received what = co_await receive_body();
        if (what == received::nothing) {
            refuse_body(Error{torc::errc::timed_out, phase::body, "receive", "the body did not come in time"}, true);
        } else if (what == received::end) {
            const result<void> ended = parser_.finish();
            if (!ended) refuse_body(ended.error(), true);
        }
    }
}

task<ServerConnection::received> ServerConnection::receive_body() {
    const Clock::time_point since = Clock::now();
    received what{};
    try {
        result<BufferSlice> arrived = co_await receive_until(time_after(server_.options.body_timeout - body_wait_));
        what = take(std::move(arrived));
    } catch (const Error&) {
        output_broken_ = true;  // the connection broke under the handler, whatever that makes of it
        throw;
    }
    // Waiting that brings next to nothing adds up: one byte now and then does not keep a handler for ever.
    body_wait_ += Clock::now() - since;
    body_wait_bytes_ += in_.size();
    if (body_wait_bytes_ >= receive_at_once_bytes) {
        body_wait_ = {};
        body_wait_bytes_ = 0;
    }
    co_return what;
}

void ServerConnection::refuse_body(Error error, bool input_broken) {
    input_broken_ = input_broken_ || input_broken;
    refused_ = error;
    throw error;
}

bool ServerConnection::last_response() noexcept {
    const std::uint64_t length = parser_.content_length().value_or(0);
    const bool long_rest = !parser_.done() && length > body_bytes_ + server_.options.max_unread_bytes;
    closing_ = closing_ || input_broken_ || owes_continue_ || long_rest || server_.stopping || !parser_.keep_alive();
    return closing_;
}

task<> ServerConnection::send(std::span<const std::byte> head, std::span<const std::byte> body) {
    const mutex::guard alone = co_await sending_.lock();
    if (output_broken_) {
        throw Error{std::make_error_code(std::errc::broken_pipe), phase::send, "send", "the connection broke before"};
    }
    struct BreakUnlessSent {
        bool& broken;
        bool sent = false;
        ~BreakUnlessSent() { broken = broken || !sent; }
    } all{output_broken_};
    while (!head.empty() || !body.empty()) {
        const std::span<const std::byte> piece = body.first(std::min(body.size(), send_at_once_bytes));
        co_await send_in_time(head, piece);
        head = {};
        body = body.subspan(piece.size());
    }
    all.sent = true;
}

task<bool> ServerConnection::drop_rest_of_body() {
    const Clock::time_point deadline = time_after(server_.options.linger_timeout);
    std::uint64_t dropped_bytes = 0;
    while (!parser_.done()) {
        const result<Parser::Progress> step = parser_.feed(in_.bytes());
        if (!step) {
            report(ServerFault::stage::request, std::make_exception_ptr(step.error()));
            co_return false;
        }
        in_.consume(step->consumed_bytes);
        dropped_bytes += step->body.size();
        if (dropped_bytes > server_.options.max_unread_bytes) co_return false;
        if (step->what != Parser::event::need_more) continue;
        result<BufferSlice> arrived = co_await receive_until(deadline);
        if (take(std::move(arrived)) != received::bytes) co_return false;
    }
    co_return true;
}

task<> ServerConnection::linger() {
    const Clock::time_point deadline = time_after(server_.options.linger_timeout);
    try {
        co_await with_deadline(deadline, transport_->shutdown_write());
        received what = received::bytes;
        while (what == received::bytes) {
            result<BufferSlice> arrived = co_await receive_until(deadline);
            what = take(std::move(arrived));
        }
    } catch (const Error&) {
        // The client has what it wanted, or will not get it.
    }
    in_.release();
}

}  // namespace torc::http::detail
