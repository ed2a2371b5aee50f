#include "request_head.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

#include <torc/http/coding.hpp>
#include <torc/http/message.hpp>
#include <torc/net/tls_error.hpp>

#include "bytes.hpp"
#include "head.hpp"

namespace torc::http {

using torc::detail::pooled_string;

namespace {

std::string base64(std::string_view text) {
    static constexpr std::string_view digits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string out;
    for (std::size_t at = 0; at < text.size(); at += 3) {
        const std::size_t count = std::min<std::size_t>(3, text.size() - at);
        std::uint32_t group = 0;
        for (std::size_t index = 0; index < 3; ++index) {
            group = group << 8 | (index < count ? static_cast<unsigned char>(text[at + index]) : 0U);
        }
        for (std::size_t index = 0; index < 4; ++index) {
            out += index <= count ? digits[group >> (18 - 6 * index) & 63U] : '=';
        }
    }
    return out;
}

/// What most heads fit into.
constexpr std::size_t usual_head_bytes = 512;

void append_field(pooled_string& out, std::string_view name, std::string_view value) {
    append_all(out, name, ": ", value, "\r\n");
}

std::unexpected<Error> bad_field(std::string words) { return fail(errc::bad_header, phase::send, std::move(words)); }

}  // namespace

result<void> append_request(pooled_string& out, const Url& target, const Request& request,
                            const SessionOptions& options, bool with_credentials) {
    const auto goes_along = [&](std::string_view name) {  // of the session's own fields
        return !request.headers.contains(name) &&
               (with_credentials || !is_one_of(name, {"authorization", "cookie", "proxy-authorization"}));
    };
    const auto is_said = [&](std::string_view name) {
        return request.headers.contains(name) || (options.headers.contains(name) && goes_along(name));
    };
    out.reserve(out.size() + usual_head_bytes);
    if (auto good = check_request_line(request.method, target.target()); !good) return good;
    append_all(out, request.method, " ", target.target(), " HTTP/1.1\r\n");
    append_field(out, "Host", request.headers.get_or("Host", target.authority()));
    for (const Headers* source : {&request.headers, &options.headers}) {
        for (const auto& [name, value] : *source) {
            if (is_one_of(name, {"content-length", "transfer-encoding"})) {
                return bad_field(fmt::format("{} is set by the session, from the body it is given", name));
            }
            if (is_one_of(name, {"host"})) continue;
            if (source == &options.headers && !goes_along(name)) continue;
            append_field(out, name, value);
        }
    }
    if (!options.user_agent.empty() && !is_said("User-Agent")) {
        if (!is_text(options.user_agent)) return bad_field(Headers::fault_of("User-Agent", options.user_agent));
        append_field(out, "User-Agent", trim_spaces(options.user_agent));
    }
    if (!is_said("Accept")) append_field(out, "Accept", "*/*");
    if (options.decode && !is_said("Accept-Encoding")) append_field(out, "Accept-Encoding", accept_encoding);
    if (target.has_credentials() && !is_said("Authorization")) {
        append_field(out, "Authorization", "Basic " + base64(target.user() + ":" + target.password()));
    }
    if (request.stream && !request.stream->length) {
        append_field(out, "Transfer-Encoding", "chunked");
    } else if (request.stream) {
        append_field(out, "Content-Length", std::to_string(*request.stream->length));
    } else if (!request.body.empty() || is_one_of(request.method, {"post", "put", "patch"})) {
        append_field(out, "Content-Length", std::to_string(request.body.size()));
    }
    out.append("\r\n");
    return {};
}

bool is_gone(const Error& error) noexcept {
    return error.code() == std::errc::broken_pipe || error.code() == std::errc::connection_reset ||
           error.code() == std::errc::connection_aborted || error.code() == std::errc::not_connected ||
           error.code() == net::tls_errc::truncated;
}

}  // namespace torc::http
