#pragma once

#include <string>
#include <system_error>
#include <vector>

#include <torc/net/tls_error.hpp>
#include <torc/net/tls_options.hpp>
#include <torc/net/tls_selfsigned.hpp>

/// Certificates for tests: a small world of authorities, and the matrix of everything that can be wrong with one.
namespace torc::testing {

struct CertificateWorld {
    net::ThrowawayAuthority root{{.common_name = "Test Root"}};
    net::ThrowawayAuthority intermediate = root.intermediate({.common_name = "Test Intermediate"});

    /// A server with one certificate for `names`, by the intermediate.
    [[nodiscard]] net::TlsServerOptions server(std::vector<std::string> names) const;
    /// A client that trusts the root and nothing else.
    [[nodiscard]] net::TlsClientOptions client() const;
};

struct CertificateCase {
    std::string name;  ///< a sentence
    net::TlsServerOptions server;
    net::TlsClientOptions client;
    std::string host;                ///< what the client asks for
    std::error_code expected;        ///< how the client fails; empty: it does not
    std::vector<std::string> words;  ///< what its sentence must contain
};

std::vector<CertificateCase> certificate_matrix();

}  // namespace torc::testing
