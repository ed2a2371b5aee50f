#pragma once

#include <openssl/types.h>

namespace torc::net::tls {

/// The library context for a new SSL_CTX: one in which reading the key in a peer's certificate is cheap, or null, the
/// process's own. Everything that TLS can do is the same in both; see tls_provider.cpp for when it is null.
/// Lifetime: that of the process.
OSSL_LIB_CTX* library_context();

}  // namespace torc::net::tls
