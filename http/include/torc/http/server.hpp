#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <torc/http/limits.hpp>
#include <torc/http/responder.hpp>
#include <torc/http/server_request.hpp>
#include <torc/net/listener.hpp>
#include <torc/net/tls_options.hpp>

/// An HTTP/1.1 server.
///
///     http::Server server{net::TcpListener::bind(net::Address::loopback(8080)),
///                         [](http::ServerRequest& request, http::Responder& response) -> task<> {
///                             co_await response.send(200, "You asked for " + std::string{request.path()} + "\n");
///                         }};
///     co_await server.serve();
namespace torc::http {

/// Something that went wrong without ending the server.
struct ServerFault {
    enum class stage : std::uint8_t {
        accept,      ///< no connection could be taken; it will be tried again
        handshake,   ///< TLS did not come about
        request,     ///< what the client sent was refused, or did not come in time
        handler,     ///< the handler threw, or returned without an answer
        connection,  ///< the connection broke under a request or an answer
        stop,        ///< connections were cut off because the grace period was over
    };

    stage where = stage::connection;
    std::exception_ptr error;
    std::string peer;     ///< "127.0.0.1:49152"; empty if it is not known
    std::string request;  ///< "GET /path"; empty if none was read

    /// All of it as a sentence.
    [[nodiscard]] std::string message() const;
};

struct ServerOptions {
    /// Of what clients send. Beyond them they get 413, 414 or 431.
    Limits limits;
    /// From the accept to the end of the TLS handshake.
    std::chrono::nanoseconds handshake_timeout = std::chrono::seconds{10};
    /// From the beginning of a connection, or the first byte of a later head, to the end of the head; then 408.
    std::chrono::nanoseconds head_timeout = std::chrono::seconds{10};
    /// For the client to send 16 KiB of a body, or the rest of it; then 408. While nobody reads, no time passes.
    std::chrono::nanoseconds body_timeout = std::chrono::seconds{30};
    /// For the client to take 256 KiB of an answer.
    std::chrono::nanoseconds write_timeout = std::chrono::seconds{30};
    /// Between requests; then the connection is closed without a word.
    std::chrono::nanoseconds idle_timeout = std::chrono::seconds{60};
    /// For reading what the client still sends although nobody wants it: the rest of a body that the handler did not
    /// read, and what comes before the end of a connection that this side ends, so that the answer is not lost.
    std::chrono::nanoseconds linger_timeout = std::chrono::seconds{2};
    /// How much of an unread body is dropped for the sake of the connection; with more to come it is closed.
    std::uint64_t max_unread_bytes = 256 * 1024;
    /// Further clients wait in the listener's backlog.
    std::size_t max_connections = 10'000;
    /// How long requests may go on after `stop`.
    std::chrono::nanoseconds stop_grace = std::chrono::seconds{10};
    /// Serve https with this context.
    std::optional<net::TlsContext> tls;
    /// Told of every fault. Without it, those of `accept`, `handler` and `stop` are printed to standard error.
    std::move_only_function<void(const ServerFault&)> on_error;
};

struct ServerStatistics {
    std::uint64_t accepted = 0;   ///< connections taken so far
    std::uint64_t requests = 0;   ///< heads read so far, without those that were refused
    std::size_t connections = 0;  ///< open now
    std::size_t idle = 0;         ///< of these, those that wait for a request
};

/// Serves the connections of a listener, each in a task of its own, until it is stopped or cancelled.
/// Lifetime: must outlive `serve`. Owns the listener; the destructor submits its close.
/// Requires: made and used on the executor's thread.
class Server {
   public:
    /// Called for each request, of many connections at once. It may be a capturing lambda; it is kept here. An
    /// exception that leaves it becomes a 500 if nothing was sent yet, else the connection is closed.
    using Handler = std::move_only_function<task<>(ServerRequest&, Responder&)>;

    Server(net::TcpListener listener, Handler handler, ServerOptions options = {});
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;
    ~Server();

    /// Accepts and serves. Returns after `stop`, when every connection is closed.
    /// Requires: called once.
    /// Errors:   what the listener says when it is no longer usable. Cancelling it cuts off every connection.
    [[nodiscard]] task<> serve();

    /// Ends it politely: the listener and idle connections are closed now, the others when the request they are in was
    /// answered, but cut off after `stop_grace`. Idempotent; may be called from a handler.
    void stop() noexcept;

    /// The address that clients can connect to, with the port the kernel chose for port 0.
    [[nodiscard]] const net::Address& local() const noexcept;
    [[nodiscard]] ServerStatistics statistics() const noexcept;

   private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace torc::http
