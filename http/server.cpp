#include <torc/http/server.hpp>

#include <torc/runtime/as_result.hpp>
#include <torc/runtime/semaphore.hpp>
#include <torc/runtime/timeout.hpp>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <new>

#include "server_connection.hpp"

// Theory of operation. `serve` is a scope. Its body accepts, in a scope of its own that `stop` cancels; its children
// are the connections, each of which ends without an error whatever happened to it, so that none takes the others down.
// A connection runs in a third scope, its own, through which it is cancelled when it is idle.
//
// A place among `max_connections` is taken before the accept, and given back when the connection's task is gone, so
// what can not be served stays in the backlog. When the process runs out of descriptors, accepting waits for a little
// while: trying again at once would fail again at once. So it does when there is no memory for a connection.

namespace torc::http {
namespace {

using namespace std::chrono_literals;

constexpr auto first_pause = 10ms;
constexpr auto longest_pause = 1s;

// Failures of one accept, not of the listener (accept(2), which passes on what is wrong with a new connection).
bool passes(const std::error_code& code) {
    if (code.category() != std::generic_category()) return false;
    const int number = code.value();
    return number != EBADF && number != EINVAL && number != ENOTSOCK && number != EFAULT && number != EOPNOTSUPP;
}

std::string_view words_for(ServerFault::stage where) {
    switch (where) {
        case ServerFault::stage::accept: return "no connection can be accepted";
        case ServerFault::stage::handshake: return "TLS handshake failed";
        case ServerFault::stage::request: return "request refused";
        case ServerFault::stage::handler: return "handler failed";
        case ServerFault::stage::connection: return "connection broke";
        case ServerFault::stage::stop: return "stop";
    }
    return "";
}

std::string words_of(const std::exception_ptr& error) {
    try {
        if (error) std::rethrow_exception(error);
        return "nothing known";
    } catch (const std::exception& thrown) {
        return thrown.what();
    } catch (...) {
        return "an exception of a type that says nothing";
    }
}

}  // namespace

std::string ServerFault::message() const {
    std::string text{words_for(where)};
    if (!peer.empty()) text += ", peer " + peer;
    if (!request.empty()) text += ", " + request;
    return text + ": " + words_of(error);
}

void detail::ServerShared::report(ServerFault fault) noexcept {
    try {
        if (options.on_error) {
            options.on_error(fault);
            return;
        }
        using stage = ServerFault::stage;
        if (fault.where != stage::accept && fault.where != stage::handler && fault.where != stage::stop) return;
        std::fputs(("torc: " + fault.message() + "\n").c_str(), stderr);
    } catch (...) {
        // Whoever reports has nobody to report to.
    }
}

struct Server::State {
    State(net::TcpListener given, Handler handler, ServerOptions options)
        : shared{.handler = std::move(handler), .options = std::move(options)},
          listener(std::move(given)),
          places(std::max<std::size_t>(shared.options.max_connections, 1)) {}

    task<> serve(scope& connections);
    task<> accept_into(scope& connections);
    task<> serve_one(net::TcpStream stream, semaphore::permit place);
    task<> wait_for_the_last(scope& connections);
    void stop() noexcept;

    detail::ServerShared shared;
    net::TcpListener listener;
    semaphore places;
    scope* accepting = nullptr;
    bool served = false;
    bool serving = false;
};

task<> Server::State::serve(scope& connections) {
    struct Accepting {
        State& state;
        ~Accepting() { state.accepting = nullptr; }
    };
    if (!shared.stopping) {
        const Accepting until_left{*this};
        co_await with_scope([this, &connections](scope& here) {
            accepting = &here;
            return accept_into(connections);
        });
    }
    // The clients in the backlog are refused, not left waiting.
    static_cast<void>(co_await as_result(listener.close()));
    co_await wait_for_the_last(connections);
}

task<> Server::State::accept_into(scope& connections) {
    Clock::duration pause = first_pause;
    while (true) {
        semaphore::permit place = co_await places.acquire();
        std::exception_ptr failure;
        try {
            result<net::TcpStream> stream = co_await as_result(listener.accept());
            if (stream) {
                ++shared.statistics.accepted;
                connections.spawn(serve_one(std::move(*stream), std::move(place)));
            } else if (passes(stream.error().code())) {
                failure = std::make_exception_ptr(std::move(stream).error());
            } else {
                throw std::move(stream).error();
            }
        } catch (const std::bad_alloc&) {
            failure = std::current_exception();  // that client is sent away
        }
        if (!failure) {
            pause = first_pause;
            continue;
        }
        shared.report({ServerFault::stage::accept, std::move(failure), {}, {}});
        co_await sleep_for(pause);
        pause = std::min<Clock::duration>(pause * 2, longest_pause);
    }
}

// `place` is a parameter so that it outlives the frame's closes.
task<> Server::State::serve_one(net::TcpStream stream, [[maybe_unused]] semaphore::permit place) {
    std::optional<detail::ServerConnection> connection;
    try {
        connection.emplace(shared, std::move(stream));
        co_await with_scope([&connection](scope& here) { return connection->run(here); });
    } catch (const cancelled&) {
        if (cancel_pending()) throw;
    } catch (...) {
        if (connection) {
            connection->report(std::current_exception());
        } else {
            shared.report({ServerFault::stage::connection, std::current_exception(), {}, {}});
        }
    }
}

task<> Server::State::wait_for_the_last(scope& connections) {
    std::size_t cut_off = 0;
    try {
        co_await with_timeout(shared.options.stop_grace, shared.empty.wait());
    } catch (const Error&) {
        cut_off = shared.statistics.connections;
    }
    if (cut_off == 0) co_return;
    const Error late{torc::errc::timed_out, phase::none, "stop",
                     "the grace period is over, connections that are cut off: " + std::to_string(cut_off)};
    shared.report({ServerFault::stage::stop, std::make_exception_ptr(late), {}, {}});
    connections.cancel();
}

void Server::State::stop() noexcept {
    if (std::exchange(shared.stopping, true)) return;
    if (accepting != nullptr) accepting->cancel();
    for (auto* connection = shared.first; connection != nullptr; connection = connection->next()) {
        connection->stop_if_idle();
    }
}

Server::Server(net::TcpListener listener, Handler handler, ServerOptions options)
    : state_(std::make_unique<State>(std::move(listener), std::move(handler), std::move(options))) {}

Server::~Server() { TORC_ASSERT(!state_->serving, "an HTTP server was destroyed while it was serving"); }

task<> Server::serve() {
    State& state = *state_;
    if (std::exchange(state.served, true)) {
        throw Error{torc::errc::invalid_argument, phase::none, "serve", "serve() was called twice on one server"};
    }
    struct Serving {
        bool& flag;
        explicit Serving(bool& set) : flag(set) { flag = true; }
        ~Serving() { flag = false; }
    } const serving{state.serving};
    co_await with_scope([&state](scope& connections) { return state.serve(connections); });
}

void Server::stop() noexcept { state_->stop(); }
const net::Address& Server::local() const noexcept { return state_->listener.local(); }
ServerStatistics Server::statistics() const noexcept { return state_->shared.statistics; }

}  // namespace torc::http
