#pragma once

#include <cstddef>
#include <cstdint>
#include <exception>
#include <optional>
#include <span>

#include <torc/http/parser.hpp>
#include <torc/http/server.hpp>
#include <torc/http/transport.hpp>
#include <torc/runtime/as_result.hpp>
#include <torc/runtime/event.hpp>
#include <torc/runtime/mutex.hpp>
#include <torc/runtime/scope.hpp>
#include <torc/runtime/timeout.hpp>

// One connection of a server, and what all its connections share. Private.
namespace torc::http::detail {

class ServerConnection;

struct ServerShared {
    Server::Handler handler;
    ServerOptions options;
    ServerStatistics statistics;
    event empty{true};                  // no connection is open
    ServerConnection* first = nullptr;  // of those that are open
    bool stopping = false;

    void report(ServerFault fault) noexcept;
};

class ServerConnection {
   public:
    ServerConnection(ServerShared& server, net::TcpStream stream);
    ServerConnection(const ServerConnection&) = delete;
    ServerConnection& operator=(const ServerConnection&) = delete;
    ~ServerConnection();

    /// Serves requests until there are no more. Throws what ended the connection, if it was not orderly.
    task<> run(scope& here);
    /// Reports what `run` threw.
    void report(std::exception_ptr error) noexcept { report(stage_, std::move(error)); }

    /// Cancels it if nothing is under way.
    void stop_if_idle() noexcept {
        if (idle_) scope_->cancel();
    }
    [[nodiscard]] ServerConnection* next() const noexcept { return next_; }

    // For the request.
    task<std::span<const std::byte>> read_body();
    [[noreturn]] void refuse_body(Error error, bool input_broken);
    [[nodiscard]] const Parser& parser() const noexcept { return parser_; }
    [[nodiscard]] Transport& transport() noexcept { return *transport_; }

    // For the response.
    /// Sends `head`, and `body` behind it.
    task<> send(std::span<const std::byte> head, std::span<const std::byte> body);
    /// Whether the response that begins now is the last one.
    [[nodiscard]] bool last_response() noexcept;
    void close_after_response() noexcept { closing_ = true; }

   private:
    enum class received : std::uint8_t { bytes, end, nothing };

    /// An answer that is given without asking the handler, if the status is not 0.
    struct Refusal {
        int status = 0;
        std::string_view words;
    };

    task<bool> open();
    task<bool> read_head();
    task<bool> exchange();
    Refusal meet_expectations(const ServerRequest& request);
    task<> settle(std::exception_ptr failure);
    task<> refuse(Error why, int status);
    task<bool> drop_rest_of_body();
    task<> linger();
    // Put together in functions, not where they are awaited: there each step would take a place in the frame.
    [[nodiscard]] auto send_in_time(std::span<const std::byte> head, std::span<const std::byte> body) {
        return with_timeout(server_.options.write_timeout, transport_->send(head, body));
    }
    /// To be followed by `take`.
    [[nodiscard]] auto receive_until(Clock::time_point deadline) {
        in_.release();
        return as_result(with_deadline(deadline, transport_->receive()));
    }
    received take(result<BufferSlice> arrived);
    task<received> receive_body();
    [[nodiscard]] int status_for_head(const Error& error) const noexcept;
    void report(ServerFault::stage where, std::exception_ptr error) noexcept;

    /// While it lives the connection may be cancelled without loss.
    class IdleMark {
       public:
        explicit IdleMark(ServerConnection& connection, bool idle) noexcept : connection_(connection) { set(idle); }
        ~IdleMark() { set(false); }

       private:
        void set(bool idle) noexcept;
        ServerConnection& connection_;
    };

    ServerShared& server_;
    ServerConnection* previous_ = nullptr;
    ServerConnection* next_ = nullptr;
    scope* scope_ = nullptr;
    std::optional<net::TcpStream> accepted_;  // until it has become the transport
    std::optional<Transport> transport_;
    Parser parser_;
    BufferSlice in_;  // what was received; pieces of the body point into it
    mutex sending_;
    const ServerRequest* request_ = nullptr;
    Responder response_{*this};
    std::optional<Error> refused_;     // why the body could not be read
    std::uint64_t body_bytes_ = 0;     // of the body, read so far
    Clock::duration body_wait_{};      // for bytes of the body, since the last full share of them
    std::size_t body_wait_bytes_ = 0;  // that came meanwhile
    ServerFault::stage stage_ = ServerFault::stage::connection;
    bool first_request_ = true;
    bool idle_ = false;
    bool reading_ = false;
    bool owes_continue_ = false;  // the client waits for 100 before it sends the body
    bool closing_ = false;        // after this response
    bool input_broken_ = false;   // where the next request begins is not known
    bool output_broken_ = false;  // a send failed or was cut short
    bool linger_ = false;
};

}  // namespace torc::http::detail
