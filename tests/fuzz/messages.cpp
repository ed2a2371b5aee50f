#include "messages.hpp"

#include <torc/http/method.hpp>
#include <torc/http/status.hpp>

#include "../http/transcript.hpp"
#include "fuzz.hpp"

// Theory of operation. The transcript of a stream says all that a parser reported; transcripts of one stream cut in
// different ways are compared as text. The way back goes through a `Rewriter`, which has the messages of a stream
// written by the functions that write ours: other spaces, other chunks, no chunk extensions, and yet the same
// transcript.
//
// A parser that refused everything would pass all that, so there is also the way there: a message that is ours, with
// any method, target, status, headers and body that may be sent, is read as what it is.

namespace torc::fuzz {
namespace {

using http::Parser;

struct Rewritten {
    std::string bytes;
    std::size_t read_bytes = 0;  ///< of the stream, up to the end of the last message that is in `bytes`
    bool has_empty_reason = false;
};

/// Small enough for all of them to be met within a few hundred bytes.
http::Limits small_limits() {
    http::Limits limits;
    limits.max_line_bytes = 60;
    limits.max_head_bytes = 150;
    limits.max_headers = 4;
    limits.max_trailer_bytes = 60;
    limits.max_chunk_line_bytes = 20;
    limits.max_chunk_extension_bytes = 30;
    limits.max_interim_responses = 2;
    limits.max_body_bytes = 40;
    return limits;
}

/// What is written anew may be a little longer than it was.
http::Limits ample_limits() {
    http::Limits limits;
    limits.max_line_bytes *= 2;
    limits.max_head_bytes *= 4;
    limits.max_trailer_bytes *= 4;
    return limits;
}

class Rewriter {
   public:
    explicit Rewriter(const Reading& how) : how_(how), parser_(how.side, how.options) {
        parser_.expect_response_to(how.answers);
    }

    Rewritten run(std::string_view stream) {
        auto in = std::as_bytes(std::span{stream});
        for (;;) {
            const auto step = parser_.feed(in);
            if (!step) {
                require_lasting(step.error());
                return std::move(done_);
            }
            in = in.subspan(step->consumed_bytes);
            switch (step->what) {
                case Parser::event::need_more:
                    if (!how_.at_end || !parser_.finish() || !parser_.done()) return std::move(done_);
                    break;
                case Parser::event::interim:
                case Parser::event::head: write_head(); break;
                case Parser::event::body: write_body(step->body); break;
                case Parser::event::end:
                    if (!write_end()) return std::move(done_);
                    done_.read_bytes = stream.size() - in.size();
                    if (parser_.upgrade()) return std::move(done_);
                    parser_.next_message();
                    if (in.empty()) return std::move(done_);
                    break;
            }
        }
    }

   private:
    void require_lasting(const Error& error) {
        const auto more = parser_.feed(std::as_bytes(std::span{"GET / HTTP/1.1\r\n\r\n"}));
        require(!more && more.error().message() == error.message(), "an error stays");
        const auto end = parser_.finish();
        require(!end && end.error().message() == error.message(), "an error stays at the end of the stream");
    }

    void require_few(const http::Headers& headers) {
        require(headers.size() <= how_.options.limits.max_headers, "there are no more headers than allowed");
    }

    void write_head() {
        const bool request = how_.side == Parser::role::request;
        if (!request && parser_.response().reason.empty()) done_.has_empty_reason = true;
        require_few(request ? parser_.request().headers : parser_.response().headers);
        const auto written =
            request ? append_head(message_, parser_.request()) : append_head(message_, parser_.response());
        require(written.has_value(), "a head that was read can be written");
        body_bytes_ = 0;
    }

    void write_body(std::span<const std::byte> bytes) {
        const bool chunked = parser_.body() == http::body_kind::chunked;
        if (chunked) message_ += http::ChunkHeader{bytes.size()}.view();
        message_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        if (chunked) message_ += http::chunk_end;
        body_bytes_ += bytes.size();
        require(body_bytes_ <= how_.options.limits.max_body_bytes, "a body is no longer than allowed");
    }

    /// False if the message has a trailer that we read and would not send.
    bool write_end() {
        require_few(parser_.trailers());
        if (parser_.body() == http::body_kind::length) {
            require(body_bytes_ == parser_.content_length(), "a body is as long as its Content-Length says");
        }
        if (parser_.body() == http::body_kind::chunked && !append_last_chunk(message_, parser_.trailers()))
            return false;
        done_.bytes += message_;
        message_.clear();
        return true;
    }

    const Reading& how_;
    Parser parser_;
    std::string message_;
    std::uint64_t body_bytes_ = 0;
    Rewritten done_;
};

void require_same_when_rewritten(std::string_view stream, Reading how) {
    const Rewritten once = Rewriter{how}.run(stream);
    how.options.limits = ample_limits();
    const Transcript again = read_whole(once.bytes, how);
    require(!again.refused(), "what was read and written is read again", again.error);
    if (!once.has_empty_reason) {
        require_same(again.text, read_whole(stream.substr(0, once.read_bytes), how).text,
                     "what was read and written is read again as the same");
    }
    const Rewritten twice = Rewriter{how}.run(once.bytes);
    require_same(once.bytes, twice.bytes, "what we wrote, we write again");
}

/// "METHOD TARGET" or "STATUS REASON", then headers, an empty line, and the body.
class Sent {
   public:
    Sent(Parser::role side, Input& input, bool chunked) : request_(side == Parser::role::request) {
        const std::string_view start = input.line();
        const std::size_t space = std::min(start.find(' '), start.size());
        const std::string_view first = start.substr(0, space);
        const std::string_view second = start.substr(std::min(space + 1, start.size()));
        if (request_) {
            head_.method = http::is_known_method(first) && first != "CONNECT" ? first : "POST";
            head_.target = second.starts_with('/') ? std::string{second} : "/" + std::string{second};
        } else {
            answer_.status = status_of(first);
            answer_.reason = second;
        }
        std::string_view line;
        while (headers().size() < 100 && !(line = input.line()).empty()) add_header(line);
        if (request_ || !http::is_bodiless(answer_.status)) body_ = input.rest();
        chunked_ = chunked && !body_.empty();
        if (chunked_) {
            headers().add("Transfer-Encoding", "chunked");
        } else if (request_ || !http::is_bodiless(answer_.status)) {
            headers().add("Content-Length", std::to_string(body_.size()));
        }
    }

    void check(std::string_view places) {
        std::string bytes;
        const auto written = request_ ? append_head(bytes, head_) : append_head(bytes, answer_);
        if (!written) {
            require(bytes.empty() && written.error().code() == http::errc::bad_header, "what may not be sent is not");
            return;
        }
        if (chunked_) {
            const Pieces chunks = Pieces::cut(body_, places_in(body_.size(), places));
            for (const std::string_view chunk : chunks.views()) {
                if (chunk.empty()) continue;
                bytes.append(http::ChunkHeader{chunk.size()}.view()).append(chunk).append(http::chunk_end);
            }
            bytes += http::last_chunk;
        } else {
            bytes += body_;
        }
        read(bytes);
    }

   private:
    static int status_of(std::string_view digits) {
        const bool fine = digits.size() == 3 && digits[0] >= '2' &&
                          std::ranges::all_of(digits, [](char c) { return c >= '0' && c <= '9'; });
        return fine ? std::stoi(std::string{digits}) : 200;
    }

    http::Headers& headers() { return request_ ? head_.headers : answer_.headers; }

    void add_header(std::string_view line) {
        const std::size_t colon = std::min(line.find(':'), line.size());
        const std::string_view name = line.substr(0, colon);
        const std::string_view value = line.substr(std::min(colon + 1, line.size()));
        http::Headers alone;
        try {
            alone.add(name, value);
        } catch (const Error&) {
            return;
        }
        // These are chosen here.
        for (const std::string_view framing : {"Content-Length", "Transfer-Encoding"}) {
            if (alone.contains(framing)) return;
        }
        headers().add(name, value);
    }

    void read(std::string_view bytes) {
        Parser parser{request_ ? Parser::role::request : Parser::role::response, {ample_limits(), false}};
        std::string body;
        for (auto in = std::as_bytes(std::span{bytes});;) {
            const auto step = parser.feed(in);
            require(step.has_value(), "what we send is read", step ? "" : step.error().message());
            in = in.subspan(step->consumed_bytes);
            if (step->what == Parser::event::end) break;
            require(!in.empty() || step->what != Parser::event::need_more, "what we send is complete", bytes);
            if (step->what == Parser::event::head) {
                require(is_same_head(parser), "the head is read as it was sent", bytes);
            } else {
                body.append(reinterpret_cast<const char*>(step->body.data()), step->body.size());
            }
        }
        require_same(body_, body, "the body is read as it was sent");
    }

    bool is_same_head(const Parser& parser) {
        const http::Headers& read = request_ ? parser.request().headers : parser.response().headers;
        const bool same = std::ranges::equal(
            read, headers(), [](const auto& a, const auto& b) { return a.name == b.name && a.value == b.value; });
        if (request_) return same && parser.request().method == head_.method && parser.request().target == head_.target;
        return same && parser.response().status == answer_.status &&
               (answer_.reason.empty() || parser.response().reason == answer_.reason);
    }

    bool request_;
    bool chunked_ = false;
    http::RequestHead head_;
    http::ResponseHead answer_;
    std::string body_;
};

}  // namespace

void check_messages(Parser::role side, const std::uint8_t* data, std::size_t size) {
    Input input{data, size};
    Reading how;
    how.side = side;
    const std::uint8_t flags = input.byte();
    how.at_end = (flags & 1) != 0;
    if ((flags & 2) != 0) how.options.limits = small_limits();
    if (side == Parser::role::request) {
        how.options.require_host = (flags & 4) != 0;
    } else {
        how.answers = (flags & 4) == 0 ? "GET" : (flags & 8) == 0 ? "HEAD" : "CONNECT";
    }
    const std::string_view places = input.text(3);
    if ((flags & 64) != 0) {
        Sent{side, input, (flags & 1) != 0}.check(places);
        return;
    }
    const std::string_view stream = input.rest();
    const std::vector<std::size_t> cuts = places_in(stream.size(), places);

    const Transcript whole = read_whole(stream, how);
    require(whole.text.find("STUCK") == std::string::npos || stream.find("STUCK") != std::string_view::npos,
            "a parser that needs more has taken all there was");
    require(is_printable(whole.error), "an error is a line of text", whole.error);
    require(!whole.refused() || whole.code.category() == http::http_category(), "an error is HTTP's own");
    require_same(whole.all(), read_pieces(Pieces::cut(stream, cuts).views(), how).all(),
                 "a stream is read the same whole and in pieces");
    const std::size_t tiny = stream.size() > 1500 ? 5 : 1;
    require_same(whole.all(), read_pieces(Pieces::of_size(stream, tiny).views(), how).all(),
                 "a stream is read the same whole and byte by byte");
    require_same_when_rewritten(stream, how);
}

}  // namespace torc::fuzz
