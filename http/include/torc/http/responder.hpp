#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <torc/http/message.hpp>
#include <torc/runtime/pool_allocator.hpp>
#include <torc/runtime/task.hpp>

namespace torc::http {

namespace detail {
class ServerConnection;
}

/// How a handler answers: at once, or piece by piece.
///
///     co_await response.send(200, "hello\n", "text/plain");
///
///     response.headers().set("Content-Type", "text/csv");
///     response.begin(200);
///     while (...) co_await response.write(line);
///     co_await response.finish();              // or return from the handler
///
/// A body without a known length is sent in chunks, to HTTP/1.0 clients until the connection closes. Answers to HEAD
/// are made like those to GET; the body stays away by itself. Connection and Transfer-Encoding are the server's
/// business; "Connection: close" may be set to end the connection after this response.
/// Lifetime: lives until the handler has returned.
/// Requires: one writer at a time.
/// Errors:   invalid_argument for what can not be an answer; timed_out (write_timeout), and what the connection says,
///           when the client does not take it; broken_pipe after a write that failed or was cancelled: the response is
///           cut off, and so is the connection.
class Responder {
   public:
    Responder(const Responder&) = delete;
    Responder& operator=(const Responder&) = delete;

    /// To be filled in before the response begins.
    [[nodiscard]] Headers& headers() noexcept { return head_.headers; }
    /// What stands behind a chunked body; to be filled in before `finish`. Not sent where the body is not chunked.
    [[nodiscard]] Headers& trailers() noexcept { return trailers_; }

    /// Answers. Head and body leave together.
    /// Shape:  `content_type` is set unless it is empty. With 204, 205 and 304 the body must be empty.
    [[nodiscard]] task<> send(int status, std::string body = {}, std::string_view content_type = {});
    /// The same with a body that stays where it is.
    /// Lifetime: `body` must stay until this completes.
    [[nodiscard]] task<> send(int status, std::span<const std::byte> body, std::string_view content_type = {});

    /// Begins a response whose body follows. Its length is what Content-Length says, if it was set, or `length_bytes`;
    /// then exactly as much must be written. The head leaves with the first piece, or with `flush`.
    void begin(int status);
    void begin(int status, std::uint64_t length_bytes);

    /// Sends the next piece of the body. An empty one does nothing.
    /// Lifetime: `piece` must stay until this completes.
    /// Errors:   invalid_argument, before anything of it is sent, if the body becomes longer than announced.
    [[nodiscard]] task<> write(std::span<const std::byte> piece);
    [[nodiscard]] task<> write(std::string_view piece) { return write(std::as_bytes(std::span{piece})); }

    /// Sends the head now, for clients that want to see it before the first piece is there.
    [[nodiscard]] task<> flush();

    /// Ends the response. Idempotent. A handler that returns from a response that was begun finishes it.
    /// Errors: invalid_argument if the body is shorter than announced; the connection is then closed.
    [[nodiscard]] task<> finish();

    [[nodiscard]] bool begun() const noexcept { return stage_ != stage::fresh; }
    [[nodiscard]] bool finished() const noexcept { return stage_ == stage::finished; }

   private:
    friend class detail::ServerConnection;
    class Piece;
    enum class stage : std::uint8_t { fresh, begun, finished };

    explicit Responder(detail::ServerConnection& connection) noexcept : connection_(connection) {}

    /// For the answer to another request.
    void renew(bool answers_head, int minor_version) noexcept;
    /// For another answer to the same request, of which nothing was sent.
    void start_over() noexcept;
    /// Gives back memory that most answers do not need.
    void let_go() noexcept;
    void begin_with(int status, std::optional<std::uint64_t> length_bytes, std::string_view content_type);
    void require_writable(const char* what) const;
    void account_for(std::size_t piece_bytes);
    void append(std::span<const std::byte> piece);
    template <class Body>
    [[nodiscard]] task<> send_whole(int status, Body body, std::string_view content_type);
    [[nodiscard]] task<> leave(std::span<const std::byte> piece);

    detail::ServerConnection& connection_;
    ResponseHead head_;
    Headers trailers_;
    torc::detail::pooled_string out_;          // what was not sent yet
    std::optional<std::uint64_t> left_bytes_;  // of a body of known length
    int minor_version_ = 1;                    // the client's
    stage stage_ = stage::fresh;
    bool answers_head_ = false;
    bool bodiless_ = false;
    bool chunked_ = false;
    bool sent_ = false;  // something has left, so there is no other answer any more
    bool writing_ = false;
    bool cut_ = false;  // a piece did not leave as it should have, so nothing follows it
};

}  // namespace torc::http
