#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

/// How TLS is to be spoken, and the contexts made from it.
namespace torc::net {

/// TLS 1.0 and 1.1 are broken; they work only when both `min_version` names them and `ciphers` ends in "@SECLEVEL=0".
enum class TlsVersion : std::uint8_t { tls1_0, tls1_1, tls1_2, tls1_3 };

/// "TLS 1.3"
std::string_view to_string(TlsVersion version) noexcept;

/// A certificate with the chain that leads up from it, and its private key. Give files, or PEM text, for each.
struct TlsIdentity {
    std::string chain_pem;     ///< the certificate first, then the intermediates in order
    std::string key_pem;       ///< empty: the key is looked for where the chain is
    std::string chain_file;    ///< used when `chain_pem` is empty
    std::string key_file;      ///< used when `key_pem` is empty
    std::string key_password;  ///< for an encrypted key; nobody is ever asked on the terminal

    [[nodiscard]] bool empty() const noexcept { return chain_pem.empty() && chain_file.empty(); }
};

/// What one accepts and offers. Lists are in OpenSSL's notation, best first; empty means a short modern default.
struct TlsAlgorithms {
    TlsVersion min_version = TlsVersion::tls1_2;
    TlsVersion max_version = TlsVersion::tls1_3;
    std::string ciphers;               ///< TLS 1.2 and older: "ECDHE+AESGCM:..."
    std::string ciphersuites;          ///< TLS 1.3: "TLS_AES_128_GCM_SHA256:..."
    std::string groups;                ///< key exchange: "X25519:P-256:P-384"
    std::string signature_algorithms;  ///< "ECDSA+SHA256:RSA-PSS+SHA256:..."
};

/// Whom one trusts. With none of the three CA fields set that is the system's trust store; with any, only those.
struct TlsTrust {
    std::string ca_file;             ///< PEM, one or many certificates
    std::string ca_directory;        ///< as c_rehash lays it out; read during handshakes
    std::string ca_pem;              ///< PEM text
    bool also_system_store = false;  ///< trust the system's store besides the above
    std::string crl_pem;             ///< revocation lists; when given, the peer's certificate must be covered by one
};

struct TlsClientOptions {
    TlsAlgorithms algorithms;
    TlsTrust trust;
    TlsIdentity identity;           ///< shown to servers that ask for a client certificate
    std::vector<std::string> alpn;  ///< "h2", "http/1.1", best first
    bool resumption = true;         ///< remember sessions per server in the context and resume them

    /// Accept every certificate, from anybody, for any name. Whoever sits on the path can then read and change all.
    bool dangerously_skip_verification = false;
};

enum class TlsClientCertificate : std::uint8_t { ignore, request, require };

struct TlsServerOptions {
    TlsAlgorithms algorithms;
    /// At least one. With more, the first whose certificate covers the name the client asks for is shown, else the
    /// first of all.
    std::vector<TlsIdentity> identities;
    std::vector<std::string> alpn;  ///< best first; a client that offers ALPN but none of these is refused
    TlsClientCertificate client_certificate = TlsClientCertificate::ignore;
    TlsTrust client_trust;  ///< who may have issued client certificates; the system's store is never used here
    bool tickets = true;    ///< let clients resume by tickets
};

namespace tls {
struct ContextState;
}

/// Everything that connections of one kind share: options checked, certificates parsed, trust store opened.
/// Shape:    made once, copied freely (a copy is one pointer); never changes.
/// Lifetime: engines keep what they need alive.
/// Requires: nothing; may be used from several threads, though one per thread spares OpenSSL's locks. Providers,
///           FIPS and library contexts that the program sets up in OpenSSL count for contexts made after that; see
///           docs/design.md, "TLS".
class TlsContext {
   public:
    /// Errors: `Error` with tls_errc::bad_credentials or bad_option, or the file's errno; a file is named.
    static TlsContext client(const TlsClientOptions& options = {});
    static TlsContext server(const TlsServerOptions& options);

    [[nodiscard]] bool is_server() const noexcept;
    [[nodiscard]] bool verifies_peer() const noexcept;

    /// For the engine.
    [[nodiscard]] const std::shared_ptr<const tls::ContextState>& state() const noexcept { return state_; }

   private:
    explicit TlsContext(std::shared_ptr<const tls::ContextState> state) noexcept : state_(std::move(state)) {}
    std::shared_ptr<const tls::ContextState> state_;
};

}  // namespace torc::net
