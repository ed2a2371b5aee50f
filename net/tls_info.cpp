#include "tls_internal.hpp"

// Theory of operation. info() copies what it finds into plain values, so the answer outlives the connection. A resumed
// connection shows the certificate that the first one verified: OpenSSL keeps it, with the verdict, in the session.

namespace torc::net::tls {

namespace {

TlsVersion version_of(const SSL* ssl) noexcept {
    switch (SSL_version(ssl)) {
        case TLS1_VERSION: return TlsVersion::tls1_0;
        case TLS1_1_VERSION: return TlsVersion::tls1_1;
        case TLS1_2_VERSION: return TlsVersion::tls1_2;
        default: return TlsVersion::tls1_3;
    }
}

}  // namespace

TlsPeerInfo Engine::info() const {
    const SSL* ssl = impl_->ssl.get();
    const bool server = impl_->context->server;
    TlsPeerInfo info;
    info.version = version_of(ssl);
    if (const char* cipher = SSL_get_cipher_name(ssl)) info.cipher = cipher;
    const unsigned char* protocol = nullptr;
    unsigned int protocol_size = 0;
    SSL_get0_alpn_selected(ssl, &protocol, &protocol_size);
    if (protocol_size > 0) info.alpn.assign(reinterpret_cast<const char*>(protocol), protocol_size);
    if (const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name)) info.server_name = name;
    info.resumed = SSL_session_reused(ssl) == 1;

    const X509* certificate = SSL_get0_peer_certificate(ssl);
    if (certificate != nullptr) {
        info.certificate = describe(certificate);
        const STACK_OF(X509)* const sent = SSL_get_peer_cert_chain(ssl);
        // OpenSSL leaves the client's own certificate out of the chain on the server's side.
        for (int index = server ? 0 : 1; index < sk_X509_num(sent); ++index) {
            info.chain.push_back(describe(sk_X509_value(sent, index)));
        }
    }
    const long verdict = SSL_get_verify_result(ssl);
    info.verified = certificate != nullptr && verdict == X509_V_OK && impl_->context->verify;
    if (info.verified) {
        info.verification = "verified";
    } else if (impl_->fault) {
        info.verification = impl_->fault->words;
    } else if (certificate != nullptr && verdict != X509_V_OK) {
        info.verification = X509_verify_cert_error_string(verdict);
    } else {
        info.verification = certificate == nullptr ? "no certificate was shown" : "not asked for";
    }
    return info;
}

}  // namespace torc::net::tls
