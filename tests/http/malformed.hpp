#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <torc/http/error.hpp>
#include <torc/http/limits.hpp>

/// What is tried against readers of HTTP to make them see a message where there is none.
namespace torc::testing {

/// A thing that can be wrong with a message, and the nearest message with which all is well.
struct Malformed {
    std::string what;
    std::string bad;   ///< a whole message; what follows it must never be taken for one
    std::string good;  ///< a whole message; what follows it is the next one
    std::string seen;  ///< of the good one: method, target and body, or status and body
    http::errc code;   ///< how the bad one is refused
    int status = 400;  ///< what a server answers to it
};

/// The limits that the tables' large messages go beyond by a little.
http::Limits malformed_limits();

/// Fields that make it unclear where a message ends, with a body; each behind a start line (and Host).
/// `request` chooses which.
std::vector<Malformed> malformed_fields(bool request);
/// Chunked bodies that could end in more than one place, or trailers that say something else.
std::vector<Malformed> malformed_chunks(bool request);
/// Start lines, and other messages that are wrong from their beginning.
std::vector<Malformed> malformed_requests();
std::vector<Malformed> malformed_responses();

/// All of one side.
std::vector<Malformed> everything_malformed(bool request);

/// What follows each of them in the tests, and must not be seen.
inline constexpr std::string_view hidden_request = "GET /hidden HTTP/1.1\r\nHost: x\r\n\r\n";
inline constexpr std::string_view hidden_response = "HTTP/1.1 299 hidden\r\nContent-Length: 0\r\n\r\n";

}  // namespace torc::testing
