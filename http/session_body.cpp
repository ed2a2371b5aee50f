#include "session_state.hpp"

// Theory of operation. What was received goes through the parser, and where the head names a coding through a decoder;
// what comes out, a piece at a time, lies in what was received or in `decoded_` until the next read. The message may
// have ended (`wire_done_`) while the decoder still holds something: the body is open until that is out as well. At its
// end the connection is kept if both sides said so. A body that nobody read to its end is read by the next request
// where little is left of it; otherwise its connection is dropped, and whoever still reads it is told why.

namespace torc::http {
namespace {

/// Rests of bodies up to this size, and that come within this time, are read to keep a connection; beyond, a new one is
/// cheaper.
constexpr std::uint64_t cheap_rest_bytes = 64 * 1024;
constexpr std::chrono::milliseconds cheap_rest_time{100};
constexpr std::size_t decoded_bytes = 16 * 1024;

}  // namespace

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
            auto received = co_await receive_until(until(idle));
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

}  // namespace torc::http
