#include <torc/net/tls_error.hpp>

#include <algorithm>
#include <array>
#include <string>

#include <torc/runtime/error.hpp>

// Theory of operation. The messages here are what is left when no particulars are known; errors made by the engine
// carry their own sentence. Alert names follow the registry of RFC 8446 section 6 and of the RFCs before it, since
// peers of any age may send any of them.

namespace torc::net {

namespace {

class TlsCategory final : public std::error_category {
   public:
    [[nodiscard]] const char* name() const noexcept override { return "tls"; }

    [[nodiscard]] std::string message(int code) const override {
        switch (static_cast<tls_errc>(code)) {
            case tls_errc::certificate_expired: return "the certificate has expired";
            case tls_errc::certificate_not_yet_valid: return "the certificate is not valid yet";
            case tls_errc::wrong_host: return "the certificate is for another host";
            case tls_errc::self_signed: return "the certificate is self-signed";
            case tls_errc::untrusted_root: return "the certificate's root is not trusted";
            case tls_errc::missing_intermediate: return "the certificate's issuer is unknown";
            case tls_errc::certificate_revoked: return "the certificate was revoked";
            case tls_errc::certificate_invalid: return "the certificate is not acceptable";
            case tls_errc::no_certificate: return "the peer showed no certificate";
            case tls_errc::client_certificate_required: return "a client certificate is required";
            case tls_errc::certificate_refused_by_peer: return "the peer refused this side's certificate";
            case tls_errc::protocol_version_refused: return "no TLS version suits both sides";
            case tls_errc::nothing_in_common: return "no cipher or group suits both sides";
            case tls_errc::application_protocol_refused: return "no application protocol suits both sides";
            case tls_errc::alert_received: return "the peer gave up with an alert";
            case tls_errc::not_tls: return "the peer does not speak TLS";
            case tls_errc::truncated: return "the stream was cut off without close_notify";
            case tls_errc::bad_record: return "a damaged TLS record arrived";
            case tls_errc::protocol_error: return "the peer broke the TLS protocol";
            case tls_errc::bad_credentials: return "the certificate or key given is unusable";
            case tls_errc::bad_option: return "the TLS option given is unusable";
        }
        return "unknown TLS error " + std::to_string(code);
    }

    [[nodiscard]] std::error_condition default_error_condition(int code) const noexcept override {
        switch (static_cast<tls_errc>(code)) {
            case tls_errc::truncated: return make_error_code(errc::end_of_stream).default_error_condition();
            case tls_errc::bad_option: return std::errc::invalid_argument;
            default: return {code, *this};
        }
    }
};

struct AlertName {
    int number;
    std::string_view name;
};

constexpr std::array alert_names = std::to_array<AlertName>({
    {0, "close_notify"},
    {10, "unexpected_message"},
    {20, "bad_record_mac"},
    {21, "decryption_failed"},
    {22, "record_overflow"},
    {30, "decompression_failure"},
    {40, "handshake_failure"},
    {41, "no_certificate"},
    {42, "bad_certificate"},
    {43, "unsupported_certificate"},
    {44, "certificate_revoked"},
    {45, "certificate_expired"},
    {46, "certificate_unknown"},
    {47, "illegal_parameter"},
    {48, "unknown_ca"},
    {49, "access_denied"},
    {50, "decode_error"},
    {51, "decrypt_error"},
    {60, "export_restriction"},
    {70, "protocol_version"},
    {71, "insufficient_security"},
    {80, "internal_error"},
    {86, "inappropriate_fallback"},
    {90, "user_canceled"},
    {100, "no_renegotiation"},
    {109, "missing_extension"},
    {110, "unsupported_extension"},
    {111, "certificate_unobtainable"},
    {112, "unrecognized_name"},
    {113, "bad_certificate_status_response"},
    {114, "bad_certificate_hash_value"},
    {115, "unknown_psk_identity"},
    {116, "certificate_required"},
    {120, "no_application_protocol"},
});

}  // namespace

const std::error_category& tls_category() noexcept {
    static const TlsCategory category;
    return category;
}

std::error_code make_error_code(tls_errc code) noexcept { return {static_cast<int>(code), tls_category()}; }

std::string_view tls_alert_name(int alert) noexcept {
    const auto* found = std::ranges::find(alert_names, alert, &AlertName::number);
    return found == alert_names.end() ? "unknown" : found->name;
}

bool is_certificate_fault(const std::error_code& code) noexcept {
    return code.category() == tls_category() && code.value() >= static_cast<int>(tls_errc::certificate_expired) &&
           code.value() <= static_cast<int>(tls_errc::certificate_invalid);
}

}  // namespace torc::net
