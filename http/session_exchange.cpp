#include <sys/socket.h>

#include <cerrno>

#include "request_head.hpp"
#include "session_state.hpp"

// Theory of operation. Whether a kept connection is alive is asked of the kernel before each use, with a peek: an end
// of stream, or bytes that nobody asked for, which could otherwise be taken for the next answer.
//
// Sending is a coroutine of its own, so that nothing of it is there while the answer is waited for, which is what most
// sessions do most of the time.

namespace torc::http {
namespace {

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

}  // namespace

task<bool> SessionState::still_usable() {
    if (!connection_->transport.is_open() || !connection_->received.empty()) co_return false;
    peek_awaitable peek{connection_->transport.record()};
    const int seen = co_await peek;
    // Over TLS, tickets may wait; what they are is for the engine to say.
    co_return seen == -EAGAIN || (seen > 0 && connection_->transport.tls() != nullptr);
}

auto SessionState::send_until(Clock::time_point limit, std::string_view first, std::string_view second) {
    return as_result(with_deadline(limit, connection_->transport.send(bytes_of(first), bytes_of(second))));
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
    const bool reused = std::exchange(connection.used, true);
    connection.parser.expect_response_to(request.method);
    auto sent = co_await send_request(request);
    end_phase(timings.send);
    // A server may answer before it has read everything, and close: the answer counts, not the broken pipe.
    const bool broken = !sent && is_gone(sent.error());
    if (!sent && !broken) throw std::move(sent).error();

    const Clock::duration limit = options.timeouts.head;
    const Clock::time_point head_until = until(limit);
    result<bool> whole = false;
    while (whole && !*whole) {
        auto received = co_await receive_until(head_until);
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
        throw described(std::move(whole).error(), phase::head, limit);
    }
    guard.answered = true;
    begin_body();
    co_return attempt::answered;
}

/// Throws what making the request, or its streamed body, throws; what becomes of sending is the result.
task<result<void>> SessionState::send_request(Request& request) {
    torc::detail::pooled_string head_text;
    auto written = append_request(head_text, response_url(), request, options, forward_credentials_);
    if (!written) throw std::move(written).error().at(phase::send);
    const Clock::duration limit = options.timeouts.send;
    auto sent = co_await send_until(until(limit), head_text, request.stream ? std::string_view{} : request.body);
    if (!sent) co_return std::unexpected{described(std::move(sent).error(), phase::send, limit)};
    if (request.stream) co_return co_await send_stream(*request.stream);
    co_return sent;
}

task<result<void>> SessionState::send(std::string_view bytes) {
    const Clock::duration limit = options.timeouts.send;
    end_phase(timings.send);
    auto sent = co_await send_until(until(limit), bytes);
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

}  // namespace torc::http
