#pragma once

#include <string_view>
#include <system_error>

/// What can go wrong in TLS, told apart by what a person would do about it.
///
/// The code is for programs; the sentence that names hosts, issuers and dates is in `Error::message()`.
namespace torc::net {

enum class tls_errc : int {
    certificate_expired = 1,       ///< the certificate, or one above it, is past its last day
    certificate_not_yet_valid,     ///< ... is before its first day
    wrong_host,                    ///< the certificate is for other names or addresses
    self_signed,                   ///< the certificate signed itself and is not trusted here
    untrusted_root,                ///< the chain ends at a root that is not trusted here
    missing_intermediate,          ///< the chain stops below the roots: the issuer was not sent and is not trusted
    certificate_revoked,           ///< a revocation list names it
    certificate_invalid,           ///< any other fault: wrong purpose, bad signature, too weak, unreadable
    no_certificate,                ///< the peer showed no certificate where one is needed
    client_certificate_required,   ///< the server wants a client certificate and got none
    certificate_refused_by_peer,   ///< the peer does not accept the certificate of this side
    protocol_version_refused,      ///< no TLS version suits both sides
    nothing_in_common,             ///< no cipher, group or signature algorithm suits both sides
    application_protocol_refused,  ///< ALPN: no protocol suits both sides
    alert_received,                ///< the peer gave up with an alert; the sentence names it
    not_tls,                       ///< what the peer speaks is not TLS
    truncated,                     ///< the stream ended without close_notify: data may be missing
    bad_record,                    ///< a record arrived damaged, oversized or forged
    protocol_error,                ///< the peer broke the protocol in another way
    bad_credentials,               ///< a certificate, key or revocation list given to this side is unusable
    bad_option,                    ///< a list of ciphers, groups or the like names nothing OpenSSL knows
};

const std::error_category& tls_category() noexcept;
std::error_code make_error_code(tls_errc code) noexcept;

/// The name of an alert as RFC 8446 section 6 writes it, "handshake_failure"; "unknown" for one without a name.
std::string_view tls_alert_name(int alert) noexcept;

/// True for the faults of the peer's certificate itself, which turning verification off would have let pass.
bool is_certificate_fault(const std::error_code& code) noexcept;

}  // namespace torc::net

template <>
struct std::is_error_code_enum<torc::net::tls_errc> : std::true_type {};
