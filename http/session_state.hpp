#pragma once

#include <optional>
#include <string>
#include <vector>

#include <torc/http/coding.hpp>
#include <torc/http/parser.hpp>
#include <torc/http/session.hpp>
#include <torc/net/resolution.hpp>
#include <torc/runtime/as_result.hpp>
#include <torc/runtime/event.hpp>
#include <torc/runtime/frame_pool.hpp>
#include <torc/runtime/timeout.hpp>

/// What a session is made of. It has a place of its own, so that sessions can be moved and responses keep theirs.
///
///     idle --request--> exchanging --head--> reading body --end--> idle
///
/// An exception on the way drops the connection: what is half sent or half read can not be gone on with. A connection
/// serves again only when the response was read to its end and both sides said that it may.
namespace torc::http {

class SessionState : public torc::detail::pooled {
   public:
    SessionState(Url&& url, SessionOptions&& options);

    task<Response&> perform(Request request);
    /// The next bytes of the body, for the user of the response.
    task<std::span<const std::byte>> read() { return read_body(true); }
    /// What is left of the body is not wanted; reading on fails with these words.
    void abandon_body(const char* why) noexcept;
    task<> close();

    Url url;
    SessionOptions options;
    Response response{*this};
    ResponseHead head;
    Headers trailers;
    Timings timings;
    std::size_t redirects = 0;
    std::optional<std::uint64_t> content_length;
    std::optional<net::TlsPeerInfo> tls;
    net::Address peer;

    /// Of the present or last request; the connection, if there is one, leads to its origin.
    [[nodiscard]] const Url& response_url() const noexcept { return elsewhere_ ? *elsewhere_ : url; }
    [[nodiscard]] bool connected() const noexcept { return connection_ && connection_->transport.is_open(); }

   private:
    struct Connection {
        Transport transport;
        Parser parser;
        BufferSlice received;  // what the parser has not seen yet
        bool delays = false;   // small writes are held back while earlier ones are not acknowledged
        bool used = false;     // it has served a request before this one
    };
    /// What an attempt to send a request and read the head of its response came to.
    enum class attempt : std::uint8_t { answered, connection_was_stale };

    void aim_at(Url target);
    task<> open();
    task<net::Resolution> resolve(const Url& target);
    task<Transport> secure(net::TcpStream plain, const Url& target);
    task<attempt> exchange(Request& request, bool may_repeat);
    task<result<void>> send_request(Request& request);
    task<result<void>> send_stream(BodyStream& body);
    result<bool> read_head(BufferSlice received);
    bool redirected(Request& request);
    task<bool> still_usable();
    task<> end_previous();
    task<std::span<const std::byte>> read_body(bool for_user);
    std::optional<std::span<const std::byte>> take_piece();
    void choose_decoder();
    void begin_body();
    void end_body();
    void drop() noexcept;
    void fail_body(Error why) noexcept;
    void require_not_closed(phase where) const;
    void end_phase(Clock::duration& part);
    [[nodiscard]] Clock::time_point until(Clock::duration limit) const;
    task<result<void>> send(std::string_view bytes);
    // Put together in functions, not where they are awaited: there each step would take a place in the frame.
    [[nodiscard]] auto receive_until(Clock::time_point limit) {
        return as_result(with_deadline(limit, connection_->transport.receive()));
    }
    [[nodiscard]] auto send_until(Clock::time_point limit, std::string_view first, std::string_view second = {});
    [[nodiscard]] Error described(Error error, phase where, Clock::duration limit = {}) const;

    /// Marks the session as taken while one of its coroutines runs.
    class Turn {
       public:
        Turn(SessionState& session, phase where);
        Turn(const Turn&) = delete;
        Turn& operator=(const Turn&) = delete;
        ~Turn() { session_.busy_ = false; }

       private:
        SessionState& session_;
    };
    class Opening;  // of a connection, which a close ends

    std::optional<Url> elsewhere_;  // where a redirect, or a request's own URL, led to
    std::optional<Connection> connection_;
    Opening* opening_ = nullptr;
    event not_opening_{true};
    std::optional<Error> body_failure_;  // why there is no more of the body to read
    Clock::time_point deadline_ = Clock::never;
    Clock::time_point phase_began_;
    std::optional<Decoder> decoder_;  // none where there is no coding to undo
    std::vector<std::byte> decoded_;
    std::span<const std::byte> undecoded_;
    bool body_open_ = false;  // there may be more to read
    bool body_begun_ = false;
    bool wire_done_ = false;  // the message ended; the decoder may still hold something
    bool busy_ = false;
    bool closed_ = false;
    bool forward_credentials_ = true;  // every redirect so far stayed on the origin that was asked for
};

}  // namespace torc::http
