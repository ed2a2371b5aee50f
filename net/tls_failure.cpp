#include <openssl/sslerr.h>

#include <cctype>

#include "tls_internal.hpp"

// Theory of operation. When OpenSSL says that something failed, four things together tell what: the fault the
// verification left in the engine, whether OpenSSL had asked for bytes after the end, the alert number (reasons above
// 1000 are alerts received, RFC 8446 section 6), and the reason in the error queue. Alerts say little by themselves;
// what they mean depends on what had passed before, as with a handshake_failure after a request for a client
// certificate, which is how TLS 1.2 servers say that they insist on one.

namespace torc::net::tls {

namespace {

constexpr int alert_offset = 1000;
constexpr int alert_count = 256;  // what is above them are OpenSSL's troubles with itself, such as having no memory
enum : int {
    handshake_failure = 40,
    bad_certificate = 42,
    access_denied = 49,
    protocol_version = 70,
    insufficient_security = 71,
    certificate_required = 116,
    no_application_protocol = 120
};

struct Explanation {
    tls_errc code;
    std::string words;
};

std::string version_words(int wire_version) {
    switch (wire_version) {
        case SSL3_VERSION: return "SSL 3.0";
        case TLS1_VERSION: return "TLS 1.0";
        case TLS1_1_VERSION: return "TLS 1.1";
        case TLS1_2_VERSION: return "TLS 1.2";
        case TLS1_3_VERSION: return "TLS 1.3";
        default: return "an unknown version of TLS";
    }
}

std::string accepted_versions(const ContextState& context) {
    const std::string lowest{to_string(context.min_version)};
    if (context.min_version == context.max_version) return "only " + lowest;
    return lowest + " to " + std::string(to_string(context.max_version));
}

// The versions a hello names come from the peer's own mouth; an alert only says that ours are not among them.
Explanation no_version(const Engine::Impl& engine) {
    const ContextState& context = *engine.context;
    std::string offer = "only " + version_words(engine.peer_version);
    if (engine.peer_version == 0) {
        const bool only_older = context.max_version == TlsVersion::tls1_3;
        offer = only_older ? "only versions older than " + std::string(to_string(context.min_version))
                           : "no version that suits both";
        offer += " (alert protocol_version)";
    }
    return {tls_errc::protocol_version_refused,
            "the peer offers " + offer + "; this side accepts " + accepted_versions(context)};
}

Explanation explain_alert(const Engine::Impl& engine, int alert) {
    const std::string named = "(alert " + std::string(tls_alert_name(alert)) + ")";
    const bool showed_certificate = engine.context->server || engine.context->has_identity;
    switch (alert) {
        case protocol_version: return no_version(engine);
        case certificate_required:
            return {tls_errc::client_certificate_required,
                    "the server requires a client certificate and none was given " + named};
        case no_application_protocol:
            return {tls_errc::application_protocol_refused,
                    "the peer speaks none of the application protocols offered " + named};
        case insufficient_security:
            return {tls_errc::nothing_in_common, "the peer wants stronger ciphers than this side offers " + named};
        default: break;
    }
    if (engine.certificate_asked && !engine.context->has_identity &&
        (alert == handshake_failure || (alert >= bad_certificate && alert <= access_denied))) {
        return {tls_errc::client_certificate_required,
                "the server asked for a client certificate, got none and ended the connection " + named};
    }
    if (showed_certificate && alert >= bad_certificate && alert <= access_denied) {
        return {tls_errc::certificate_refused_by_peer, "the peer refused the certificate of this side " + named};
    }
    if (alert == handshake_failure) {
        return {tls_errc::alert_received,
                "the peer refused the handshake, most often for want of a common cipher or group " + named};
    }
    return {tls_errc::alert_received, "the peer ended the connection with an error " + named};
}

Explanation not_tls(const Transport& transport) {
    std::string first;
    for (std::size_t i = 0; i < transport.seen; ++i) {
        if (std::isprint(transport.first_bytes[i]) == 0) break;
        first += static_cast<char>(transport.first_bytes[i]);
    }
    // Two letters might be chance in a damaged record; a word is none.
    if (first.size() < 4) return {tls_errc::not_tls, "the peer does not speak TLS"};
    return {tls_errc::not_tls, "the peer does not speak TLS; it begins with \"" + first + "\""};
}

Explanation explain_reason(const Engine::Impl& engine, const QueuedError& queued) {
    switch (queued.reason) {
        case SSL_R_UNSUPPORTED_PROTOCOL:
        case SSL_R_UNSUPPORTED_SSL_VERSION:
        case SSL_R_UNKNOWN_SSL_VERSION:
        case SSL_R_WRONG_SSL_VERSION:
        case SSL_R_VERSION_TOO_LOW:
        case SSL_R_VERSION_TOO_HIGH:
        case SSL_R_NO_PROTOCOLS_AVAILABLE: return no_version(engine);
        case SSL_R_WRONG_VERSION_NUMBER:
            // Before the hellos it is the first record that is no record at all.
            if (engine.peer_version == 0 && !engine.established) return not_tls(engine.transport);
            break;
        case SSL_R_HTTP_REQUEST:
        case SSL_R_HTTPS_PROXY_REQUEST: return not_tls(engine.transport);
        case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
            if (!engine.context->server) break;
            return {tls_errc::client_certificate_required, "the client gave no certificate, and one is required"};
        case SSL_R_NO_SHARED_CIPHER:
        case SSL_R_NO_SHARED_GROUPS:
        case SSL_R_NO_SUITABLE_GROUPS:
        case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
        case SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS:
            return {tls_errc::nothing_in_common, "the two sides have nothing in common: " + queued.words};
        case SSL_R_NO_APPLICATION_PROTOCOL:
            return {tls_errc::application_protocol_refused,
                    "the client offers none of the application protocols spoken here"};
        case SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC:
        case SSL_R_BAD_RECORD_TYPE:
        case SSL_R_UNEXPECTED_RECORD:
        case SSL_R_RECORD_LENGTH_MISMATCH:
        case SSL_R_PACKET_LENGTH_TOO_LONG:
        case SSL_R_ENCRYPTED_LENGTH_TOO_LONG:
        case SSL_R_DATA_LENGTH_TOO_LONG:
        case SSL_R_LENGTH_TOO_SHORT:
        case SSL_R_LENGTH_MISMATCH: break;
        default:
            return {tls_errc::protocol_error,
                    (engine.established ? "the TLS stream failed: " : "the TLS handshake failed: ") + queued.words};
    }
    return {tls_errc::bad_record, "a damaged TLS record arrived (" + queued.words + ")"};
}

Explanation explain(Engine::Impl& engine) {
    const QueuedError queued = drain_errors();
    if (engine.transport.out_of_memory) return {tls_errc::protocol_error, "out of memory"};
    if (engine.transport.hit_end) {
        return {tls_errc::truncated, engine.established
                                         ? "the connection ended without close_notify; data may be missing"
                                         : "the peer closed the connection during the TLS handshake"};
    }
    if (queued.from_tls && queued.reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        if (engine.fault) return {engine.fault->code, engine.fault->words};
        return {tls_errc::certificate_invalid, "the certificate is not acceptable"};
    }
    const int alert = queued.reason - alert_offset;
    if (queued.from_tls && alert >= 0 && alert < alert_count) return explain_alert(engine, alert);
    if (queued.from_tls) return explain_reason(engine, queued);
    return {tls_errc::protocol_error, "the TLS exchange failed: " + queued.words};
}

}  // namespace

Error explain_failure(Engine::Impl& engine, std::string_view operation) {
    Explanation explanation = explain(engine);
    return Error{explanation.code, phase::tls, operation, std::move(explanation.words)};
}

}  // namespace torc::net::tls
