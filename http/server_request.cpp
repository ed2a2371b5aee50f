#include <torc/http/server_request.hpp>

#include "bytes.hpp"
#include "server_connection.hpp"

// Theory of operation. The head is the parser's, good until the next message begins; the body is the connection's,
// which reads it on this object's behalf.

namespace torc::http {
namespace {

// A target may be a whole URL; what follows its authority is the path.
std::string_view origin_form(std::string_view target) {
    if (target.starts_with('/')) return target;
    const std::size_t scheme = target.find("://");
    if (scheme == std::string_view::npos) return target;
    const std::size_t path = target.find_first_of("/?", scheme + 3);
    return path == std::string_view::npos ? "/" : target.substr(path);
}

std::string decode_query_part(std::string_view text) {
    std::string decoded;
    decoded.reserve(text.size());
    for (std::size_t at = 0; at < text.size(); ++at) {
        const int high = text[at] == '%' && at + 2 < text.size() ? hex_value(text[at + 1]) : -1;
        const int low = high >= 0 ? hex_value(text[at + 2]) : -1;
        if (low >= 0) {
            decoded += static_cast<char>(high * 16 + low);
            at += 2;
        } else {
            decoded += text[at] == '+' ? ' ' : text[at];
        }
    }
    return decoded;
}

}  // namespace

std::string_view ServerRequest::path() const noexcept {
    const std::string_view whole = origin_form(head_.target);
    const std::string_view path = whole.substr(0, whole.find('?'));
    return path.empty() ? "/" : path;
}

std::string_view ServerRequest::query() const noexcept {
    const std::string_view whole = origin_form(head_.target);
    const std::size_t mark = whole.find('?');
    return mark == std::string_view::npos ? std::string_view{} : whole.substr(mark + 1);
}

std::optional<std::string> ServerRequest::query_value(std::string_view name) const {
    std::string_view rest = query();
    while (!rest.empty()) {
        const std::string_view pair = rest.substr(0, rest.find('&'));
        rest.remove_prefix(std::min(rest.size(), pair.size() + 1));
        const std::size_t equals = pair.find('=');
        if (decode_query_part(pair.substr(0, equals)) != name || pair.empty()) continue;
        return equals == std::string_view::npos ? std::string{} : decode_query_part(pair.substr(equals + 1));
    }
    return std::nullopt;
}

std::optional<std::uint64_t> ServerRequest::content_length() const noexcept {
    return connection_.parser().content_length();
}

task<std::span<const std::byte>> ServerRequest::read_some() { return connection_.read_body(); }

task<std::string> ServerRequest::text(std::uint64_t limit_bytes) {
    std::string all;
    const std::uint64_t announced = content_length().value_or(0);
    bool too_large = announced > limit_bytes;
    while (!too_large) {
        const std::span<const std::byte> piece = co_await connection_.read_body();
        if (piece.empty()) co_return all;
        if (all.empty()) all.reserve(static_cast<std::size_t>(std::min<std::uint64_t>(announced, 64 * 1024)));
        all.append(reinterpret_cast<const char*>(piece.data()), piece.size());
        too_large = all.size() > limit_bytes;
    }
    connection_.refuse_body(Error{errc::body_too_large, phase::body, "read",
                                  "the body is larger than " + std::to_string(limit_bytes) + " bytes"},
                            false);
}

const Headers& ServerRequest::trailers() const noexcept { return connection_.parser().trailers(); }
const net::Address& ServerRequest::peer() const { return connection_.transport().peer(); }
std::optional<net::TlsPeerInfo> ServerRequest::tls() const { return connection_.transport().tls_info(); }

}  // namespace torc::http
