#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <torc/http/headers.hpp>
#include <torc/http/url.hpp>
#include <torc/runtime/task.hpp>

namespace torc::http {

class SessionState;

/// How long the parts of an exchange took; zero for what it did not need (a connection that was there already).
/// Redirects add up, so that the parts make the whole.
struct Timings {
    Clock::duration resolve{};  ///< looking the name up, until there are addresses to begin with (`Resolution::usable`)
    Clock::duration connect{};  ///< TCP; meanwhile addresses of the other family may still be looked up
    Clock::duration tls{};      ///< the handshake, with verification
    Clock::duration send{};     ///< the request, with its body
    Clock::duration wait{};     ///< from there to the end of the response's head
    Clock::duration body{};     ///< waiting for the body, while it is read
    [[nodiscard]] Clock::duration total() const noexcept { return resolve + connect + tls + send + wait + body; }
};

/// The answer to a request: its head, and its body as it arrives.
/// Lifetime: the session's; good until the next request of the session begins or the session ends.
/// Requires: one reader at a time.
class Response {
   public:
    Response(const Response&) = delete;  // it is its session's: write `Response& response = co_await session`
    Response& operator=(const Response&) = delete;

    [[nodiscard]] int status() const noexcept;
    [[nodiscard]] std::string_view reason() const noexcept;  ///< as the server wrote it; may be empty
    [[nodiscard]] int minor_version() const noexcept;        ///< 0 or 1: HTTP/1.0 or HTTP/1.1
    [[nodiscard]] const Headers& headers() const noexcept;
    /// Where it came from, after redirects.
    [[nodiscard]] const Url& url() const noexcept;
    [[nodiscard]] std::size_t redirects() const noexcept;
    /// What Content-Length says: the size as transferred, before decoding.
    [[nodiscard]] std::optional<std::uint64_t> content_length() const noexcept;

    /// The next bytes of the body, with content codings undone.
    /// Shape:    empty at the end of the body, and ever after.
    /// Lifetime: until the next call on this response.
    /// Errors:   phase::body: what the network does, `errc::timed_out`, `http::errc::unexpected_eof`,
    ///           `body_too_large`, `bad_coding`, `expansion_too_large`. After an error the connection is gone.
    [[nodiscard]] task<std::span<const std::byte>> read_some();

    /// The rest of the body as text, undecoded by character set.
    /// Errors:   as `read_some`; `body_too_large` if it is longer than `limit_bytes`.
    [[nodiscard]] task<std::string> text(std::size_t limit_bytes = std::size_t{64} << 20);

    /// Reads the rest and throws it away, so that the connection can serve the next request.
    /// Shape: the number of bytes, decoded.
    [[nodiscard]] task<std::uint64_t> discard();

    /// Fields behind a chunked body; empty until it was read to its end.
    [[nodiscard]] const Headers& trailers() const noexcept;

    /// So far.
    [[nodiscard]] const Timings& timings() const noexcept;

   private:
    friend class SessionState;
    explicit Response(SessionState& session) noexcept : session_(session) {}
    SessionState& session_;
};

}  // namespace torc::http
