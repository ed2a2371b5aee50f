// The examples of RFC 6724, section 10.2, with those left out that lean on rules 3, 4 and 7; and what they leave open.

#include "../../net/destination_order.hpp"

#include <map>
#include <sstream>
#include <string>

#include <doctest/doctest.h>

using torc::net::Address;

namespace {

/// "destination=source ...", in the order in which they came from the resolver; without a source there is no way there.
/// Gives the destinations, in the order in which to try them.
std::string order(const std::string& text) {
    std::map<std::string, Address> sources;
    std::vector<Address> destinations;
    std::istringstream words{text};
    for (std::string word; words >> word;) {
        const std::size_t equals = word.find('=');
        destinations.push_back(Address::parse_ip(word.substr(0, equals), 80).value());
        if (equals == word.npos) continue;
        sources[destinations.back().to_string()] = Address::parse_ip(word.substr(equals + 1), 0).value();
    }
    torc::net::dns::order_destinations(destinations, [&](const Address& to) { return sources[to.to_string()]; });
    std::string ordered;
    for (const Address& each : destinations) ordered += (ordered.empty() ? "" : " ") + each.ip_string();
    return ordered;
}

}  // namespace

TEST_CASE("what can not be reached comes last") {
    CHECK(order("2001:db8:1::1 198.51.100.121=198.51.100.117") == "198.51.100.121 2001:db8:1::1");
    CHECK(order("2001:db8:1::1 198.51.100.121") == "2001:db8:1::1 198.51.100.121");
}

TEST_CASE("a source of the same scope is better") {
    CHECK(order("2001:db8:1::1=2001:db8:1::2 198.51.100.121=169.254.13.78") == "2001:db8:1::1 198.51.100.121");
    CHECK(order("2001:db8:1::1=fe80::1 198.51.100.121=198.51.100.117") == "198.51.100.121 2001:db8:1::1");
}

TEST_CASE("a source with the same label is better") {
    CHECK(order("2002:c633:6401::1=2002:c633:6401::2 2001:db8:1::1=2002:c633:6401::2") ==
          "2002:c633:6401::1 2001:db8:1::1");
    CHECK(order("2001:db8:1::1=2002:c633:6401::2 198.51.100.121=198.51.100.117") == "198.51.100.121 2001:db8:1::1");
    CHECK(order("fd00::1=2001:db8::1 2001:db8::2=2001:db8::1") == "2001:db8::2 fd00::1");
}

TEST_CASE("the higher precedence is better: IPv6, 6to4, IPv4, Teredo, unique local") {
    CHECK(order("10.1.2.3=10.1.2.4 2001:db8:1::1=2001:db8:1::2") == "2001:db8:1::1 10.1.2.3");
    CHECK(order("2002:c633:6401::1=2002:c633:6401::2 2001:db8:1::1=2001:db8:1::2") ==
          "2001:db8:1::1 2002:c633:6401::1");
    CHECK(order("fd00::1=fd00::2 2001::1=2001::2 10.1.2.3=10.1.2.4 2001:db8::1=2001:db8::2") ==
          "2001:db8::1 10.1.2.3 2001::1 fd00::1");
    CHECK(order("127.0.0.1=127.0.0.1 ::1=::1") == "::1 127.0.0.1");
}

TEST_CASE("the smaller scope is better") {
    CHECK(order("2001:db8:1::1=2001:db8:1::2 fe80::1=fe80::2") == "fe80::1 2001:db8:1::1");
    CHECK(order("10.1.2.3=10.1.2.4 169.254.1.1=169.254.1.2") == "169.254.1.1 10.1.2.3");
}

TEST_CASE("the longer prefix in common with the source is better, in IPv6 and no further than the interface") {
    CHECK(order("2001:db8:3ffe::1=2001:db8:1::2 2001:db8:1::1=2001:db8:1::2") == "2001:db8:1::1 2001:db8:3ffe::1");
    CHECK(order("2001:db8:1::ff=2001:db8:1::2 2001:db8:1::3=2001:db8:1::2") == "2001:db8:1::ff 2001:db8:1::3");
    CHECK(order("203.0.113.9=10.1.2.4 10.1.2.3=10.1.2.4") == "203.0.113.9 10.1.2.3");
}

TEST_CASE("what is as good as another stays where it is") {
    CHECK(order("10.1.2.3=10.1.2.9 10.1.2.1=10.1.2.9 10.1.2.2=10.1.2.9") == "10.1.2.3 10.1.2.1 10.1.2.2");
    CHECK(order("") == "");
    CHECK(order("::1") == "::1");
}
