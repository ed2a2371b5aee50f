#include <torc/http/url.hpp>

#include <array>
#include <optional>
#include <utility>

#include "bytes.hpp"
#include "url_host.hpp"

// Theory of operation. The URL standard's basic parser, cut down to its special schemes and written as a sequence
// instead of a state machine: clean the input, take the scheme, decide between absolute and relative, take authority,
// path, query and fragment, each with its own set of bytes that get percent-encoded. The parts are collected apart and
// put together once, in `assemble`, which is the only place that knows the offsets into the finished string.
//
// The path is kept as text, each segment led by its slash, so that leaving a directory is cutting at the last slash.

namespace torc::http {
namespace {

constexpr ByteSet controls = ByteSet{}.range(0, 0x1f).range(0x7f, 0xff);
constexpr ByteSet encode_in_fragment = ByteSet{controls}.these(" \"<>`");
constexpr ByteSet encode_in_query = ByteSet{controls}.these(" \"#<>'");
constexpr ByteSet encode_in_path = ByteSet{controls}.these(" \"#<>?^`{}");
constexpr ByteSet encode_in_userinfo = ByteSet{encode_in_path}.these("/:;=@[\\]|");

constexpr ByteSet scheme_chars = ByteSet{}.range('0', '9').range('a', 'z').range('A', 'Z').these("+-.");

struct Scheme {
    std::string_view name;
    std::uint16_t port;
    bool secure;
};
constexpr std::array schemes = {Scheme{"http", 80, false}, Scheme{"https", 443, true}, Scheme{"ws", 80, false},
                                Scheme{"wss", 443, true}};

const Scheme* find_scheme(std::string_view name) {
    for (const Scheme& scheme : schemes) {
        if (equals_ignoring_case(scheme.name, name)) return &scheme;
    }
    return nullptr;
}

bool is_slash(char c) { return c == '/' || c == '\\'; }

void encode(std::string& out, std::string_view text, const ByteSet& set) {
    constexpr std::string_view digits = "0123456789ABCDEF";
    for (const char c : text) {
        if (set(c)) {
            const auto byte = static_cast<std::uint8_t>(c);
            out += '%';
            out += digits[byte >> 4];
            out += digits[byte & 15];
        } else {
            out += c;
        }
    }
}

// Drops surrounding spaces and control bytes, and tabs and line breaks everywhere: what copying out of a text leaves.
std::string clean(std::string_view text) {
    const auto blank = [](char c) { return static_cast<std::uint8_t>(c) <= 0x20; };
    while (!text.empty() && blank(text.front())) text.remove_prefix(1);
    while (!text.empty() && blank(text.back())) text.remove_suffix(1);
    std::string kept{text};
    std::erase_if(kept, [](char c) { return c == '\t' || c == '\n' || c == '\r'; });
    return kept;
}

std::string_view take_scheme(std::string_view text) {
    if (text.empty() || !is_alpha(text[0])) return {};
    std::size_t size = 1;
    while (size < text.size() && scheme_chars(text[size])) ++size;
    return size < text.size() && text[size] == ':' ? text.substr(0, size) : std::string_view{};
}

int dots_of(std::string_view segment) {
    int dots = 0;
    while (!segment.empty() && dots < 3) {
        if (segment[0] == '.') {
            segment.remove_prefix(1);
        } else if (segment.size() >= 3 && segment[0] == '%' && segment[1] == '2' && to_lower(segment[2]) == 'e') {
            segment.remove_prefix(3);
        } else {
            return 0;
        }
        ++dots;
    }
    return segment.empty() && dots < 3 ? dots : 0;
}

void leave_directory(std::string& path) { path.resize(path.empty() ? 0 : path.rfind('/')); }

// Appends the segments of `text`, which stand behind a slash, to `path`.
void append_path(std::string& path, std::string_view text) {
    while (true) {
        std::size_t size = 0;
        while (size < text.size() && !is_slash(text[size])) ++size;
        const bool last = size == text.size();
        const std::string_view segment = text.substr(0, size);
        const int dots = dots_of(segment);
        if (dots == 2) leave_directory(path);
        if (dots == 0) {
            path += '/';
            encode(path, segment, encode_in_path);
        } else if (last) {
            path += '/';
        }
        if (last) return;
        text.remove_prefix(size + 1);
    }
}

std::string no_scheme(std::string_view text) {
    if (text.empty() || text.front() == '/') return in_quotes(text) + " is not a full URL";
    return in_quotes(text) + " is not a full URL; write " + in_quotes("https://" + std::string{text});
}

}  // namespace

class UrlReader {
   public:
    result<Url> read(std::string_view text, const Url* base) {
        if (text.size() > max_url_bytes) return bad("the URL is longer than 1 MiB");
        const std::string cleaned = clean(text);
        std::string_view rest = cleaned;
        const std::string_view name = take_scheme(rest);
        if (name.empty()) {
            if (base == nullptr) {
                if (rest.empty()) return bad("the URL is empty");
                return fail(errc::unknown_scheme, phase::none, no_scheme(rest));
            }
            scheme_ = find_scheme(base->scheme());
            if (auto fault = read_relative(rest, *base)) return std::unexpected{*fault};
            return assemble();
        }
        scheme_ = find_scheme(name);
        const std::string_view behind = rest.substr(name.size() + 1);
        if (scheme_ == nullptr) {
            // "localhost:8080" is a name and a port to people, a scheme and a path to the grammar.
            if (!behind.empty() && is_digit(behind[0])) return fail(errc::unknown_scheme, phase::none, no_scheme(rest));
            return fail(errc::unknown_scheme, phase::none,
                        "the scheme " + in_quotes(name) + " is not one of http, https, ws and wss");
        }
        const bool relative = base != nullptr && scheme_->name == base->scheme() && !behind.starts_with("//");
        if (auto fault = relative ? read_relative(behind, *base) : read_absolute(behind))
            return std::unexpected{*fault};
        return assemble();
    }

    static Url put_fragment(const Url& url, std::optional<std::string_view> fragment, bool keep_credentials) {
        UrlReader parts;
        parts.scheme_ = find_scheme(url.scheme());
        parts.copy_authority(url);
        if (!keep_credentials) parts.userinfo_.clear();
        parts.path_ = url.path();
        parts.copy_query(url);
        if (fragment) encode(parts.fragment_.emplace(), *fragment, encode_in_fragment);
        return parts.assemble();
    }

   private:
    static constexpr std::size_t max_url_bytes = 1 << 20;

    static std::unexpected<Error> bad(std::string words) { return fail(errc::bad_url, phase::none, std::move(words)); }

    std::optional<Error> read_absolute(std::string_view rest) {
        while (!rest.empty() && is_slash(rest[0])) rest.remove_prefix(1);
        std::size_t size = 0;
        while (size < rest.size() && !is_slash(rest[size]) && rest[size] != '?' && rest[size] != '#') ++size;
        if (auto fault = read_authority(rest.substr(0, size))) return fault;
        read_path(rest.substr(size));
        return std::nullopt;
    }

    std::optional<Error> read_relative(std::string_view rest, const Url& base) {
        if (rest.size() >= 2 && is_slash(rest[0]) && is_slash(rest[1])) return read_absolute(rest);
        copy_authority(base);
        if (!rest.empty() && is_slash(rest[0])) {
            read_path(rest);
            return std::nullopt;
        }
        path_ = base.path();
        if (rest.empty() || rest[0] == '#') {
            copy_query(base);
            read_query_and_fragment(rest);
        } else if (rest[0] == '?') {
            read_query_and_fragment(rest);
        } else {
            leave_directory(path_);
            read_path(rest);
        }
        return std::nullopt;
    }

    std::optional<Error> read_authority(std::string_view text) {
        if (const std::size_t at = text.rfind('@'); at != std::string_view::npos) {
            const std::string_view credentials = text.substr(0, at);
            const std::size_t colon = std::min(credentials.find(':'), credentials.size());
            encode(userinfo_, credentials.substr(0, colon), encode_in_userinfo);
            if (colon + 1 < credentials.size()) {
                userinfo_ += ':';
                encode(userinfo_, credentials.substr(colon + 1), encode_in_userinfo);
            }
            text.remove_prefix(at + 1);
        }
        const std::size_t bracket = text.starts_with('[') ? text.find(']') : 0;
        const std::size_t colon = text.find(':', bracket == std::string_view::npos ? text.size() : bracket);
        const std::string_view name = text.substr(0, colon);
        if (name.empty()) return bad("the URL has no host").error();
        result<Host> host = parse_host(name);
        if (!host) return host.error();
        host_ = std::move(*host);
        port_ = scheme_->port;
        if (colon == std::string_view::npos || colon + 1 == text.size()) return std::nullopt;
        return read_port(text.substr(colon + 1));
    }

    std::optional<Error> read_port(std::string_view digits) {
        std::uint32_t value = 0;
        for (const char c : digits) {
            if (!is_digit(c)) return bad("the port " + in_quotes(digits) + " is not a number").error();
            value = std::min<std::uint32_t>(value * 10 + static_cast<std::uint32_t>(c - '0'), 1 << 20);
        }
        if (value > 65535)
            return bad("the port " + std::string{digits.substr(0, 60)} + " is larger than 65535").error();
        port_ = static_cast<std::uint16_t>(value);
        return std::nullopt;
    }

    void read_path(std::string_view rest) {
        const std::size_t size = std::min(rest.find_first_of("?#"), rest.size());
        std::string_view path = rest.substr(0, size);
        if (!path.empty() && is_slash(path[0])) path.remove_prefix(1);
        append_path(path_, path);
        read_query_and_fragment(rest.substr(size));
    }

    void read_query_and_fragment(std::string_view rest) {
        const std::size_t hash = std::min(rest.find('#'), rest.size());
        if (rest.starts_with('?')) encode(query_.emplace(), rest.substr(1, hash - 1), encode_in_query);
        if (hash < rest.size()) encode(fragment_.emplace(), rest.substr(hash + 1), encode_in_fragment);
    }

    void copy_authority(const Url& base) {
        userinfo_ = base.userinfo();
        host_ = Host{std::string{base.bracketed_host()}, base.ipv4_};
        port_ = base.port_;
    }

    void copy_query(const Url& base) {
        if (base.query_end_ != base.path_end_) query_ = base.query();
    }

    Url assemble() const {
        Url url;
        const auto here = [&] { return static_cast<std::uint32_t>(url.href_.size()); };
        url.href_ = scheme_->name;
        url.scheme_end_ = here();
        url.href_ += "://";
        if (!userinfo_.empty()) url.href_ += userinfo_ + '@';
        url.host_begin_ = here();
        url.href_ += host_.text;
        url.host_end_ = here();
        url.port_ = port_;
        url.ipv4_ = host_.ipv4;
        if (port_ != scheme_->port) url.href_ += ':' + std::to_string(port_);
        url.path_begin_ = here();
        url.href_ += path_;
        url.path_end_ = here();
        if (query_) url.href_ += '?' + *query_;
        url.query_end_ = here();
        if (fragment_) url.href_ += '#' + *fragment_;
        return url;
    }

    const Scheme* scheme_ = nullptr;
    std::string userinfo_;
    Host host_;
    std::uint16_t port_ = 0;
    std::string path_;
    std::optional<std::string> query_;
    std::optional<std::string> fragment_;
};

result<Url> Url::parse(std::string_view text) { return UrlReader{}.read(text, nullptr); }
result<Url> Url::resolve(std::string_view reference) const { return UrlReader{}.read(reference, this); }

bool Url::secure() const noexcept {
    const std::string_view name = scheme();
    return name == "https" || name == "wss";
}

std::string_view Url::host() const noexcept {
    return is_ipv6() ? piece(host_begin_ + 1, host_end_ - 1) : bracketed_host();
}

std::string_view Url::query() const noexcept {
    return path_end_ == query_end_ ? std::string_view{} : piece(path_end_ + 1, query_end_);
}

std::string_view Url::fragment() const noexcept {
    const auto size = static_cast<std::uint32_t>(href_.size());
    return query_end_ == size ? std::string_view{} : piece(query_end_ + 1, size);
}

std::string_view Url::userinfo() const noexcept {
    return has_credentials() ? piece(scheme_end_ + 3, host_begin_ - 1) : std::string_view{};
}

std::string Url::user() const {
    const std::string_view both = userinfo();
    return percent_decode(both.substr(0, both.find(':')));
}

std::string Url::password() const {
    const std::string_view both = userinfo();
    const std::size_t colon = both.find(':');
    return colon == std::string_view::npos ? std::string{} : percent_decode(both.substr(colon + 1));
}

std::string Url::origin() const { return std::string{scheme()} + "://" + std::string{authority()}; }

bool Url::same_origin(const Url& other) const noexcept {
    return scheme() == other.scheme() && host() == other.host() && port() == other.port();
}

Url Url::with_fragment(std::string_view fragment) const { return UrlReader::put_fragment(*this, fragment, true); }
Url Url::without_fragment() const { return UrlReader::put_fragment(*this, std::nullopt, true); }

Url Url::without_credentials() const {
    std::optional<std::string_view> kept;
    if (query_end_ != href_.size()) kept = fragment();
    return UrlReader::put_fragment(*this, kept, false);
}

}  // namespace torc::http
