#include <torc/net/happy_eyeballs.hpp>

#include <algorithm>

#include <torc/runtime/assert.hpp>

// Theory of operation. Two queues, the addresses of the family that comes first and all others, drained in turns. Only
// the position in the input decides, so whoever sorted the list (RFC 6724) keeps the last word within a family and on
// which family begins.

namespace torc::net {

std::vector<Address> interleave(const std::vector<Address>& addresses, std::size_t first_count) {
    TORC_ASSERT(first_count > 0, "interleave was asked for no address of the first family");
    std::vector<Address> ordered;
    if (addresses.empty()) return ordered;
    ordered.reserve(addresses.size());
    const int first_family = addresses.front().family();
    std::vector<Address> first;
    std::vector<Address> other;
    for (const Address& address : addresses) (address.family() == first_family ? first : other).push_back(address);

    auto next_first = first.begin();
    auto next_other = other.begin();
    const auto head = static_cast<std::ptrdiff_t>(std::min(first_count - 1, first.size()));
    ordered.insert(ordered.end(), next_first, next_first + head);
    next_first += head;
    while (next_first != first.end() || next_other != other.end()) {
        if (next_first != first.end()) ordered.push_back(*next_first++);
        if (next_other != other.end()) ordered.push_back(*next_other++);
    }
    return ordered;
}

}  // namespace torc::net
