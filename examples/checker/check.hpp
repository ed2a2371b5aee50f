#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include <torc/http/session.hpp>

#include "input.hpp"

namespace checker {

/// What became of one check. Of one that failed it holds what there was until then.
struct Outcome {
    std::string name;         ///< the URL as it was given
    int status = 0;           ///< 0: no answer came
    std::string final_url;    ///< where the answer came from, after redirects; empty without one
    std::uint64_t bytes = 0;  ///< of the body, decoded
    std::string beginning;    ///< of the body: its first 17 characters, trimmed
    bool has_body = true;     ///< false for HEAD
    torc::http::Timings timings;
    std::optional<torc::net::TlsPeerInfo> tls;
    std::string address;  ///< who was asked; empty if it did not come to that
    std::optional<torc::Error> error;

    [[nodiscard]] bool good() const noexcept { return !error && status >= 200 && status < 400; }
};

/// What every check has in common.
/// Errors: `Error` if the certificates to trust can not be read.
torc::http::SessionOptions session_options(const Options& options);

/// Asks one site and reads its whole answer, keeping next to nothing of it. What goes wrong is part of the outcome.
/// Errors: `cancelled` unwinds.
torc::task<Outcome> check(Target target, std::string method, torc::http::SessionOptions options);

}  // namespace checker
