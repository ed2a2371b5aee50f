#include <torc/net/happy_eyeballs.hpp>

#include <string>
#include <vector>

#include <doctest/doctest.h>

using torc::net::Address;

namespace {

/// "4a 6b 4c": one address each, named by a letter; the same comes back.
std::vector<Address> addresses(const std::string& text) {
    std::vector<Address> made;
    for (std::size_t at = 0; at < text.size(); at += 3) {
        const auto letter = static_cast<std::uint8_t>(text[at + 1]);
        made.push_back(text[at] == '4' ? Address::v4({10, 0, 0, letter}, 80)
                                       : Address::v6({0x20, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, letter}, 80));
    }
    return made;
}

std::string order(const std::string& text, std::size_t first_count = 1) {
    std::string written;
    for (const Address& address : torc::net::interleave(addresses(text), first_count)) {
        if (!written.empty()) written += ' ';
        for (const char letter : std::string{"abcdefgh"}) {
            if (address == addresses(std::string{"4"} + letter).front()) written += std::string{"4"} + letter;
            if (address == addresses(std::string{"6"} + letter).front()) written += std::string{"6"} + letter;
        }
    }
    return written;
}

}  // namespace

TEST_CASE("the families take turns, and the first address stays first") {
    CHECK(order("6a 6b 6c 4d 4e 4f") == "6a 4d 6b 4e 6c 4f");
    CHECK(order("4a 4b 6c 6d") == "4a 6c 4b 6d");
    CHECK(order("6a 4b") == "6a 4b");
    CHECK(order("4a 6b") == "4a 6b");
}

TEST_CASE("the order within a family stays") {
    CHECK(order("6c 4b 6a 4d") == "6c 4b 6a 4d");
    CHECK(order("6c 6a 4d 4b") == "6c 4d 6a 4b");
}

TEST_CASE("when one family runs out the rest follows") {
    CHECK(order("6a 6b 6c 6d 4e") == "6a 4e 6b 6c 6d");
    CHECK(order("6a 4b 4c 4d") == "6a 4b 4c 4d");
    CHECK(order("4a 4b 4c") == "4a 4b 4c");
}

TEST_CASE("the first family may have more than one address at the head") {
    CHECK(order("6a 6b 6c 4d 4e", 2) == "6a 6b 4d 6c 4e");
    CHECK(order("6a 4b 4c", 3) == "6a 4b 4c");
    CHECK(order("6a 6b 4c", 9) == "6a 6b 4c");
}

TEST_CASE("nothing and one address stay what they are") {
    CHECK(torc::net::interleave({}).empty());
    CHECK(order("4a") == "4a");
}
