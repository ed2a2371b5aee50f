#include <torc/http/message.hpp>

#include <torc/http/method.hpp>
#include <torc/http/status.hpp>

#include "bytes.hpp"
#include "head.hpp"

// Theory of operation. Headers were validated when they were put into `Headers`; what remains are the three parts of
// the start line. Each is checked before the first byte is written, so that a head is written whole or not at all.

namespace torc::http {
namespace {

std::unexpected<Error> bad_head(std::string words) { return fail(errc::bad_header, phase::send, std::move(words)); }

}  // namespace

result<void> check_request_line(std::string_view method, std::string_view target) {
    if (!is_token(method)) return bad_head(in_quotes(method) + " can not be a method");
    if (target.empty() || !std::ranges::all_of(target, target_chars)) {
        return bad_head(in_quotes(target) + " can not be a request target");
    }
    return {};
}

result<void> append_head(std::string& out, const RequestHead& head) {
    if (result<void> good = check_request_line(head.method, head.target); !good) return good;
    append_all(out, head.method, " ", head.target, " ", version_text(head.minor_version), "\r\n");
    append_fields(out, head.headers);
    out.append("\r\n");
    return {};
}

result<void> append_head(std::string& out, const ResponseHead& head) {
    if (result<void> begun = append_open_head(out, head); !begun) return begun;
    out.append("\r\n");
    return {};
}

result<std::string_view> checked_reason(const ResponseHead& head) {
    if (head.status < 100 || head.status > 999) return bad_head(std::to_string(head.status) + " can not be a status");
    const std::string_view reason = head.reason.empty() ? reason_phrase(head.status) : std::string_view{head.reason};
    if (!is_text(head.reason))
        return bad_head("the reason phrase " + in_quotes(reason) + " contains a control character");
    return reason;
}

ChunkHeader::ChunkHeader(std::uint64_t size_bytes) noexcept {
    text_[--begin_] = '\n';
    text_[--begin_] = '\r';
    do {
        text_[--begin_] = "0123456789abcdef"[size_bytes & 15];
        size_bytes >>= 4;
    } while (size_bytes != 0);
}

result<void> append_last_chunk(std::string& out, const Headers& trailers) {
    for (const auto& [name, value] : trailers) {
        if (is_forbidden_in_trailers(name))
            return bad_head("the header " + in_quotes(name) + " may not be sent as a trailer");
    }
    out.append("0\r\n");
    append_fields(out, trailers);
    out.append("\r\n");
    return {};
}

bool is_forbidden_in_trailers(std::string_view name) noexcept {
    return is_one_of(name, {"Content-Length", "Transfer-Encoding", "Host", "Connection", "Trailer", "TE", "Upgrade",
                            "Content-Encoding", "Content-Type", "Content-Range", "Authorization", "Set-Cookie"});
}

bool wants_keep_alive(int minor_version, const Headers& headers) noexcept {
    if (headers.has_token("Connection", "close")) return false;
    return minor_version >= 1 || headers.has_token("Connection", "keep-alive");
}

}  // namespace torc::http
