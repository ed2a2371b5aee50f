#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <torc/net/tls_options.hpp>

/// What a person wants to know about an established TLS connection, as plain values.
namespace torc::net {

struct TlsCertificate {
    std::string subject;  ///< "CN=example.org,O=Example"
    std::string issuer;
    std::vector<std::string> names;  ///< DNS names and IP addresses it is for
    std::chrono::sys_seconds not_before{};
    std::chrono::sys_seconds not_after{};
};

struct TlsPeerInfo {
    TlsVersion version = TlsVersion::tls1_2;
    std::string cipher;                         ///< "TLS_AES_128_GCM_SHA256"
    std::string alpn;                           ///< the protocol agreed on; empty if none
    std::string server_name;                    ///< the SNI sent or received; empty if none
    bool resumed = false;                       ///< an earlier session was taken up again
    bool verified = false;                      ///< the certificate was checked and found good
    std::string verification;                   ///< "verified", "not asked for", or what is wrong with it, in words
    std::optional<TlsCertificate> certificate;  ///< the peer's own
    std::vector<TlsCertificate> chain;          ///< those above it, in the order in which the peer sent them
};

namespace tls {
struct SessionState;
}

/// A client session that a later connection to the same server may resume. Opaque; a copy is one pointer.
/// It is honoured only with the context and the server name it came from, so it can carry no trust elsewhere.
class TlsSession {
   public:
    TlsSession() noexcept = default;
    explicit TlsSession(std::shared_ptr<const tls::SessionState> state) noexcept : state_(std::move(state)) {}

    explicit operator bool() const noexcept { return state_ != nullptr; }
    [[nodiscard]] const std::shared_ptr<const tls::SessionState>& state() const noexcept { return state_; }

   private:
    std::shared_ptr<const tls::SessionState> state_;
};

}  // namespace torc::net
