#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <torc/http/message.hpp>
#include <torc/net/address.hpp>
#include <torc/net/tls_info.hpp>
#include <torc/runtime/task.hpp>

namespace torc::http {

namespace detail {
class ServerConnection;
}

/// A request as a server's handler sees it: the head is there, the body is read as the handler asks for it.
///
/// A client that waits for "100 Continue" gets it when the body is first asked for, not before. What the handler does
/// not read is read and dropped afterwards, within a bound, or the connection is closed.
/// Lifetime: lives until the handler has returned; so do all views it gives, unless said otherwise.
/// Requires: one reader of the body at a time.
class ServerRequest {
   public:
    ServerRequest(const ServerRequest&) = delete;
    ServerRequest& operator=(const ServerRequest&) = delete;

    [[nodiscard]] std::string_view method() const noexcept { return head_.method; }
    /// As it stands in the request line: "/a?b", "*", or a whole URL if the client speaks as to a proxy.
    [[nodiscard]] std::string_view target() const noexcept { return head_.target; }
    /// The path as it was sent, without the query: "/a%20b". "*" if the request is for the server as such.
    [[nodiscard]] std::string_view path() const noexcept;
    /// What stands behind the '?', as it was sent.
    [[nodiscard]] std::string_view query() const noexcept;
    /// The value of `name` in a query like "name=value&other=more", decoded; empty text for a name without a value.
    [[nodiscard]] std::optional<std::string> query_value(std::string_view name) const;

    [[nodiscard]] const Headers& headers() const noexcept { return head_.headers; }
    [[nodiscard]] std::optional<std::string_view> header(std::string_view name) const noexcept {
        return head_.headers.get(name);
    }
    [[nodiscard]] int minor_version() const noexcept { return head_.minor_version; }
    /// The length of the body if it was announced; a chunked body has none.
    [[nodiscard]] std::optional<std::uint64_t> content_length() const noexcept;

    /// Reads what comes next of the body.
    /// Shape:    empty at the end of the body, and ever after.
    /// Lifetime: until the body is read on.
    /// Errors:   bad_framing and its like, body_too_large (Limits), unexpected_eof, timed_out (body_timeout), what the
    ///           connection says. One that leaves the handler becomes the right answer: 400, 408, 413.
    [[nodiscard]] task<std::span<const std::byte>> read_some();

    /// Reads the rest of the body.
    /// Errors: body_too_large if it is longer than `limit_bytes`, at once if its length was announced; and as above.
    [[nodiscard]] task<std::string> text(std::uint64_t limit_bytes = 1024 * 1024);

    /// What came behind a chunked body. Empty until the body was read to its end.
    [[nodiscard]] const Headers& trailers() const noexcept;

    [[nodiscard]] const net::Address& peer() const;
    /// What there is to know about the TLS connection; nothing over plain TCP.
    [[nodiscard]] std::optional<net::TlsPeerInfo> tls() const;

   private:
    friend class detail::ServerConnection;
    ServerRequest(detail::ServerConnection& connection, const RequestHead& head) noexcept
        : connection_(connection), head_(head) {}

    detail::ServerConnection& connection_;
    const RequestHead& head_;  // the parser's
};

}  // namespace torc::http
