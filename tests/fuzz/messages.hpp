#pragma once

#include <cstddef>
#include <cstdint>

#include <torc/http/parser.hpp>

namespace torc::fuzz {

/// Reads the input as what one side of an HTTP connection sends. Four bytes say how (options, and where it is cut), the
/// rest is the stream, or what a message of ours is made from.
///
/// Required: a stream is read in the same way whole, cut in pieces and byte by byte; an error is HTTP's own, in words,
/// and stays; the limits are kept; and what was accepted, written out as we write messages and read again, is the same.
/// A message of ours is accepted, and read as what it is.
void check_messages(http::Parser::role side, const std::uint8_t* data, std::size_t size);

}  // namespace torc::fuzz
