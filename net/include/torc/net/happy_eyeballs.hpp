#pragma once

#include <cstddef>
#include <vector>

#include <torc/net/address.hpp>

/// The order in which the addresses of one host are tried.
namespace torc::net {

/// Interleaves the address families, so that a family that does not work here costs one attempt and not all of them.
/// The order within a family stays. The family of the first address begins, with `first_count` addresses in a row;
/// after that the families take turns until one runs out, and the rest follows.
/// Requires: `first_count` is at least 1.
/// Source:   RFC 8305 section 4, "First Address Family Count".
[[nodiscard]] std::vector<Address> interleave(const std::vector<Address>& addresses, std::size_t first_count = 1);

}  // namespace torc::net
