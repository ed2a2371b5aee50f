#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include <torc/http/error.hpp>
#include <torc/runtime/pool_allocator.hpp>

namespace torc::http {

/// An absolute http, https, ws or wss URL in normal form, understood the way browsers do (the WHATWG URL standard):
/// surrounding spaces are dropped, a missing path is "/", dot segments are resolved, what may not stand in a URL is
/// percent-encoded, international names become ASCII, and numbers that mean an IPv4 address become that address.
/// Lifetime: one string holds everything; the views stay valid until it is assigned to, moved from or destroyed.
class Url {
   public:
    /// Errors: `bad_url`, `unknown_scheme` (also for "example.com", where the sentence says what to write instead).
    [[nodiscard]] static result<Url> parse(std::string_view text);

    /// Understands `reference` as a link found at this URL: another URL, "//host/x", "/x", "x", "?q" or "#f".
    [[nodiscard]] result<Url> resolve(std::string_view reference) const;

    [[nodiscard]] std::string_view scheme() const noexcept { return piece(0, scheme_end_); }  ///< "https", no colon
    [[nodiscard]] bool secure() const noexcept;                                               ///< https or wss

    /// Lower-case ASCII; an IPv6 address stands here without its brackets, in `bracketed_host()` with them.
    [[nodiscard]] std::string_view host() const noexcept;
    [[nodiscard]] std::string_view bracketed_host() const noexcept { return piece(host_begin_, host_end_); }
    [[nodiscard]] bool is_ipv6() const noexcept { return href_[host_begin_] == '['; }
    [[nodiscard]] bool is_ipv4() const noexcept { return ipv4_; }

    [[nodiscard]] std::uint16_t port() const noexcept { return port_; }  ///< the one to connect to
    [[nodiscard]] bool has_explicit_port() const noexcept { return host_end_ != path_begin_; }  ///< not the default one

    [[nodiscard]] std::string_view path() const noexcept { return piece(path_begin_, path_end_); }  ///< begins with '/'
    [[nodiscard]] std::string_view query() const noexcept;                                          ///< without '?'
    [[nodiscard]] std::string_view fragment() const noexcept;                                       ///< without '#'

    [[nodiscard]] bool has_credentials() const noexcept { return host_begin_ != scheme_end_ + 3; }
    [[nodiscard]] std::string user() const;      ///< percent-decoded
    [[nodiscard]] std::string password() const;  ///< percent-decoded

    /// What stands in the request line: path and query ("/x?y").
    [[nodiscard]] std::string_view target() const noexcept { return piece(path_begin_, query_end_); }
    /// What stands in the Host header: the host, and the port unless it is the scheme's own ("[::1]:8080").
    [[nodiscard]] std::string_view authority() const noexcept { return piece(host_begin_, path_begin_); }
    /// "https://example.com:8443": what credentials belong to.
    [[nodiscard]] std::string origin() const;
    [[nodiscard]] bool same_origin(const Url& other) const noexcept;
    /// The whole URL in normal form.
    [[nodiscard]] std::string_view href() const noexcept { return href_; }

    [[nodiscard]] Url with_fragment(std::string_view fragment) const;  ///< percent-encoded as needed
    [[nodiscard]] Url without_fragment() const;
    [[nodiscard]] Url without_credentials() const;

    bool operator==(const Url& other) const noexcept { return href_ == other.href_; }

   private:
    friend class UrlReader;

    Url() = default;
    [[nodiscard]] std::string_view piece(std::uint32_t begin, std::uint32_t end) const noexcept {
        return std::string_view{href_}.substr(begin, end - begin);
    }
    [[nodiscard]] std::string_view userinfo() const noexcept;

    // scheme :// userinfo@ host :port path ?query #fragment
    torc::detail::pooled_string href_;
    std::uint32_t scheme_end_ = 0;
    std::uint32_t host_begin_ = 0;
    std::uint32_t host_end_ = 0;
    std::uint32_t path_begin_ = 0;
    std::uint32_t path_end_ = 0;
    std::uint32_t query_end_ = 0;
    std::uint16_t port_ = 0;
    bool ipv4_ = false;
};

}  // namespace torc::http
