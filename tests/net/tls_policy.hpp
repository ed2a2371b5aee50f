#pragma once

#include <string>
#include <system_error>

#include "certificates.hpp"
#include "tls_pair.hpp"

/// Two engines of TLS that meet in memory, and what each says of it.
namespace torc::testing {

inline const CertificateWorld& world() {
    static const CertificateWorld made;
    return made;
}

inline std::error_code code_of(const TlsEnd& end) {
    return end.engine.failed() ? end.engine.error().code() : std::error_code{};
}

inline std::string words_of(const TlsEnd& end) {
    return end.engine.failed() ? std::string(end.engine.error().message()) : std::string{};
}

/// Runs a handshake and reads once more, as TLS 1.3 servers speak up about client certificates after it.
inline TlsPair meet(const net::TlsContext& client, const net::TlsContext& server, const net::tls::ClientSide& side) {
    TlsPair pair{client, server, side};
    pair.run();
    return pair;
}

}  // namespace torc::testing
