#pragma once

#include <functional>
#include <vector>

#include <torc/net/address.hpp>

namespace torc::net::dns {

/// Tells the address of ours from which another is reached; an empty one if there is no way there.
using SourceOf = std::function<Address(const Address& destination)>;

/// Puts IP addresses into the order in which they should be tried: those that can be reached first, then by how well
/// they go with the address of ours that would be used. Where nothing is better the order stays.
/// Source: RFC 6724 section 6. Left out are rules 3, 4 and 7, for which the kernel would have to be asked about each of
///         its addresses; rule 9 is for IPv6 alone, where servers that take turns in IPv4 must not be put back in line.
void order_destinations(std::vector<Address>& destinations, const SourceOf& source_of);

}  // namespace torc::net::dns
