#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include <torc/runtime/error.hpp>

struct sockaddr;

/// Addresses of sockets: IPv4, IPv6 and unix, as one value.
namespace torc::net {

/// Where a socket is bound or connects to.
/// Shape:    a value of fixed size, without allocation. A default one is empty: `family()` is AF_UNSPEC, `size()` 0.
/// Lifetime: `data()` points into the object.
class Address {
   public:
    /// Room for the longest address there is, that of a unix socket.
    static constexpr std::size_t capacity_bytes = 112;

    Address() noexcept = default;

    [[nodiscard]] static Address v4(std::array<std::uint8_t, 4> ip, std::uint16_t port) noexcept;
    /// `scope_id` is the index of the interface that a link-local address belongs to.
    [[nodiscard]] static Address v6(std::array<std::uint8_t, 16> ip, std::uint16_t port,
                                    std::uint32_t scope_id = 0) noexcept;
    /// 127.0.0.1
    [[nodiscard]] static Address loopback(std::uint16_t port) noexcept;
    /// ::1
    [[nodiscard]] static Address loopback_v6(std::uint16_t port) noexcept;
    /// 0.0.0.0
    [[nodiscard]] static Address any(std::uint16_t port) noexcept;
    /// ::, which also takes IPv4 peers unless the socket is told IPV6_V6ONLY
    [[nodiscard]] static Address any_v6(std::uint16_t port) noexcept;

    /// A unix socket: a path, or with a leading '@' a name in the abstract namespace, which may hold any bytes.
    /// Errors: `Error` (invalid_argument) if it is empty, too long (107 bytes), or a path with a zero byte.
    [[nodiscard]] static Address unix_socket(std::string_view path);

    /// What the kernel filled in. Empty if the family is not one of the three or the size is too small for it.
    [[nodiscard]] static Address from_sockaddr(const sockaddr* address, std::size_t size_bytes) noexcept;

    /// "127.0.0.1:80", "[::1]:80", "[fe80::1%eth0]:80", "unix:/path", "unix:@abstract".
    /// Errors: invalid_argument, with a sentence that says what is wrong with the text.
    [[nodiscard]] static result<Address> parse(std::string_view text);

    /// An IP address without a port: "127.0.0.1", "::1", "[::1]", "fe80::1%eth0". Names are refused, and so are the
    /// short and octal forms of IPv4 ("127.1", "0177.0.0.1"), which programs read differently.
    [[nodiscard]] static result<Address> parse_ip(std::string_view ip, std::uint16_t port);

    /// For system calls and operations. Lifetime: this object's.
    [[nodiscard]] const sockaddr* data() const noexcept;
    [[nodiscard]] std::uint32_t size() const noexcept { return size_bytes_; }

    /// AF_INET, AF_INET6, AF_UNIX; AF_UNSPEC when empty.
    [[nodiscard]] int family() const noexcept;
    [[nodiscard]] bool empty() const noexcept { return size_bytes_ == 0; }
    [[nodiscard]] bool is_v4() const noexcept;
    [[nodiscard]] bool is_v6() const noexcept;
    [[nodiscard]] bool is_unix() const noexcept;
    /// 127.0.0.0/8, ::1, and the first mapped into IPv6.
    [[nodiscard]] bool is_loopback() const noexcept;

    /// 0 for what has none.
    [[nodiscard]] std::uint16_t port() const noexcept;
    /// The same address with another port. Has no effect on a unix socket.
    [[nodiscard]] Address with_port(std::uint16_t port) const noexcept;
    [[nodiscard]] std::uint32_t scope_id() const noexcept;

    /// The IP address without the port, with the scope but without brackets; "" for what is not IP.
    [[nodiscard]] std::string ip_string() const;
    /// A unix socket's path, "@name" for an abstract one; "" for what is not a unix socket, or has no name.
    [[nodiscard]] std::string path() const;
    /// As `parse` reads it; "unix:" for a unix socket without a name, "none" when empty.
    [[nodiscard]] std::string to_string() const;

    friend bool operator==(const Address& a, const Address& b) noexcept;

   private:
    void store(const void* address, std::size_t size_bytes) noexcept;
    template <class Native>
    [[nodiscard]] Native load() const noexcept;

    alignas(8) std::array<std::byte, capacity_bytes> bytes_{};
    std::uint32_t size_bytes_ = 0;
};

}  // namespace torc::net
