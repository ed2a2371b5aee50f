#pragma once

#include <cstddef>
#include <cstdint>

namespace torc::http {

/// Bounds on everything a peer can make us read or keep; RedirectPolicy bounds what it can make us follow. Going beyond
/// one is the error named there.
struct Limits {
    std::size_t max_line_bytes = 32 * 1024;     ///< start line or one header line; `line_too_long`
    std::size_t max_head_bytes = 64 * 1024;     ///< start line and all headers; `head_too_large`
    std::size_t max_headers = 128;              ///< header lines in a head, and again in trailers; `too_many_headers`
    std::size_t max_trailer_bytes = 16 * 1024;  ///< all trailers; `trailers_too_large`
    std::size_t max_chunk_line_bytes = 1024;    ///< a chunk's size and extensions; `line_too_long`
    std::size_t max_chunk_extension_bytes = 16 * 1024;      ///< all chunk extensions of a message; `bad_framing`
    std::size_t max_interim_responses = 16;                 ///< 1xx before a final response; `too_many_interim`
    std::uint64_t max_body_bytes = std::uint64_t{1} << 30;  ///< a body, as sent and as decoded; `body_too_large`
    /// A decoded body may be this many times as large as what was received (`expansion_too_large`); looked at only once
    /// it is larger than `expansion_floor_bytes`, for small bodies compress without bound and do no harm. 0: no bound.
    std::uint64_t max_expansion_ratio = 250;
    std::uint64_t expansion_floor_bytes = 8 * 1024 * 1024;
    std::size_t max_codings = 4;  ///< content codings on top of each other; `bad_coding`
};

}  // namespace torc::http
