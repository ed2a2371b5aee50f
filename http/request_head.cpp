#include "request_head.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <initializer_list>

#include <torc/http/coding.hpp>
#include <torc/http/message.hpp>
#include <torc/net/tls_error.hpp>

namespace torc::http {
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

bool is_one_of(std::string_view name, std::initializer_list<std::string_view> lower_case) noexcept {
    auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
    return std::ranges::any_of(lower_case,
                               [&](std::string_view each) { return std::ranges::equal(name, each, {}, lower); });
}

void add_default(Headers& headers, std::string_view name, std::string_view value) {
    if (!value.empty() && !headers.contains(name)) headers.add(name, value);
}

}  // namespace

result<void> append_request(std::string& out, const Url& target, const Request& request, const SessionOptions& options,
                            bool with_credentials) {
    RequestHead head;
    head.method = request.method;
    head.target = target.target();
    Headers& headers = head.headers;
    headers.add("Host", request.headers.get_or("Host", target.authority()));
    for (const Headers* source : {&request.headers, &options.headers}) {
        for (const auto& [name, value] : *source) {
            if (is_one_of(name, {"content-length", "transfer-encoding"})) {
                return std::unexpected{Error{errc::bad_header, phase::send, "",
                                             fmt::format("{} is set by the session, from the body it is given", name)}};
            }
            if (is_one_of(name, {"host"})) continue;
            const bool of_session = source == &options.headers;
            if (of_session && request.headers.contains(name)) continue;
            if (of_session && !with_credentials &&
                is_one_of(name, {"authorization", "cookie", "proxy-authorization"})) {
                continue;
            }
            headers.add(name, value);
        }
    }
    add_default(headers, "User-Agent", options.user_agent);
    add_default(headers, "Accept", "*/*");
    if (options.decode) add_default(headers, "Accept-Encoding", accept_encoding);
    if (target.has_credentials()) {
        add_default(headers, "Authorization", "Basic " + base64(target.user() + ":" + target.password()));
    }
    if (request.stream && !request.stream->length) {
        headers.add("Transfer-Encoding", "chunked");
    } else if (request.stream) {
        headers.add("Content-Length", std::to_string(*request.stream->length));
    } else if (!request.body.empty() || is_one_of(request.method, {"post", "put", "patch"})) {
        headers.add("Content-Length", std::to_string(request.body.size()));
    }
    return append_head(out, head);
}

std::string format_seconds(double seconds) { return fmt::format("{:.3g} s", seconds); }

bool is_gone(const Error& error) noexcept {
    return error.code() == std::errc::broken_pipe || error.code() == std::errc::connection_reset ||
           error.code() == std::errc::connection_aborted || error.code() == std::errc::not_connected ||
           error.code() == net::tls_errc::truncated;
}

}  // namespace torc::http
