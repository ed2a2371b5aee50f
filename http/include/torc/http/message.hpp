#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <torc/http/error.hpp>
#include <torc/http/headers.hpp>

namespace torc::http {

/// What stands before the body of a request.
struct RequestHead {
    std::string method = "GET";
    std::string target = "/";  ///< as it stands in the request line: `Url::target()`, or "*", or an authority
    int minor_version = 1;     ///< HTTP/1.0 or HTTP/1.1
    Headers headers;
};

/// What stands before the body of a response.
struct ResponseHead {
    int status = 200;
    std::string reason;  ///< may be empty; when written, the registry's words then take its place
    int minor_version = 1;
    Headers headers;
};

/// Appends a head to `out`, to be sent in one piece, together with the first of the body where there is one.
/// Errors:   `bad_header` for a method, target, status or reason that would break out of its place; `out` is untouched.
result<void> append_head(std::string& out, const RequestHead& head);
result<void> append_head(std::string& out, const ResponseHead& head);

/// The line before a chunk's bytes; `chunk_end` goes behind them. Sizes are never 0: that is the end of the body.
class ChunkHeader {
   public:
    explicit ChunkHeader(std::uint64_t size_bytes) noexcept;
    [[nodiscard]] std::string_view view() const noexcept { return {text_.data() + begin_, text_.size() - begin_}; }

   private:
    std::array<char, 18> text_{};
    std::size_t begin_ = 18;
};

inline constexpr std::string_view chunk_end = "\r\n";
inline constexpr std::string_view last_chunk = "0\r\n\r\n";  ///< ends a chunked body that has no trailers

/// Appends the end of a chunked body with its trailers.
/// Errors:   `bad_header` for a field that says how to read the message (Content-Length, Transfer-Encoding, Host, ...).
result<void> append_last_chunk(std::string& out, const Headers& trailers);

/// True for fields that may not be trailers, because they were needed before the body (RFC 9110, 6.5.1).
bool is_forbidden_in_trailers(std::string_view name) noexcept;

/// Whether the connection may be used again after a message with this version and these headers (RFC 9112, 9.3).
bool wants_keep_alive(int minor_version, const Headers& headers) noexcept;

}  // namespace torc::http
