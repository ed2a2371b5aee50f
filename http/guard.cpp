#include "guard.hpp"

#include <array>
#include <limits>

#include <torc/http/method.hpp>

#include "bytes.hpp"

// Theory of operation. RFC 9112, with every leniency that it allows a recipient left out, for each is a way in which
// two parsers can disagree on where a message ends: lines end in CRLF and nothing else, nothing is folded, no space
// stands before a colon, framing fields stand at most once, and never both of them.
//
// Lines are validated when they are complete, single bytes as they come. Limits are applied byte by byte, so that where
// the input was split never decides which error is found. The rest of a line that lies whole in the input is taken at
// once if nothing is wrong with it; if anything is, byte by byte as well. And fields as nearly everybody writes them,
// which are whole and within the limits, are read in one pass and taken together; the first that is not is left to the
// others' way.

namespace torc::http {

using torc::detail::pooled_string;

namespace {

constexpr std::size_t max_blank_lines = 8;
constexpr std::size_t common_head_bytes = 512;
constexpr std::size_t common_fields = 8;

constexpr ByteSet host_chars = ByteSet{}.range('0', '9').range('a', 'z').range('A', 'Z').these("-._~!$&'()*+,;=%:[]");

std::unexpected<Error> bad(errc code, std::string words) { return fail(code, phase::head, std::move(words)); }

std::string number(std::size_t value) { return std::to_string(value); }

std::string hex_byte(char c) {
    constexpr std::string_view digits = "0123456789abcdef";
    const auto byte = static_cast<std::uint8_t>(c);
    return std::string{"0x"} + digits[byte >> 4] + digits[byte & 15];
}

result<int> read_version(std::string_view version) {
    if (version == "HTTP/1.1") return 1;
    if (version == "HTTP/1.0") return 0;
    return bad(errc::unsupported_version, in_quotes(version) + " is neither HTTP/1.0 nor HTTP/1.1");
}

bool is_target(std::string_view method, std::string_view target) {
    if (!std::ranges::all_of(target, [](char c) { return target_chars(c); })) return false;
    if (method == "CONNECT") {
        const std::size_t colon = target.rfind(':');
        return colon != std::string_view::npos && colon != 0 && colon + 1 < target.size() &&
               std::ranges::all_of(target, [](char c) { return host_chars(c); }) &&
               std::ranges::all_of(target.substr(colon + 1), is_digit);
    }
    if (target == "*" || target.starts_with('/')) return true;
    const std::size_t colon = target.find("://");
    return colon != std::string_view::npos && colon != 0 && std::ranges::all_of(target.substr(0, colon), is_alpha);
}

}  // namespace

bool LineScanner::take_whole(std::span<const std::byte>& in, pooled_string& out, const Bounds& bounds) const {
    if (carriage_return_) return false;
    const std::string_view bytes{reinterpret_cast<const char*>(in.data()), in.size()};
    const std::size_t line_feed = bytes.find('\n');
    if (line_feed == std::string_view::npos || line_feed == 0 || bytes[line_feed - 1] != '\r') return false;
    const std::string_view line = bytes.substr(0, line_feed - 1);
    const bool too_long = out.size() - begin_ + line.size() > bounds.line_bytes;
    const bool too_much = out.size() + line.size() > bounds.total_bytes;
    if (too_long || too_much || !is_text(line)) return false;
    out.append(bytes, 0, line_feed + 1);
    in = in.subspan(line_feed + 1);
    return true;
}

result<bool> LineScanner::take(std::span<const std::byte>& in, pooled_string& out, const Bounds& bounds, phase where) {
    if (take_whole(in, out, bounds)) return true;
    while (!in.empty()) {
        const char* bytes = reinterpret_cast<const char*>(in.data());
        if (carriage_return_) {
            if (*bytes != '\n')
                return fail(errc::bad_message, where, "a carriage return is not followed by a line feed");
            out += '\n';
            in = in.subspan(1);
            return true;
        }
        const std::size_t line_room = bounds.line_bytes - std::min(bounds.line_bytes, out.size() - begin_);
        const std::size_t total_room = bounds.total_bytes - std::min(bounds.total_bytes, out.size());
        const std::size_t room = std::min({line_room, total_room, in.size()});
        std::size_t run = 0;
        while (run < room && text_chars(bytes[run])) ++run;
        out.append(bytes, run);
        in = in.subspan(run);
        if (in.empty()) break;
        const char c = bytes[run];
        if (c == '\r') {
            carriage_return_ = true;
            out += '\r';
            in = in.subspan(1);
        } else if (c == '\n') {
            return fail(errc::bad_message, where, "a line feed stands without a carriage return before it");
        } else if (c == '\0') {
            return fail(errc::bad_message, where, "a line contains a NUL byte");
        } else if (!text_chars(c)) {
            return fail(errc::bad_message, where, "a line contains the control byte " + hex_byte(c));
        } else if (line_room <= total_room) {
            return fail(errc::line_too_long, where,
                        "a " + std::string{bounds.what} + " is longer than " + number(bounds.line_bytes) + " bytes");
        } else {
            return fail(
                bounds.total_code, where,
                "the " + std::string{bounds.whole} + " is larger than " + number(bounds.total_bytes) + " bytes");
        }
    }
    return false;
}

void HeadReader::begin(kind what, Headers& into) {
    *this = HeadReader{};
    kind_ = what;
    into.clear();
}

result<HeadReader::step> HeadReader::feed(std::span<const std::byte>& in, Headers& into, const Limits& limits) {
    const bool head = kind_ == kind::head;
    const LineScanner::Bounds bounds =
        head ? LineScanner::Bounds{limits.max_line_bytes, limits.max_head_bytes, errc::head_too_large, "header line",
                                   "head"}
             : LineScanner::Bounds{limits.max_line_bytes, limits.max_trailer_bytes, errc::trailers_too_large,
                                   "trailer line", "trailer section"};
    if (into.buffer_.empty()) {
        // Most heads come whole, and are small: they need memory twice.
        into.buffer_.reserve(std::min(in.size(), common_head_bytes));
        into.entries_.reserve(common_fields);
    }
    while (true) {
        if ((has_start_line_ || !head) && scanner_.at_line_begin(into.buffer_)) {
            if (take_usual_fields(in, into, bounds, limits.max_headers)) return step::complete;
            scanner_.begin_line(into.buffer_.size());
        }
        const result<bool> complete = scanner_.take(in, into.buffer_, bounds, head ? phase::head : phase::body);
        if (!complete) return std::unexpected{complete.error()};
        started_ = started_ || into.buffer_.find_first_not_of("\r\n") != std::string::npos;
        if (!*complete) return step::need_more;
        const std::string_view line = scanner_.line(into.buffer_);
        scanner_.begin_line(into.buffer_.size());
        if (head && !has_start_line_) {
            if (line.empty()) {
                // Some peers end a body with a CRLF that it does not include (RFC 9112, 2.2).
                if (++blank_lines_ > max_blank_lines)
                    return bad(errc::bad_message, "blank lines come instead of a message");
                into.buffer_.clear();
                scanner_.begin_line(0);
                continue;
            }
            has_start_line_ = true;
            start_line_size_ = line.size();
            return step::start_line;
        }
        if (line.empty()) return step::complete;
        if (auto added = add_field(into, line, limits); !added) return std::unexpected{added.error()};
    }
}

/// Takes fields of the form "name: value", and the empty line behind them, for which it returns true; begins at the
/// beginning of a line and ends at that of the first which it does not take.
bool HeadReader::take_usual_fields(std::span<const std::byte>& in, Headers& into, const LineScanner::Bounds& bounds,
                                   std::size_t max_headers) {
    const char* const first = reinterpret_cast<const char*>(in.data());
    const char* const last = first + in.size();
    const std::size_t before = into.buffer_.size();
    const char* line = first;
    bool complete = false;
    const auto offset = [&](const char* at) { return before + static_cast<std::size_t>(at - first); };
    const auto is_whole = [&](const char* end) {
        return last - end >= 2 && end[0] == '\r' && end[1] == '\n' && offset(end) <= bounds.total_bytes &&
               static_cast<std::size_t>(end - line) <= bounds.line_bytes;
    };
    while (into.entries_.size() < max_headers) {
        const char* colon = line;
        while (colon != last && is_token_char(*colon)) ++colon;
        if (colon == line) {
            complete = is_whole(line);
            if (complete) line += 2;
            break;
        }
        if (last - colon < 3 || colon[0] != ':' || colon[1] != ' ') break;
        const char* const value = colon + 2;
        const char* const end = end_of_text(value, last);
        if (!is_whole(end) || value == end || is_space(value[0]) || is_space(end[-1])) break;
        into.entries_.push_back({static_cast<std::uint32_t>(offset(line)), static_cast<std::uint32_t>(colon - line),
                                 static_cast<std::uint32_t>(offset(value)), static_cast<std::uint32_t>(end - value)});
        line = end + 2;
    }
    into.buffer_.append(first, line);
    in = in.subspan(static_cast<std::size_t>(line - first));
    return complete;
}

result<void> HeadReader::add_field(Headers& into, std::string_view line, const Limits& limits) const {
    const phase where = kind_ == kind::head ? phase::head : phase::body;
    if (into.entries_.size() >= limits.max_headers) {
        return fail(errc::too_many_headers, where,
                    "there are more than " + number(limits.max_headers) + " header lines");
    }
    if (line[0] == ' ' || line[0] == '\t') {
        return fail(errc::bad_message, where, "a header line begins with a space: folded lines are not accepted");
    }
    const std::size_t colon = line.find(':');
    if (colon == std::string_view::npos)
        return fail(errc::bad_message, where, "the header line " + in_quotes(line) + " has no colon");
    const std::string_view name = line.substr(0, colon);
    if (name.empty()) return fail(errc::bad_message, where, "a header line has no name before its colon");
    if (name.back() == ' ' || name.back() == '\t') {
        return fail(errc::bad_message, where, "the header name " + in_quotes(name) + " has a space before its colon");
    }
    if (!is_token(name)) {
        return fail(errc::bad_message, where,
                    "the header name " + in_quotes(name) + " contains a character that is not allowed in names");
    }
    const std::string_view padded = line.substr(colon + 1);
    const std::string_view value = trim_spaces(padded);
    const auto offset = [&](std::string_view part) {
        return static_cast<std::uint32_t>(part.data() - into.buffer_.data());
    };
    into.entries_.push_back({offset(name), static_cast<std::uint32_t>(name.size()), offset(value),
                             static_cast<std::uint32_t>(value.size())});
    // Around values tabs are as good as spaces, but not to every reader that sees the buffer after us.
    const std::size_t begin = static_cast<std::size_t>(padded.data() - into.buffer_.data());
    const std::size_t before = value.empty() ? padded.size() : static_cast<std::size_t>(value.data() - padded.data());
    const std::size_t behind = before + value.size();
    char* const first = into.buffer_.data() + begin;
    std::replace(first, first + before, '\t', ' ');
    std::replace(first + behind, first + padded.size(), '\t', ' ');
    return {};
}

result<void> read_request_line(std::string_view line, RequestHead& head) {
    const std::size_t first = line.find(' ');
    const std::string_view method = line.substr(0, first);
    if (!is_known_method(method)) {
        if (!is_token(method)) return bad(errc::bad_message, in_quotes(line) + " is not an HTTP request");
        return bad(errc::unknown_method, "the method " + in_quotes(method) + " is not known");
    }
    if (first == std::string_view::npos) return bad(errc::bad_message, in_quotes(line) + " is not an HTTP request");
    const std::string_view rest = line.substr(first + 1);
    const std::size_t second = rest.find(' ');
    if (second == std::string_view::npos) {
        return bad(errc::unsupported_version, "the request line has no version; HTTP/0.9 is not spoken here");
    }
    const std::string_view target = rest.substr(0, second);
    if (target.empty() || !is_target(method, target)) {
        return bad(errc::bad_message,
                   in_quotes(target) + " can not be the target of a " + std::string{method} + " request");
    }
    const result<int> version = read_version(rest.substr(second + 1));
    if (!version) return std::unexpected{version.error()};
    head.method = method;
    head.target = target;
    head.minor_version = *version;
    return {};
}

result<void> read_status_line(std::string_view line, ResponseHead& head) {
    if (!line.starts_with("HTTP/"))
        return bad(errc::bad_message, "the peer does not answer with HTTP but with " + in_quotes(line));
    const std::size_t first = line.find(' ');
    const result<int> version = read_version(line.substr(0, first));
    if (!version) return std::unexpected{version.error()};
    const std::string_view rest = first == std::string_view::npos ? std::string_view{} : line.substr(first + 1);
    const std::string_view code = rest.substr(0, 3);
    const bool digits = code.size() == 3 && std::ranges::all_of(code, is_digit) && code[0] != '0';
    if (!digits || (rest.size() > 3 && rest[3] != ' ')) {
        return bad(errc::bad_message, "the status line " + in_quotes(line) + " has no three-digit status");
    }
    head.status = (code[0] - '0') * 100 + (code[1] - '0') * 10 + (code[2] - '0');
    head.reason = rest.size() > 4 ? rest.substr(4) : std::string_view{};
    head.minor_version = *version;
    return {};
}

result<Framing> read_framing(const Headers& headers, int minor_version) {
    std::optional<std::string_view> length;
    std::optional<std::string_view> coding;
    for (const auto& [name, value] : headers) {
        const bool is_length = equals_ignoring_case(name, "Content-Length");
        if (!is_length && !equals_ignoring_case(name, "Transfer-Encoding")) continue;
        std::optional<std::string_view>& place = is_length ? length : coding;
        if (place) return bad(errc::bad_framing, "there is more than one " + std::string{name} + " header");
        place = value;
    }
    Framing framing;
    if (coding) {
        if (length) return bad(errc::bad_framing, "there is both a Content-Length and a Transfer-Encoding header");
        if (minor_version == 0)
            return bad(errc::bad_framing, "there is a Transfer-Encoding header, but HTTP/1.0 has none");
        if (!equals_ignoring_case(*coding, "chunked")) {
            return bad(errc::bad_framing, "the Transfer-Encoding " + in_quotes(*coding) + " is not \"chunked\"");
        }
        framing.chunked = true;
    }
    if (length) {
        constexpr std::uint64_t most = std::numeric_limits<std::int64_t>::max();
        std::uint64_t value = 0;
        if (length->empty()) return bad(errc::bad_framing, "the Content-Length is empty");
        for (const char c : *length) {
            if (!is_digit(c))
                return bad(errc::bad_framing, "the Content-Length " + in_quotes(*length) + " is not a number");
            const auto digit = static_cast<std::uint64_t>(c - '0');
            if (value > (most - digit) / 10)
                return bad(errc::bad_framing, "the Content-Length " + in_quotes(*length) + " is too large");
            value = value * 10 + digit;
        }
        framing.length = value;
    }
    return framing;
}

result<void> check_host(const RequestHead& head) {
    std::size_t count = 0;
    std::string_view host;
    for (const auto& [name, value] : head.headers) {
        if (!equals_ignoring_case(name, "Host")) continue;
        ++count;
        host = value;
    }
    if (count == 0 && head.minor_version >= 1) return bad(errc::bad_message, "the request has no Host header");
    if (count > 1) return bad(errc::bad_message, "there is more than one Host header");
    if (!std::ranges::all_of(host, [](char c) { return host_chars(c); })) {
        return bad(errc::bad_message, "the Host header " + in_quotes(host) + " is not a host and port");
    }
    return {};
}

result<ChunkLine> read_chunk_line(std::string_view line) {
    const auto bad_chunk = [&](std::string_view why) {
        return fail(errc::bad_framing, phase::body, "the chunk line " + in_quotes(line) + " " + std::string{why});
    };
    constexpr std::size_t max_digits = 16;
    ChunkLine chunk{0, 0};
    std::size_t digits = 0;
    while (digits < line.size() && hex_value(line[digits]) >= 0) {
        if (digits == max_digits) return bad_chunk("has a size of too many digits");
        chunk.size_bytes = chunk.size_bytes << 4 | static_cast<std::uint64_t>(hex_value(line[digits++]));
    }
    if (digits == 0) return bad_chunk("does not begin with a size");
    if (chunk.size_bytes > std::uint64_t{std::numeric_limits<std::int64_t>::max()})
        return bad_chunk("has too large a size");
    std::string_view rest = line.substr(digits);
    chunk.extension_bytes = rest.size();
    while (!rest.empty()) {
        if (rest[0] != ';') return bad_chunk("has something other than a chunk extension behind its size");
        rest.remove_prefix(1);
        const auto skip_token = [&] {
            std::size_t size = 0;
            while (size < rest.size() && is_token_char(rest[size])) ++size;
            rest.remove_prefix(size);
            return size != 0;
        };
        if (!skip_token()) return bad_chunk("has a chunk extension without a name");
        if (!rest.starts_with('=')) continue;
        rest.remove_prefix(1);
        if (!rest.starts_with('"')) {
            if (!skip_token()) return bad_chunk("has a chunk extension with a malformed value");
            continue;
        }
        std::size_t at = 1;
        while (at < rest.size() && rest[at] != '"') at += rest[at] == '\\' ? 2 : 1;
        if (at >= rest.size()) return bad_chunk("has a quoted chunk extension that does not end");
        rest.remove_prefix(at + 1);
    }
    return chunk;
}

}  // namespace torc::http
