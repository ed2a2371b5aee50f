#include <torc/http/response.hpp>

#include "session_state.hpp"

namespace torc::http {

int Response::status() const noexcept { return session_.head.status; }
std::string_view Response::reason() const noexcept { return session_.head.reason; }
int Response::minor_version() const noexcept { return session_.head.minor_version; }
const Headers& Response::headers() const noexcept { return session_.head.headers; }
const Url& Response::url() const noexcept { return session_.response_url(); }
std::size_t Response::redirects() const noexcept { return session_.redirects; }
std::optional<std::uint64_t> Response::content_length() const noexcept { return session_.content_length; }
const Headers& Response::trailers() const noexcept { return session_.trailers; }
const Timings& Response::timings() const noexcept { return session_.timings; }

task<std::span<const std::byte>> Response::read_some() { return session_.read(); }

task<std::string> Response::text(std::size_t limit_bytes) {
    // What was read is lost with the frame, and the rest must not be taken for the whole.
    struct AbandonUnlessWhole {
        SessionState& session;
        bool begun = false;
        bool whole = false;
        ~AbandonUnlessWhole() {
            if (begun && !whole)
                session.abandon_body("the beginning of the body was lost when reading it was given up");
        }
    } guard{session_};
    std::string text;
    for (;;) {
        const std::span<const std::byte> piece = co_await session_.read();
        if (piece.empty()) break;
        if (piece.size() > limit_bytes - text.size()) {
            guard.begun = true;
            throw Error{errc::body_too_large, phase::body, "",
                        "the body is larger than the " + std::to_string(limit_bytes) + " bytes asked for"};
        }
        guard.begun = true;
        text.append(reinterpret_cast<const char*>(piece.data()), piece.size());
    }
    guard.whole = true;
    co_return text;
}

task<std::uint64_t> Response::discard() {
    std::uint64_t bytes = 0;
    for (;;) {
        const std::span<const std::byte> piece = co_await session_.read();
        if (piece.empty()) break;
        bytes += piece.size();
    }
    co_return bytes;
}

}  // namespace torc::http
