#pragma once

#include <openssl/bio.h>
#include <openssl/evp.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <chrono>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include <torc/net/tls_info.hpp>
#include <torc/runtime/error.hpp>

/// Ownership of OpenSSL's objects, and the small readings of certificates that several files need.
namespace torc::net::tls {

template <auto free_function>
struct Freeing {
    void operator()(auto* object) const noexcept { free_function(object); }
};

inline void free_certificates(STACK_OF(X509) * stack) noexcept { sk_X509_pop_free(stack, X509_free); }
inline void free_names(GENERAL_NAMES* names) noexcept { GENERAL_NAMES_free(names); }
inline void free_openssl_memory(void* memory) noexcept { OPENSSL_free(memory); }

using SslContextPtr = std::unique_ptr<SSL_CTX, Freeing<SSL_CTX_free>>;
using SslPtr = std::unique_ptr<SSL, Freeing<SSL_free>>;
using SslSessionPtr = std::unique_ptr<SSL_SESSION, Freeing<SSL_SESSION_free>>;
using BioPtr = std::unique_ptr<BIO, Freeing<BIO_free_all>>;
using KeyPtr = std::unique_ptr<EVP_PKEY, Freeing<EVP_PKEY_free>>;
using CertificatePtr = std::unique_ptr<X509, Freeing<X509_free>>;
using CertificatesPtr = std::unique_ptr<STACK_OF(X509), Freeing<free_certificates>>;
using CrlPtr = std::unique_ptr<X509_CRL, Freeing<X509_CRL_free>>;
using NamesPtr = std::unique_ptr<GENERAL_NAMES, Freeing<free_names>>;

/// The common name, or the whole distinguished name if there is none; made harmless for terminals.
std::string short_name(const X509_NAME* name);
/// "CN=example.org,O=Example"; made harmless for terminals.
std::string full_name(const X509_NAME* name);
/// The DNS names and addresses in the subject alternative names.
std::vector<std::string> names_of(const X509* certificate);
std::chrono::sys_seconds time_of(const ASN1_TIME* time) noexcept;
/// "2031-05-04 13:00:00 UTC"
std::string date_words(std::chrono::sys_seconds time);
TlsCertificate describe(const X509* certificate);

/// Bytes of an IP address literal, with or without brackets and zone; empty if it is none.
std::string address_bytes(std::string_view text);

/// The last thing OpenSSL's error queue says of TLS, or of anything; empties the queue.
struct QueuedError {
    bool from_tls = false;  ///< `reason` is an SSL_R_ value
    int reason = 0;
    std::string words;  ///< "wrong version number"; never empty
};
QueuedError drain_errors();

}  // namespace torc::net::tls
