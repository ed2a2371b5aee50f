#include <torc/net/address.hpp>

#include <net/if.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <string>

#include <doctest/doctest.h>

using torc::net::Address;

namespace {

std::string complaint(std::string_view text) {
    const auto parsed = Address::parse(text);
    REQUIRE_FALSE(parsed.has_value());
    CHECK(parsed.error().code() == torc::errc::invalid_argument);
    return std::string{parsed.error().message()};
}

/// What the kernel says a socket is bound to.
Address bound(const Address& address) {
    const int fd = socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0);
    REQUIRE(fd >= 0);
    REQUIRE(bind(fd, address.data(), address.size()) == 0);
    sockaddr_storage storage{};
    socklen_t size = sizeof storage;
    REQUIRE(getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &size) == 0);
    close(fd);
    return Address::from_sockaddr(reinterpret_cast<const sockaddr*>(&storage), size);
}

}  // namespace

TEST_CASE("an address reads back what it writes") {
    for (const char* text : {"127.0.0.1:80", "0.0.0.0:0", "255.255.255.255:65535", "[::1]:443", "[::]:0",
                             "[2001:db8::8:800:200c:417a]:8080", "[::ffff:1.2.3.4]:1", "unix:/run/torc.sock",
                             "unix:relative", "unix:@abstract"}) {
        CAPTURE(text);
        const auto parsed = Address::parse(text);
        REQUIRE(parsed.has_value());
        CHECK(parsed->to_string() == text);
        CHECK(Address::from_sockaddr(parsed->data(), parsed->size()) == *parsed);
    }
}

TEST_CASE("an address knows its parts") {
    const Address v4 = Address::parse("10.1.2.3:8080").value();
    CHECK(v4.is_v4());
    CHECK(v4.family() == AF_INET);
    CHECK(v4.size() == sizeof(sockaddr_in));
    CHECK(v4.port() == 8080);
    CHECK(v4.ip_string() == "10.1.2.3");
    CHECK(v4.with_port(1).to_string() == "10.1.2.3:1");
    CHECK(v4 == Address::v4({10, 1, 2, 3}, 8080));
    CHECK(v4 != v4.with_port(8081));

    const Address v6 = Address::parse("[2001:db8::1]:443").value();
    CHECK(v6.is_v6());
    CHECK(v6.size() == sizeof(sockaddr_in6));
    CHECK(v6.port() == 443);
    CHECK(v6.ip_string() == "2001:db8::1");
    CHECK(v6.with_port(0).to_string() == "[2001:db8::1]:0");

    CHECK(Address::loopback(5).to_string() == "127.0.0.1:5");
    CHECK(Address::loopback_v6(5).to_string() == "[::1]:5");
    CHECK(Address::any(5).to_string() == "0.0.0.0:5");
    CHECK(Address::any_v6(5).to_string() == "[::]:5");
}

TEST_CASE("a default address is empty") {
    const Address none;
    CHECK(none.empty());
    CHECK(none.family() == AF_UNSPEC);
    CHECK(none.size() == 0);
    CHECK(none.port() == 0);
    CHECK(none.to_string() == "none");
    CHECK(none == Address{});
    CHECK(none != Address::any(0));
}

TEST_CASE("an address knows whether it leads back to this machine") {
    for (const char* text : {"127.0.0.1:1", "127.255.0.9:1", "[::1]:1", "[::ffff:127.0.0.1]:1"}) {
        CAPTURE(text);
        CHECK(Address::parse(text)->is_loopback());
    }
    for (const char* text : {"128.0.0.1:1", "0.0.0.0:1", "[::]:1", "[::2]:1", "[::ffff:128.0.0.1]:1", "unix:/a"}) {
        CAPTURE(text);
        CHECK_FALSE(Address::parse(text)->is_loopback());
    }
}

TEST_CASE("a link-local address keeps its interface, by name or by number") {
    const std::uint32_t lo = if_nametoindex("lo");
    REQUIRE(lo != 0);
    const Address named = Address::parse("[fe80::1%lo]:80").value();
    CHECK(named.scope_id() == lo);
    CHECK(named.to_string() == "[fe80::1%lo]:80");
    CHECK(Address::parse("[fe80::1%" + std::to_string(lo) + "]:80").value() == named);
    CHECK(Address::parse("[fe80::1]:80").value() != named);
    CHECK(Address::parse("[fe80::1%4294967295]:80")->ip_string() == "fe80::1%4294967295");
    CHECK(complaint("[fe80::1%nosuchif]:80") == "there is no network interface \"nosuchif\"");
}

TEST_CASE("text that is no address is refused with what is wrong with it") {
    CHECK(complaint("127.0.0.1") == "\"127.0.0.1\" has no port: write it as address:port");
    CHECK(complaint("[::1]") == "\"[::1]\" has no port: write it as address:port");
    CHECK(complaint("") == "\"\" has no port: write it as address:port");
    CHECK(complaint("::1:80") == "\"::1:80\" needs brackets around the IPv6 address: [address]:port");
    CHECK(complaint("1.2.3.4:70000") == "\"70000\" is not a port between 0 and 65535 (in \"1.2.3.4:70000\")");
    CHECK(complaint("1.2.3.4:") == "\"\" is not a port between 0 and 65535 (in \"1.2.3.4:\")");
    CHECK(complaint("1.2.3.4:-1") == "\"-1\" is not a port between 0 and 65535 (in \"1.2.3.4:-1\")");
    CHECK(complaint("1.2.3.4:8x") == "\"8x\" is not a port between 0 and 65535 (in \"1.2.3.4:8x\")");
    CHECK(complaint("localhost:80") == "\"localhost\" is not an IP address");
    CHECK(complaint("[127.0.0.1]:80") == "\"[127.0.0.1]\" has brackets around no IPv6 address");
    CHECK(complaint("[::1:80") == "\"[::1\" is not an IP address");
    for (const char* text : {"127.1:80", "0177.0.0.1:80", "1.2.3.4.5:80", "256.0.0.1:80", " 1.2.3.4:80", "[1::2::3]:80",
                             "0x7f.0.0.1:80", "2130706433:80", "[::1%]:80", ":80"}) {
        CAPTURE(text);
        CHECK_FALSE(complaint(text).empty());
    }
    CHECK_FALSE(complaint(std::string_view{"1.2.3.4\0:80", 11}).empty());
}

TEST_CASE("an IP address is read without a port too") {
    CHECK(Address::parse_ip("1.2.3.4", 80)->to_string() == "1.2.3.4:80");
    CHECK(Address::parse_ip("::1", 80)->to_string() == "[::1]:80");
    CHECK(Address::parse_ip("[::1]", 80)->to_string() == "[::1]:80");
    CHECK_FALSE(Address::parse_ip("example.com", 80).has_value());
    CHECK_FALSE(Address::parse_ip("", 80).has_value());
}

TEST_CASE("the path of a unix socket fills all the room there is, and no more") {
    const Address longest = Address::unix_socket(std::string(107, 'x'));
    CHECK(longest.path() == std::string(107, 'x'));
    CHECK(longest.size() == sizeof(sockaddr_un));
    CHECK(Address::unix_socket('@' + std::string(107, 'x')).path() == '@' + std::string(107, 'x'));
    CHECK_THROWS_AS((void)Address::unix_socket(std::string(108, 'x')), torc::Error);
    CHECK_THROWS_AS((void)Address::unix_socket('@' + std::string(108, 'x')), torc::Error);
    CHECK_THROWS_AS((void)Address::unix_socket(""), torc::Error);
    CHECK_THROWS_AS((void)Address::unix_socket({"/a\0b", 4}), torc::Error);
    CHECK(complaint("unix:") == "the path of a unix socket is empty");
}

TEST_CASE("the kernel gives back the address that was bound") {
    CHECK(bound(Address::loopback(0)).ip_string() == "127.0.0.1");
    CHECK(bound(Address::loopback(0)).port() != 0);
    const Address abstract = Address::unix_socket("@torc-address-test-" + std::to_string(getpid()));
    CHECK(bound(abstract) == abstract);
    const std::string path = "torc-address-test-" + std::to_string(getpid());
    CHECK(bound(Address::unix_socket(path)) == Address::unix_socket(path));
    unlink(path.c_str());
    const Address zeros = Address::unix_socket({"@a\0b", 4});
    CHECK(bound(zeros) == zeros);
    CHECK(zeros.path() == std::string{"@a\0b", 4});
}

TEST_CASE("what the kernel filled in is not trusted further than its size") {
    sockaddr_in v4{};
    v4.sin_family = AF_INET;
    CHECK(Address::from_sockaddr(reinterpret_cast<sockaddr*>(&v4), sizeof v4 - 1).empty());
    CHECK(Address::from_sockaddr(reinterpret_cast<sockaddr*>(&v4), 0).empty());
    CHECK(Address::from_sockaddr(nullptr, 16).empty());
    v4.sin_family = AF_NETLINK;
    CHECK(Address::from_sockaddr(reinterpret_cast<sockaddr*>(&v4), sizeof v4).empty());

    sockaddr_un unnamed{};
    unnamed.sun_family = AF_UNIX;
    const Address none = Address::from_sockaddr(reinterpret_cast<sockaddr*>(&unnamed), sizeof(sa_family_t));
    CHECK(none.is_unix());
    CHECK(none.path().empty());
    CHECK(none.to_string() == "unix:");

    sockaddr_un full{};
    full.sun_family = AF_UNIX;
    std::memset(full.sun_path, 'y', sizeof full.sun_path);
    CHECK(Address::from_sockaddr(reinterpret_cast<sockaddr*>(&full), sizeof full + 1).path() == std::string(108, 'y'));
}
