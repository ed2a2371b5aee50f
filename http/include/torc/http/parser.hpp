#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>

#include <torc/http/error.hpp>
#include <torc/http/headers.hpp>
#include <torc/http/limits.hpp>
#include <torc/http/message.hpp>

namespace torc::http {

/// How the end of a body is found.
enum class body_kind : std::uint8_t { none, length, chunked, until_close };

/// Reads the messages of one side of an HTTP/1.x connection, strictly: what could be read in two ways is refused. It
/// does no I/O and keeps no body: feed it what was received, a piece at a time, and take what it found in it.
///
///     while (!parser.done()) {
///         auto step = parser.feed(slice);          // at most one event a call
///         slice = slice.subspan(step->consumed_bytes);
///         if (step->what == Parser::event::body) use(step->body);
///         if (step->what == Parser::event::need_more) slice = co_await receive();   // finish() at end of stream
///     }
///
/// It stops at the last byte of each message; `next_message()` goes on to the following one.
/// Lifetime: a body span points into the fed bytes. Heads and trailers live until the next message begins.
/// Errors:   `feed` and `finish` answer with the first error ever after. Each is found at the same byte, whatever the
///           split. std::bad_alloc, which is an end like the others.
class Parser {
   public:
    enum class role : std::uint8_t { request, response };

    enum class event : std::uint8_t {
        need_more,  ///< everything was consumed and nothing is complete
        interim,    ///< a 1xx response other than 101; the next head follows
        head,       ///< the head is complete
        body,       ///< some bytes of the body
        end,        ///< the message is complete; nothing is consumed until `next_message()`
    };

    struct Progress {
        event what = event::need_more;
        std::size_t consumed_bytes = 0;
        std::span<const std::byte> body;  ///< not empty for `event::body`, part of the input
    };

    struct Options {
        Limits limits;
        bool require_host = true;  ///< HTTP/1.1 requests without Host are refused
    };

    explicit Parser(role what, Options options);
    explicit Parser(role what);
    ~Parser();
    Parser(Parser&&) noexcept;
    Parser& operator=(Parser&&) noexcept;

    /// Says to which method the coming responses answer: those to HEAD have no body, those to CONNECT open a tunnel.
    /// Requires: the role `response`; called before the head is fed. GET until said otherwise.
    void expect_response_to(std::string_view method);

    /// Reads on. `in` may be empty, to learn whether an event is due.
    result<Progress> feed(std::span<const std::byte> in);

    /// The stream ended in order. Completes a body that lasts until the end; fine between messages.
    /// Errors: `unexpected_eof` in the middle of a message.
    result<void> finish();

    /// Prepares for the message that follows. Requires: `done()`.
    void next_message();

    [[nodiscard]] bool started() const noexcept;  ///< something of the current message was seen
    [[nodiscard]] bool head_done() const noexcept;
    [[nodiscard]] bool done() const noexcept;  ///< all of the message was consumed

    /// The head last completed. `take_...` moves it out.
    [[nodiscard]] const RequestHead& request() const noexcept;
    [[nodiscard]] const ResponseHead& response() const noexcept;
    [[nodiscard]] RequestHead take_request();
    [[nodiscard]] ResponseHead take_response();
    [[nodiscard]] const Headers& trailers() const noexcept;
    [[nodiscard]] Headers take_trailers();

    [[nodiscard]] body_kind body() const noexcept;
    /// What Content-Length says, also where there is no body (HEAD, 304).
    [[nodiscard]] std::optional<std::uint64_t> content_length() const noexcept;
    /// Another message may follow on this connection.
    [[nodiscard]] bool keep_alive() const noexcept;
    /// Requests: the peer asks for another protocol (Upgrade, CONNECT). Responses: from here on it is spoken (101, or
    /// 2xx to CONNECT), and what follows the head is not ours.
    [[nodiscard]] bool upgrade() const noexcept;

   private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace torc::http
