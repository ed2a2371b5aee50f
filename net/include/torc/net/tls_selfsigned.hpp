#pragma once

#include <chrono>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <torc/net/tls_options.hpp>
#include <torc/runtime/driver.hpp>

/// Certificates made on the spot, for demonstrations and tests. Keys live in memory only.
namespace torc::net {

enum class TlsKeyKind : std::uint8_t { ec_p256, rsa_2048 };

struct CertificateRequest {
    std::string common_name = "torc throw-away";
    std::vector<std::string> names{};  ///< DNS names ("*.example.test" too) and IP address literals
    std::chrono::sys_seconds not_before = now() - std::chrono::hours{1};
    std::chrono::sys_seconds not_after = now() + std::chrono::hours{24};
    TlsKeyKind key = TlsKeyKind::ec_p256;
    bool for_client = false;         ///< may identify a client instead of a server
    bool with_intermediates = true;  ///< put the authorities between it and the root into the chain

    static std::chrono::sys_seconds now() { return std::chrono::floor<std::chrono::seconds>(Clock::wall_now()); }
};

/// A certificate authority that exists as long as this object, or its intermediates, do.
/// Lifetime: a copy is one pointer; an intermediate keeps nothing of its issuer but certificates.
/// Errors:   `Error` (tls_errc::bad_credentials) when a request makes no sense, such as a name longer than X.509
/// allows.
class ThrowawayAuthority {
   public:
    /// A root, which signs itself. Only the name, the dates and the key kind of `request` count.
    explicit ThrowawayAuthority(const CertificateRequest& request = {.common_name = "torc throw-away root"});

    /// An authority that this one vouches for.
    [[nodiscard]] ThrowawayAuthority intermediate(const CertificateRequest& request) const;
    /// A certificate with its key, ready for TlsServerOptions::identities or TlsClientOptions::identity.
    [[nodiscard]] TlsIdentity issue(const CertificateRequest& request) const;
    /// The authority's own certificate, PEM: of a root, what goes into TlsTrust::ca_pem.
    [[nodiscard]] std::string certificate_pem() const;
    /// A revocation list, PEM, naming the first certificate of each identity given; it may be empty.
    [[nodiscard]] std::string revocation_list(std::span<const TlsIdentity> revoked) const;

    /// A certificate that signed itself, with no authority behind it.
    static TlsIdentity self_signed(const CertificateRequest& request);

   private:
    struct State;
    explicit ThrowawayAuthority(std::shared_ptr<const State> state) noexcept : state_(std::move(state)) {}
    std::shared_ptr<const State> state_;
};

}  // namespace torc::net
