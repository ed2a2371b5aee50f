#include "destination_order.hpp"

#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

// Theory of operation. Every address is looked at as one of IPv6, IPv4 mapped into it, as the RFC has it. What the
// rules compare is worked out once for each destination; the last rule, "leave the order unchanged", is its place.

namespace torc::net::dns {

namespace {

using Ip = std::array<std::uint8_t, 16>;

Ip bytes_of(const Address& address) {
    Ip ip{};
    if (address.is_v4()) {
        sockaddr_in native{};
        std::memcpy(&native, address.data(), sizeof native);
        ip[10] = ip[11] = 0xff;
        std::memcpy(&ip[12], &native.sin_addr, 4);
    } else {
        sockaddr_in6 native{};
        std::memcpy(&native, address.data(), sizeof native);
        std::memcpy(ip.data(), &native.sin6_addr, ip.size());
    }
    return ip;
}

int common_bits(const Ip& one, const Ip& other, int most) {
    int bits = 0;
    for (std::size_t at = 0; at < one.size() && bits < most; ++at) {
        const int same = std::countl_zero(static_cast<std::uint8_t>(one[at] ^ other[at]));
        bits += same;
        if (same < 8) break;
    }
    return std::min(bits, most);
}

struct Policy {
    Ip prefix;
    int bits;
    int precedence;
    int label;
};

/// RFC 6724 section 2.1; the longest prefix that fits counts.
constexpr std::array<Policy, 9> policies{{
    {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1}, 128, 50, 0},  // ::1
    {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff}, 96, 35, 4},         // IPv4
    {{}, 96, 1, 3},                                                  // IPv4, compatible
    {{0x20, 0x01, 0, 0}, 32, 5, 5},                                  // Teredo
    {{0x20, 0x02}, 16, 30, 2},                                       // 6to4
    {{0x3f, 0xfe}, 16, 1, 12},                                       // 6bone
    {{0xfe, 0xc0}, 10, 1, 11},                                       // site-local
    {{0xfc}, 7, 3, 13},                                              // unique local
    {{}, 0, 40, 1},                                                  // all others
}};

const Policy& policy_of(const Ip& ip) {
    return *std::ranges::find_if(
        policies, [&](const Policy& each) { return common_bits(ip, each.prefix, each.bits) == each.bits; });
}

/// RFC 6724 sections 3.1 and 3.2, in the numbers of RFC 4291 section 2.7.
int scope_of(const Ip& ip, bool v4) {
    constexpr int link_local = 2;
    constexpr int site_local = 5;
    constexpr int global = 14;
    if (v4) return ip[12] == 127 || (ip[12] == 169 && ip[13] == 254) ? link_local : global;
    if (ip[0] == 0xff) return ip[1] & 0xf;
    if (policy_of(ip).label == 0) return link_local;
    if (ip[0] != 0xfe) return global;
    if ((ip[1] & 0xc0) == 0x80) return link_local;
    return (ip[1] & 0xc0) == 0xc0 ? site_local : global;
}

struct Destination {
    Address address;
    std::size_t place = 0;
    bool reachable = false;
    bool same_scope = false;
    bool same_label = false;
    int precedence = 0;
    int scope = 0;
    int common_prefix = 0;
};

Destination examined(const Address& address, const Address& source) {
    constexpr int longest_prefix = 64;  // behind it is the interface, which says nothing about the way
    const Ip to = bytes_of(address);
    Destination made;
    made.address = address;
    made.precedence = policy_of(to).precedence;
    made.scope = scope_of(to, address.is_v4());
    if (source.empty()) return made;
    const Ip from = bytes_of(source);
    made.reachable = true;
    made.same_scope = scope_of(from, source.is_v4()) == made.scope;
    made.same_label = policy_of(from).label == policy_of(to).label;
    made.common_prefix = address.is_v6() ? common_bits(from, to, longest_prefix) : 0;
    return made;
}

/// Whether one comes before the other, by the rules in their order.
bool before(const Destination& one, const Destination& other) {
    if (one.reachable != other.reachable) return one.reachable;                                    // 1
    if (one.same_scope != other.same_scope) return one.same_scope;                                 // 2
    if (one.same_label != other.same_label) return one.same_label;                                 // 5
    if (one.precedence != other.precedence) return one.precedence > other.precedence;              // 6
    if (one.scope != other.scope) return one.scope < other.scope;                                  // 8
    if (one.common_prefix != other.common_prefix) return one.common_prefix > other.common_prefix;  // 9
    return one.place < other.place;                                                                // 10
}

}  // namespace

void order_destinations(std::vector<Address>& destinations, const SourceOf& source_of) {
    if (destinations.size() < 2) return;
    std::vector<Destination> examined_ones;
    examined_ones.reserve(destinations.size());
    for (const Address& each : destinations) {
        examined_ones.push_back(examined(each, source_of(each)));
        examined_ones.back().place = examined_ones.size();
    }
    std::ranges::sort(examined_ones, before);
    std::ranges::transform(examined_ones, destinations.begin(), &Destination::address);
}

}  // namespace torc::net::dns
