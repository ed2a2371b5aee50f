#pragma once

#if __cplusplus <= 202002L
#error "torc needs C++23: -std=c++23"
#endif

#include <cstdint>
#include <exception>
#include <expected>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

/// Errors: what a peer, the network or the kernel did to us, as a value that can be thrown or returned.
///
/// An `Error` owns everything it says and may outlive the executor it came from. Copies share their particulars,
/// so copying never throws. It is built where the failure was seen; layers above may still fill in what they know
/// better (the phase, the peer), and combinators attach the errors that lost to it.
namespace torc {

/// The part of a conversation in which something failed.
enum class phase : std::uint8_t { none, resolve, connect, tls, send, head, body, close };

/// The word for a phase, as people read it in messages: "resolve", "connect", "tls", ... ("" for none).
std::string_view to_string(phase where) noexcept;

/// Conditions that are torc's own; what the kernel says stays in `std::generic_category()`.
enum class errc : int {
    timed_out = 1,     ///< a deadline passed (a child's own; an outer cancellation is `cancelled`)
    closed,            ///< the resource was closed by this side
    busy,              ///< a second reader or writer where only one may be
    end_of_stream,     ///< the peer ended the stream where more had to come
    invalid_argument,  ///< what was passed in can not mean anything
    unsupported,       ///< this kernel, driver or build can not do it
    not_found,         ///< a name does not exist
    resolver_failed,   ///< the name servers did not give an answer
};

const std::error_category& torc_category() noexcept;
std::error_code make_error_code(errc code) noexcept;

/// An error with its circumstances.
/// Lifetime: owns all its text; copies share it.
/// Errors:   never throws while copied.
class Error : public std::system_error {
   public:
    /// `detail` is the sentence a person reads, without the phase and the peer; if empty, the code's message is used.
    explicit Error(std::error_code code, torc::phase where = phase::none, std::string_view operation = {},
                   std::string detail = {});
    Error(errc code, torc::phase where, std::string_view operation = {}, std::string detail = {});

    [[nodiscard]] torc::phase where() const noexcept;           ///< the phase
    [[nodiscard]] std::string_view operation() const noexcept;  ///< "connect", "receive", ...; may be empty
    [[nodiscard]] std::string_view message() const noexcept;    ///< what happened, in words
    [[nodiscard]] std::string_view peer() const noexcept;       ///< "127.0.0.1:443"; may be empty
    [[nodiscard]] std::string_view trace() const noexcept;      ///< the chain of awaiting tasks, a line each
    [[nodiscard]] std::span<const std::exception_ptr> attached() const noexcept;  ///< errors that lost to this one

    /// Each fills in one circumstance and returns the error itself, for use in a throw expression.
    Error& at(torc::phase where);
    Error& with_peer(std::string_view peer);
    Error& with_trace(std::string trace);
    Error& attach(std::exception_ptr other);

    /// "connect: 127.0.0.1:443: connection refused"
    [[nodiscard]] const char* what() const noexcept override;

   private:
    struct Particulars;
    std::shared_ptr<Particulars> particulars_;
    Particulars& own();
};

/// Builds an `Error` from a negative errno as the kernel returns it in a completion.
Error error_from_result(int result, torc::phase where = phase::none, std::string_view operation = {});

template <class T>
using result = std::expected<T, Error>;

/// Thrown through tasks whose scope was cancelled. Not a `std::exception`: an ordinary handler does not swallow it.
/// Catch it only to clean up, and rethrow.
struct cancelled {};

}  // namespace torc

template <>
struct std::is_error_code_enum<torc::errc> : std::true_type {};
