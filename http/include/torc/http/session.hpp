#pragma once

#if __cplusplus <= 202002L
#error "torc needs C++23: -std=c++23"
#endif

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include <torc/http/limits.hpp>
#include <torc/http/redirect.hpp>
#include <torc/http/response.hpp>
#include <torc/http/transport.hpp>

/// A conversation with one web site, as a resource of the scope it lives in.
namespace torc::http {

/// Limits of time. Each is finite by default; `Clock::duration::max()` takes one away.
struct Timeouts {
    Clock::duration resolve = std::chrono::seconds{10};  ///< until there are addresses to begin with
    Clock::duration connect = std::chrono::seconds{10};  ///< all attempts together
    Clock::duration tls = std::chrono::seconds{10};
    Clock::duration send =
        std::chrono::seconds{30};  ///< the request's head with its body, each piece of a streamed one
    Clock::duration head = std::chrono::seconds{30};  ///< waiting for the response's head
    Clock::duration idle = std::chrono::seconds{30};  ///< between two pieces of its body
    Clock::duration total = std::chrono::minutes{5};  ///< all of a request, with redirects and body
};

struct SessionOptions {
    SessionOptions() = default;  // not an aggregate: see docs/lifetimes.md, "GCC 12"

    Timeouts timeouts;
    Limits limits;
    RedirectPolicy redirects;
    Headers headers;                     ///< go with every request
    std::string user_agent = "torc";     ///< empty: none is sent
    bool decode = true;                  ///< ask for compressed bodies, and undo the compression
    std::optional<net::TlsContext> tls;  ///< none: verified against the system's trust store
    net::ConnectOptions connection;      ///< of the TCP connections; its timeout gives way to `timeouts`
};

/// A body that is produced while it is sent.
struct BodyStream {
    BodyStream() = default;  // not an aggregate: see docs/lifetimes.md, "GCC 12"

    /// Gives the next bytes; empty at the end. What it gives must stay until it is called again.
    std::move_only_function<task<std::span<const std::byte>>()> next;
    std::optional<std::uint64_t> length;  ///< in bytes; without it the body is sent chunked
};

/// What to ask for: `Request get; get.headers.add("Accept", "text/csv"); co_await session.request(std::move(get));`
struct Request {
    Request() = default;  // not an aggregate: see docs/lifetimes.md, "GCC 12"

    std::string method = "GET";
    std::string url;  ///< relative to the session's, or absolute; empty is the session's own
    Headers headers;  ///< in place of those the session would send
    std::string body;
    std::optional<BodyStream> stream;  ///< instead of `body`
};

/// A scoped awaitable that owns the socket and the TLS state of one HTTP conversation.
///
///     AsyncSession session{"https://example.com"};
///     Response& response = co_await session;             // resolve, connect, TLS, GET
///     std::string html = co_await response.text();
///
/// Requests follow each other on one connection as long as the server keeps it; it is opened again when the server
/// closed it and the request may be repeated, and when a redirect or a request leads elsewhere.
///
/// Lifetime: when its scope ends its destructor submits the close (TLS close_notify, close) to the ring, and
///           the task whose frame is left does not finish before it is done. Movable between requests.
/// Requires: one executor; tasks of it may take turns, one at a time.
class AsyncSession {
   public:
    /// Errors: `Error` (http::errc::bad_url, unknown_scheme) if `url` is not an absolute http or https URL.
    explicit AsyncSession(std::string_view url, SessionOptions options = {});
    explicit AsyncSession(Url url, SessionOptions options = {});
    AsyncSession(AsyncSession&&) noexcept;
    AsyncSession& operator=(AsyncSession&&) noexcept;
    ~AsyncSession();

    class opening;
    /// Awaiting the session is a GET of its URL.
    [[nodiscard]] opening operator co_await() &;

    /// `target` is relative to the session's URL, or absolute.
    /// Shape:  gives the response as soon as its head is there; any status is a value.
    /// Errors: `Error` with the phase it happened in: resolve, connect, tls, send, head. `errc::busy` while another
    ///         task's request is under way, `errc::closed` after `close`. The connection is dropped on an error.
    [[nodiscard]] task<Response&> get(std::string target = {});
    [[nodiscard]] task<Response&> head(std::string target = {});
    [[nodiscard]] task<Response&> post(std::string target, std::string body,
                                       std::string content_type = "application/octet-stream");
    [[nodiscard]] task<Response&> request(Request what);

    /// Closes the connection now and says how it went; the session takes no more requests. Idempotent.
    [[nodiscard]] task<> close();

    [[nodiscard]] const Url& url() const noexcept;
    [[nodiscard]] const SessionOptions& options() const noexcept;
    /// Of the present or last request.
    [[nodiscard]] const Timings& timings() const noexcept;
    /// What is known of the TLS connection of the present or last request; nothing if that was plain.
    [[nodiscard]] const std::optional<net::TlsPeerInfo>& tls() const noexcept;
    /// Whom the present or last request was sent to; empty before.
    [[nodiscard]] const net::Address& peer() const noexcept;
    /// Whether a connection is open now.
    [[nodiscard]] bool connected() const noexcept;

   private:
    [[nodiscard]] SessionState& state() const noexcept;
    std::unique_ptr<SessionState> state_;
};

/// `co_await session`.
class [[nodiscard]] AsyncSession::opening {
   public:
    explicit opening(task<Response&> get) noexcept : get_(std::move(get)) {}
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        awaiter_.emplace(std::move(get_).operator co_await());
        return awaiter_->await_suspend(self);
    }
    Response& await_resume() { return awaiter_->await_resume(); }

   private:
    task<Response&> get_;
    std::optional<task<Response&>::awaiter> awaiter_;
};

}  // namespace torc::http
