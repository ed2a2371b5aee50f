#include <torc/http/responder.hpp>

#include <torc/http/status.hpp>

#include <array>
#include <charconv>

#include "bytes.hpp"
#include "head.hpp"
#include "server_connection.hpp"

// Theory of operation. `out_` collects what has to leave before the next piece of the body: the head, the line before a
// chunk, the line break behind the last one. It leaves with one send together with the piece: a small one is copied
// behind it, a large one is sent from where it lies. Nothing that leaves can be taken back; from then on (`sent_`) a
// failure can only be shown by ending the connection in the middle of the body.
//
// From the moment that a piece counts as written until all of it has left, a `Piece` lives. Whatever ends it before (an
// error, a cancellation, no memory) cuts the response: what was accounted for and what has left may differ then, so
// that nothing can follow.

namespace torc::http {
namespace {

constexpr std::size_t copy_below_bytes = 4 * 1024;  // above, copying costs more than a send of two parts
constexpr std::size_t usual_head_bytes = 256;
constexpr std::size_t kept_bytes = 4 * 1024;  // by a connection that is idle

Error busy() { return Error{torc::errc::busy, phase::send, "respond", "two tasks write one response at once"}; }
Error cut_off() {
    return Error{std::make_error_code(std::errc::broken_pipe), phase::send, "respond", "the response was cut off"};
}
Error misuse(std::string words) {
    return Error{torc::errc::invalid_argument, phase::send, "respond", std::move(words)};
}

std::optional<std::uint64_t> announced_length(const Headers& headers) {
    const std::optional<std::string_view> text = headers.get("Content-Length");
    if (!text) return std::nullopt;
    std::uint64_t length = 0;
    const auto [end, failed] = std::from_chars(text->data(), text->data() + text->size(), length);
    if (failed != std::errc{} || end != text->data() + text->size() || headers.count("Content-Length") != 1) {
        throw misuse("Content-Length was set to " + in_quotes(*text) + ", which is not a length");
    }
    return length;
}

}  // namespace

void Responder::begin(int status) { begin_with(status, std::nullopt, {}); }
void Responder::begin(int status, std::uint64_t length_bytes) { begin_with(status, length_bytes, {}); }

void Responder::begin_with(int status, std::optional<std::uint64_t> length_bytes, std::string_view content_type) {
    if (begun()) throw misuse("the response was begun already");
    if (status < 200 || status > 999)
        throw misuse(std::to_string(status) + " can not be the status of a final response");
    Headers& headers = head_.headers;
    if (headers.contains("Transfer-Encoding")) throw misuse("the server chooses the transfer coding itself");
    // What is said here takes the place of what the handler said of it, or stands behind all that it said.
    std::array<Headers::Field, 4> behind;
    std::size_t behind_count = 0;
    const auto say = [&](std::string_view name, std::string_view value) {
        if (headers.contains(name)) {
            headers.set(name, value);
        } else {
            behind[behind_count++] = {name, value};
        }
    };
    content_type = trim_spaces(content_type);
    if (!is_text(content_type)) {
        throw Error{
            make_error_code(errc::bad_header), phase::none, {}, Headers::fault_of("Content-Type", content_type)};
    }
    if (!content_type.empty()) say("Content-Type", content_type);
    const std::optional<std::uint64_t> set = announced_length(headers);
    std::string length;
    bodiless_ = is_bodiless(status) || status == 205;
    chunked_ = false;
    if (bodiless_) {
        if (length_bytes.value_or(0) != 0)
            throw misuse("a response with status " + std::to_string(status) + " has no body");
        // A 304 may say how long the body would be; of the others only 205 says anything, which is 0 (RFC 9110, 8.6).
        if (status == 204) headers.remove("Content-Length");
        if (status == 205) say("Content-Length", "0");
        left_bytes_ = 0;
    } else {
        // What is said about the body of an answer to HEAD is not contradicted by the empty one that goes with it.
        if (set && length_bytes && *set != *length_bytes && !answers_head_) {
            throw misuse("the body has " + std::to_string(*length_bytes) + " bytes, but Content-Length was set to " +
                         std::to_string(*set));
        }
        if (!set && length_bytes) say("Content-Length", length = std::to_string(*length_bytes));
        left_bytes_ = set ? set : length_bytes;
        chunked_ = !left_bytes_ && minor_version_ > 0;
        if (chunked_ && !answers_head_) say("Transfer-Encoding", "chunked");
    }
    const bool until_close = !left_bytes_ && !chunked_ && !answers_head_;
    if (until_close || headers.has_token("Connection", "close")) connection_.close_after_response();
    if (connection_.last_response()) {
        say("Connection", "close");
    } else if (minor_version_ == 0) {
        say("Connection", "keep-alive");
    }
    head_.status = status;
    out_.clear();  // a beginning that failed may have left something
    if (const result<void> written = append_open_head(out_, head_); !written) throw written.error();
    for (const Headers::Field& field : std::span{behind}.first(behind_count)) {
        append_all(out_, field.name, ": ", field.value, "\r\n");
    }
    out_ += "\r\n";
    stage_ = stage::begun;
}

void Responder::renew(bool answers_head, int minor_version) noexcept {
    start_over();
    minor_version_ = minor_version;
    answers_head_ = answers_head;
    sent_ = writing_ = false;
}

void Responder::start_over() noexcept {
    head_.headers.clear();
    trailers_.clear();
    out_.clear();
    left_bytes_.reset();
    stage_ = stage::fresh;
    bodiless_ = chunked_ = cut_ = false;
}

void Responder::let_go() noexcept {
    if (out_.capacity() <= kept_bytes) return;
    head_.headers = {};
    trailers_ = {};
    out_ = {};
}

/// A piece of the response on its way.
class Responder::Piece {
   public:
    explicit Piece(Responder& response) noexcept : response_(response) { response_.writing_ = true; }
    Piece(const Piece&) = delete;
    Piece& operator=(const Piece&) = delete;
    ~Piece() {
        response_.writing_ = false;
        if (!has_left_) response_.cut_ = true;
    }
    void has_left() noexcept { has_left_ = true; }

   private:
    Responder& response_;
    bool has_left_ = false;
};

void Responder::require_writable(const char* what) const {
    if (stage_ == stage::fresh) throw misuse(std::string{"the response was "} + what + " before it was begun");
    if (stage_ == stage::finished) throw misuse(std::string{"the response was "} + what + " after it was finished");
    if (cut_) throw cut_off();
    if (writing_) throw busy();
}

/// To be followed by a `Piece`.
void Responder::account_for(std::size_t piece_bytes) {
    require_writable("written");
    if (bodiless_) throw misuse("a response with status " + std::to_string(head_.status) + " has no body");
    if (!left_bytes_ || answers_head_) return;
    if (piece_bytes > *left_bytes_) throw misuse("the body is longer than its Content-Length");
    *left_bytes_ -= piece_bytes;
}

/// Puts a piece of the body behind what waits already.
void Responder::append(std::span<const std::byte> piece) {
    if (chunked_) out_ += ChunkHeader{piece.size()}.view();
    out_.append(reinterpret_cast<const char*>(piece.data()), piece.size());
    if (chunked_) out_ += chunk_end;
}

/// Sends what waits, and `piece` behind it. Without memory for that nothing has left.
task<> Responder::leave(std::span<const std::byte> piece) {
    task<> sending = connection_.send(std::as_bytes(std::span{out_}), piece);
    sent_ = true;
    return sending;
}

task<> Responder::write(std::span<const std::byte> piece) {
    if (piece.empty()) co_return;
    account_for(piece.size());
    if (answers_head_) co_return;
    Piece on_its_way{*this};
    const bool copied = piece.size() < copy_below_bytes;
    if (copied) {
        append(piece);
    } else if (chunked_) {
        out_ += ChunkHeader{piece.size()}.view();
    }
    co_await leave(copied ? std::span<const std::byte>{} : piece);
    out_.clear();
    if (!copied && chunked_) out_ += chunk_end;  // leaves with what comes next
    on_its_way.has_left();
}

task<> Responder::flush() {
    if (stage_ == stage::finished) co_return;
    require_writable("flushed");
    if (out_.empty()) co_return;
    Piece on_its_way{*this};
    co_await leave({});
    out_.clear();
    on_its_way.has_left();
}

task<> Responder::finish() {
    if (stage_ == stage::finished) co_return;
    require_writable("finished");
    if (left_bytes_.value_or(0) != 0 && !answers_head_) {
        throw misuse("the body is " + std::to_string(*left_bytes_) + " bytes shorter than its Content-Length");
    }
    std::string end;
    if (chunked_ && !answers_head_) {
        if (const result<void> written = append_last_chunk(end, trailers_); !written) throw written.error();
    }
    Piece on_its_way{*this};
    out_ += end;
    if (!out_.empty()) co_await leave({});
    out_.clear();
    on_its_way.has_left();
    stage_ = stage::finished;
}

template <class Body>
task<> Responder::send_whole(int status, Body body, std::string_view content_type) {
    const std::span<const std::byte> whole = std::as_bytes(std::span{body});
    const bool copied = whole.size() < copy_below_bytes;
    out_.reserve(usual_head_bytes + (copied ? whole.size() : 0));
    begin_with(status, whole.size(), content_type);
    if (!whole.empty()) account_for(whole.size());
    Piece on_its_way{*this};
    if (copied && !answers_head_) append(whole);
    co_await leave(copied || answers_head_ ? std::span<const std::byte>{} : whole);
    out_.clear();
    on_its_way.has_left();
    stage_ = stage::finished;
}

task<> Responder::send(int status, std::string body, std::string_view content_type) {
    return send_whole(status, std::move(body), content_type);
}

task<> Responder::send(int status, std::span<const std::byte> body, std::string_view content_type) {
    return send_whole(status, body, content_type);
}

}  // namespace torc::http
