#include <limits>
#include <optional>

#include <torc/http/message.hpp>
#include <torc/http/parser.hpp>

#include "fuzz.hpp"

// Theory of operation. Five bytes say what is done and where it is cut, the rest is a chunked body as it is received,
// or any bytes to be sent as one.
//
// Required of what is received: the parser finds what the small decoder below finds, which reads RFC 9112, 7.1 from a
// string that it has as a whole: the same bytes, the same trailers, the same end; and refuses what it refuses. Limits
// are small, so that all of them are met. Required of what is sent: it arrives.

namespace torc::fuzz {
namespace {

using http::Parser;

http::Limits small_limits() {
    http::Limits limits;
    limits.max_line_bytes = 50;
    limits.max_trailer_bytes = 100;
    limits.max_headers = 4;
    limits.max_chunk_line_bytes = 40;
    limits.max_chunk_extension_bytes = 60;
    limits.max_body_bytes = 200;
    return limits;
}

enum class ending : std::uint8_t { complete, incomplete, refused };

struct Decoded {
    ending how = ending::incomplete;
    std::string body;
    std::string trailers;  ///< "name=value\n" each
    std::size_t used_bytes = 0;

    [[nodiscard]] std::string text() const {
        const char* const words = how == ending::complete  ? "complete"
                                  : how == ending::refused ? "refused"
                                                           : "incomplete";
        std::string text = std::string{words} + "\n" + body + "\n" + trailers;
        if (how == ending::complete) text += std::to_string(used_bytes);
        return text;
    }
};

class Reference {
   public:
    explicit Reference(std::string_view stream, const http::Limits& limits) : stream_(stream), limits_(limits) {}

    Decoded run() {
        found_.how = read();
        found_.used_bytes = at_;
        return found_;
    }

   private:
    ending read() {
        std::size_t extension_bytes = 0;
        for (;;) {
            std::string_view line;
            const ending read = take_line(line, limits_.max_chunk_line_bytes);
            if (read != ending::complete) return read;
            const std::size_t digits = std::min(line.find_first_not_of("0123456789abcdefABCDEF"), line.size());
            if (digits == 0 || digits > 16 || !is_extensions(line.substr(digits))) return ending::refused;
            extension_bytes += line.size() - digits;
            const std::uint64_t size = std::stoull(std::string{line.substr(0, digits)}, nullptr, 16);
            if (extension_bytes > limits_.max_chunk_extension_bytes) return ending::refused;
            if (size > limits_.max_body_bytes - found_.body.size()) return ending::refused;
            if (size == 0) return read_trailers();
            const std::string_view data = stream_.substr(at_, size);
            found_.body += data;
            at_ += data.size();
            if (data.size() < size) return ending::incomplete;
            const std::string_view end = stream_.substr(at_, 2);
            if (!std::string_view{"\r\n"}.starts_with(end)) return ending::refused;
            if (end.size() < 2) return ending::incomplete;
            at_ += 2;
        }
    }

    ending read_trailers() {
        std::string trailers;
        std::size_t count = 0;
        bool forbidden = false;
        const std::size_t begin = at_;
        for (;;) {
            const std::size_t used = at_ - begin;
            std::string_view line;
            const ending read =
                take_line(line, std::min(limits_.max_line_bytes,
                                         limits_.max_trailer_bytes - std::min(limits_.max_trailer_bytes, used)));
            if (read != ending::complete) return read;
            if (line.empty()) break;
            const std::size_t colon = line.find(':');
            if (colon == line.npos || ++count > limits_.max_headers) return ending::refused;
            const std::string name{line.substr(0, colon)};
            if (!is_token(name)) return ending::refused;
            std::string_view value = line.substr(colon + 1);
            value.remove_prefix(std::min(value.find_first_not_of(" \t"), value.size()));
            value = value.substr(0, value.find_last_not_of(" \t") + 1);
            trailers += name + "=" + std::string{value} + "\n";
            std::string lower = name;
            for (char& c : lower) c = c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c;
            forbidden = forbidden || lower == "content-length" || lower == "transfer-encoding" || lower == "host";
        }
        if (forbidden) return ending::refused;
        found_.trailers = trailers;
        return ending::complete;
    }

    /// A line without its CRLF. One that is not complete may be wrong already.
    ending take_line(std::string_view& line, std::size_t most) {
        const std::string_view left = stream_.substr(at_);
        std::size_t size = 0;
        while (size < left.size() &&
               (left[size] == '\t' || (static_cast<std::uint8_t>(left[size]) >= 0x20 && left[size] != 0x7f)))
            ++size;
        if (size > most) return ending::refused;
        if (size == left.size()) return ending::incomplete;
        if (left[size] != '\r') return ending::refused;
        if (size + 1 == left.size()) return ending::incomplete;
        if (left[size + 1] != '\n') return ending::refused;
        line = left.substr(0, size);
        at_ += size + 2;
        return ending::complete;
    }

    static std::size_t token_size(std::string_view text) {
        constexpr std::string_view more = "!#$%&'*+-.^_`|~";
        std::size_t size = 0;
        const auto is_token_char = [&](char c) {
            return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || more.find(c) != more.npos;
        };
        while (size < text.size() && is_token_char(text[size])) ++size;
        return size;
    }
    static bool is_token(std::string_view text) { return !text.empty() && token_size(text) == text.size(); }

    /// *( ";" token [ "=" ( token / quoted-string ) ] ), without the spaces that RFC 9112 would let pass.
    static bool is_extensions(std::string_view text) {
        while (!text.empty()) {
            if (text[0] != ';') return false;
            text.remove_prefix(1);
            const std::size_t name = token_size(text);
            if (name == 0) return false;
            text.remove_prefix(name);
            if (!text.starts_with('=')) continue;
            text.remove_prefix(1);
            if (!text.starts_with('"')) {
                const std::size_t value = token_size(text);
                if (value == 0) return false;
                text.remove_prefix(value);
                continue;
            }
            std::size_t end = 1;
            while (end < text.size() && text[end] != '"') end += text[end] == '\\' ? 2U : 1U;
            if (end >= text.size()) return false;
            text.remove_prefix(end + 1);
        }
        return true;
    }

    std::string_view stream_;
    const http::Limits& limits_;
    std::size_t at_ = 0;
    Decoded found_;
};

constexpr std::string_view head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";

Decoded parse(const std::vector<std::string_view>& pieces, const http::Limits& limits) {
    Parser parser{Parser::role::request, {limits, false}};
    Decoded found;
    auto step = parser.feed(std::as_bytes(std::span{head}));
    require(step && step->what == Parser::event::head && step->consumed_bytes == head.size(), "the head is read");
    for (const std::string_view piece : pieces) {
        for (auto in = std::as_bytes(std::span{piece});;) {
            step = parser.feed(in);
            if (!step) {
                found.how = ending::refused;
                return found;
            }
            in = in.subspan(step->consumed_bytes);
            found.used_bytes += step->consumed_bytes;
            if (step->what == Parser::event::body) {
                found.body.append(reinterpret_cast<const char*>(step->body.data()), step->body.size());
            } else if (step->what == Parser::event::end) {
                for (const auto& [name, value] : parser.trailers()) {
                    found.trailers.append(name).append("=").append(value).append("\n");
                }
                found.how = ending::complete;
                return found;
            } else {
                require(in.empty(), "a parser that needs more has taken all there was");
                break;
            }
        }
    }
    return found;
}

void check_received(std::string_view stream, const std::vector<std::size_t>& cuts) {
    const http::Limits limits = small_limits();
    const std::string expected = Reference{stream, limits}.run().text();
    require_same(expected, parse({stream}, limits).text(), "a chunked body is read as RFC 9112 says");
    require_same(expected, parse(Pieces::cut(stream, cuts).views(), limits).text(), "it is read the same in pieces");
    require_same(expected, parse(Pieces::of_size(stream, 1).views(), limits).text(),
                 "it is read the same byte by byte");
}

void check_sent(std::string_view body, const std::vector<std::size_t>& cuts) {
    std::string sent;
    const Pieces pieces = Pieces::cut(body, cuts);
    for (const std::string_view piece : pieces.views()) {
        if (piece.empty()) continue;
        sent.append(http::ChunkHeader{piece.size()}.view()).append(piece).append(http::chunk_end);
    }
    http::Headers trailers;
    trailers.add("Digest", std::to_string(body.size()));
    require(append_last_chunk(sent, trailers).has_value(), "a trailer can be sent");
    const Decoded arrived = parse(Pieces::of_size(sent, 7).views(), {});
    require(arrived.how == ending::complete && arrived.used_bytes == sent.size(), "what was sent arrives as a whole");
    require_same(body, arrived.body, "the body that was sent arrives");
    require_same("Digest=" + std::to_string(body.size()) + "\n", arrived.trailers,
                 "the trailers that were sent arrive");
}

}  // namespace
}  // namespace torc::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace torc::fuzz;
    Input input{data, size};
    const bool sends = (input.byte() & 1) != 0;
    const std::string_view places = input.text(4);
    const std::string_view text = input.rest();
    const std::vector<std::size_t> cuts = places_in(text.size(), places);
    if (sends) {
        check_sent(text, cuts);
    } else {
        check_received(text, cuts);
    }
    return 0;
}
