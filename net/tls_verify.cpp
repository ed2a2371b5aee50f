#include "tls_internal.hpp"

// Theory of operation. OpenSSL builds and checks the peer's chain and calls on_verified() with its verdict on each
// certificate. The first bad verdict is turned into words on the spot, because only here are the certificate at fault
// and its place in the chain at hand. Nothing is overruled: whether a bad verdict ends the handshake is decided by the
// context (SSL_VERIFY_PEER or not). Host names and addresses are OpenSSL's to match, by subject alternative names
// only: a common name that looks like a host has meant nothing since RFC 9525.
//
// An issuer that can not be found has two causes that look alike when the peer sent its own certificate alone: a
// forgotten intermediate, or a root unknown here that issued directly. The sentence then names both.

namespace torc::net::tls {

namespace {

std::string in_quotes(const X509_NAME* name) { return "\"" + short_name(name) + "\""; }

std::string list_of(const std::vector<std::string>& names) {
    constexpr std::size_t shown = 5;
    std::string text;
    for (std::size_t i = 0; i < names.size() && i < shown; ++i) {
        if (i > 0) text += i + 1 == names.size() ? " and " : ", ";
        text += names[i];
    }
    if (names.size() > shown) text += " and " + std::to_string(names.size() - shown) + " more";
    return text;
}

CertificateFault fault_of(X509_STORE_CTX* store, const Engine::Impl& engine) {
    const int code = X509_STORE_CTX_get_error(store);
    const int depth = X509_STORE_CTX_get_error_depth(store);
    const X509* certificate = X509_STORE_CTX_get_current_cert(store);
    const std::string what = engine.context->server ? "the client certificate" : "the certificate";
    const std::string library_words = X509_verify_cert_error_string(code);
    if (certificate == nullptr) return {tls_errc::certificate_invalid, what + " is not acceptable: " + library_words};

    const X509_NAME* issuer = X509_get_issuer_name(certificate);
    const X509_NAME* subject = X509_get_subject_name(certificate);
    const std::string which = depth == 0 ? what : what + " of its issuer " + in_quotes(subject);
    switch (code) {
        case X509_V_ERR_CERT_HAS_EXPIRED:
            return {tls_errc::certificate_expired,
                    which + " expired on " + date_words(time_of(X509_get0_notAfter(certificate)))};
        case X509_V_ERR_CERT_NOT_YET_VALID:
            return {tls_errc::certificate_not_yet_valid,
                    which + " is not valid before " + date_words(time_of(X509_get0_notBefore(certificate)))};
        case X509_V_ERR_HOSTNAME_MISMATCH:
        case X509_V_ERR_IP_ADDRESS_MISMATCH: {
            const std::vector<std::string> names = names_of(certificate);
            const std::string for_whom = names.empty() ? "names no host (its subject is " + in_quotes(subject) + ")"
                                                       : "is for " + list_of(names);
            return {tls_errc::wrong_host, what + " " + for_whom + ", not for " + engine.server_name};
        }
        case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
            return {tls_errc::self_signed,
                    what + " is self-signed (by " + in_quotes(subject) + ") and is not trusted here"};
        case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
            return {tls_errc::untrusted_root,
                    what + "'s chain ends at the root " + in_quotes(subject) + ", which is not trusted here"};
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT:
        case X509_V_ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY:
        case X509_V_ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE:
            if (depth > 0) {
                return {tls_errc::untrusted_root, what + "'s chain ends at " + in_quotes(subject) + ", whose issuer " +
                                                      in_quotes(issuer) + " is not trusted here"};
            }
            return {
                tls_errc::missing_intermediate,
                what + "'s issuer " + in_quotes(issuer) +
                    " is unknown: it is no root trusted here, and the peer sent no intermediate certificate for it"};
        case X509_V_ERR_CERT_UNTRUSTED:
        case X509_V_ERR_CERT_REJECTED: return {tls_errc::untrusted_root, which + " is marked as not to be trusted"};
        case X509_V_ERR_CERT_REVOKED:
            return {tls_errc::certificate_revoked, which + " was revoked by its issuer " + in_quotes(issuer)};
        case X509_V_ERR_UNABLE_TO_GET_CRL:
            return {tls_errc::certificate_invalid,
                    "no revocation list of the issuer " + in_quotes(issuer) + " was given"};
        case X509_V_ERR_CRL_HAS_EXPIRED:
            return {tls_errc::certificate_invalid,
                    "the revocation list of the issuer " + in_quotes(issuer) + " is out of date"};
        case X509_V_ERR_INVALID_PURPOSE:
            return {tls_errc::certificate_invalid,
                    which + " was not issued to identify a " + (engine.context->server ? "client" : "server")};
        default: return {tls_errc::certificate_invalid, which + " is not acceptable: " + library_words};
    }
}

}  // namespace

int on_verified(int good, X509_STORE_CTX* store) noexcept {
    if (good == 1) return good;
    try {
        const auto* ssl =
            static_cast<const SSL*>(X509_STORE_CTX_get_ex_data(store, SSL_get_ex_data_X509_STORE_CTX_idx()));
        Engine::Impl& engine = Engine::Impl::of(ssl);
        if (!engine.fault) engine.fault = fault_of(store, engine);
    } catch (...) {
        // Without memory for the words the verdict still stands.
    }
    return good;
}

}  // namespace torc::net::tls
