#include <torc/http/responder.hpp>

#include <torc/http/status.hpp>

#include <charconv>

#include "bytes.hpp"
#include "server_connection.hpp"

// Theory of operation. `out_` collects what has to leave before the next piece of the body: the head, the line before a
// chunk, the line break behind the last one. A piece that is small is copied behind it, so that both leave with one
// send; a large one is sent from where it lies. Nothing that leaves can be taken back; from then on (`sent_`) a failure
// can only be shown by ending the connection in the middle of the body.

namespace torc::http {
namespace {

constexpr std::size_t copy_below_bytes = 32 * 1024;

Error bad(std::string words) { return Error{torc::errc::invalid_argument, phase::send, "respond", std::move(words)}; }

std::optional<std::uint64_t> announced_length(const Headers& headers) {
    const std::optional<std::string_view> text = headers.get("Content-Length");
    if (!text) return std::nullopt;
    std::uint64_t length = 0;
    const auto [end, failed] = std::from_chars(text->data(), text->data() + text->size(), length);
    if (failed != std::errc{} || end != text->data() + text->size() || headers.count("Content-Length") != 1) {
        throw bad("Content-Length was set to " + quoted(*text) + ", which is not a length");
    }
    return length;
}

}  // namespace

void Responder::begin(int status) { begin_with(status, std::nullopt); }
void Responder::begin(int status, std::uint64_t length_bytes) { begin_with(status, length_bytes); }

void Responder::begin_with(int status, std::optional<std::uint64_t> length_bytes) {
    if (begun()) throw bad("the response was begun already");
    if (status < 200 || status > 999) throw bad(std::to_string(status) + " can not be the status of a final response");
    if (head_.headers.contains("Transfer-Encoding")) throw bad("the server chooses the transfer coding itself");
    const std::optional<std::uint64_t> set = announced_length(head_.headers);
    bodiless_ = is_bodiless(status) || status == 205;
    if (bodiless_) {
        if (length_bytes.value_or(0) != 0)
            throw bad("a response with status " + std::to_string(status) + " has no body");
        // A 304 may say how long the body would be; of the others only 205 says anything, which is 0 (RFC 9110, 8.6).
        if (status == 204) head_.headers.remove("Content-Length");
        if (status == 205) head_.headers.set("Content-Length", "0");
        left_bytes_ = 0;
    } else {
        // What is said about the body of an answer to HEAD is not contradicted by the empty one that goes with it.
        if (set && length_bytes && *set != *length_bytes && !answers_head_) {
            throw bad("the body has " + std::to_string(*length_bytes) + " bytes, but Content-Length was set to " +
                      std::to_string(*set));
        }
        if (!set && length_bytes) head_.headers.set("Content-Length", std::to_string(*length_bytes));
        left_bytes_ = set ? set : length_bytes;
        chunked_ = !left_bytes_ && minor_version_ > 0;
        if (chunked_ && !answers_head_) head_.headers.add("Transfer-Encoding", "chunked");
    }
    const bool until_close = !left_bytes_ && !chunked_ && !answers_head_;
    if (until_close || head_.headers.has_token("Connection", "close")) connection_.close_after_response();
    if (connection_.last_response()) {
        head_.headers.set("Connection", "close");
    } else if (minor_version_ == 0) {
        head_.headers.set("Connection", "keep-alive");
    }
    head_.status = status;
    if (const result<void> written = append_head(out_, head_); !written) throw written.error();
    stage_ = stage::begun;
}

void Responder::start_over() noexcept {
    head_ = {};
    trailers_.clear();
    out_.clear();
    left_bytes_.reset();
    stage_ = stage::fresh;
    bodiless_ = chunked_ = false;
}

void Responder::account_for(std::size_t piece_bytes) {
    if (stage_ == stage::fresh) throw bad("a body was written before the response was begun");
    if (stage_ == stage::finished) throw bad("a body was written after the response was finished");
    if (writing_) throw Error{torc::errc::busy, phase::send, "respond", "two tasks write one response at once"};
    if (bodiless_) throw bad("a response with status " + std::to_string(head_.status) + " has no body");
    if (!left_bytes_ || answers_head_) return;
    if (piece_bytes > *left_bytes_) throw bad("the body is longer than its Content-Length");
    *left_bytes_ -= piece_bytes;
}

task<> Responder::write(std::span<const std::byte> piece) {
    if (piece.empty()) co_return;
    account_for(piece.size());
    if (answers_head_) co_return;
    if (chunked_) out_ += ChunkHeader{piece.size()}.view();
    const bool copied = piece.size() < copy_below_bytes;
    if (copied) {
        out_.append(reinterpret_cast<const char*>(piece.data()), piece.size());
        if (chunked_) out_ += chunk_end;
    }
    co_await flush();
    if (copied) co_return;
    writing_ = true;
    co_await connection_.send(piece);
    writing_ = false;
    if (chunked_) out_ += chunk_end;  // leaves with what comes next
}

task<> Responder::flush() {
    if (stage_ == stage::fresh) throw bad("a response was flushed before it was begun");
    if (writing_) throw Error{torc::errc::busy, phase::send, "respond", "two tasks write one response at once"};
    if (out_.empty()) co_return;
    // A send that is cut short leaves `writing_` set: the connection refuses all that would follow.
    writing_ = true;
    sent_ = true;
    co_await connection_.send(std::as_bytes(std::span{out_}));
    writing_ = false;
    out_.clear();
}

task<> Responder::finish() {
    if (stage_ == stage::finished) co_return;
    if (stage_ == stage::fresh) throw bad("a response was finished before it was begun");
    if (writing_) throw Error{torc::errc::busy, phase::send, "respond", "two tasks write one response at once"};
    if (left_bytes_.value_or(0) != 0 && !answers_head_) {
        throw bad("the body is " + std::to_string(*left_bytes_) + " bytes shorter than its Content-Length");
    }
    if (chunked_ && !answers_head_) {
        if (const result<void> written = append_last_chunk(out_, trailers_); !written) throw written.error();
    }
    co_await flush();
    stage_ = stage::finished;
}

task<> Responder::send(int status, std::string body, std::string_view content_type) {
    if (!content_type.empty()) head_.headers.set("Content-Type", content_type);
    begin_with(status, body.size());
    if (!body.empty()) co_await write(std::string_view{body});
    co_await finish();
}

}  // namespace torc::http
