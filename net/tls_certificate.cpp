#include <arpa/inet.h>
#include <openssl/err.h>

#include <cstdio>
#include <ctime>

#include "tls_openssl.hpp"

// Theory of operation. Certificates are written by strangers: every string taken out of one is stripped of control
// characters before it can reach a log or a terminal.

namespace torc::net::tls {

namespace {

std::string harmless(std::string text) {
    for (char& c : text) {
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
    }
    return text;
}

std::string text_of(const ASN1_STRING* string) {
    unsigned char* utf8 = nullptr;
    const int length = ASN1_STRING_to_UTF8(&utf8, string);
    if (length < 0) return {};
    std::unique_ptr<unsigned char, Freeing<free_openssl_memory>> owner{utf8};
    return harmless(std::string(reinterpret_cast<const char*>(utf8), static_cast<std::size_t>(length)));
}

}  // namespace

std::string full_name(const X509_NAME* name) {
    BioPtr bio{BIO_new(BIO_s_mem())};
    if (!bio || name == nullptr) return {};
    // RFC 2253 order and escapes, with UTF-8 left as it is.
    X509_NAME_print_ex(bio.get(), name, 0, XN_FLAG_RFC2253 & ~static_cast<unsigned long>(ASN1_STRFLGS_ESC_MSB));
    char* text = nullptr;
    const long length = BIO_get_mem_data(bio.get(), &text);
    return length <= 0 ? std::string{} : harmless(std::string(text, static_cast<std::size_t>(length)));
}

std::string short_name(const X509_NAME* name) {
    if (name == nullptr) return "(unnamed)";
    const int at = X509_NAME_get_index_by_NID(name, NID_commonName, -1);
    std::string text = at >= 0 ? text_of(X509_NAME_ENTRY_get_data(X509_NAME_get_entry(name, at))) : full_name(name);
    return text.empty() ? "(unnamed)" : text;
}

std::vector<std::string> names_of(const X509* certificate) {
    std::vector<std::string> names;
    NamesPtr list{static_cast<GENERAL_NAMES*>(X509_get_ext_d2i(certificate, NID_subject_alt_name, nullptr, nullptr))};
    const int count = list ? sk_GENERAL_NAME_num(list.get()) : 0;
    for (int i = 0; i < count; ++i) {
        const GENERAL_NAME* name = sk_GENERAL_NAME_value(list.get(), i);
        if (name->type == GEN_DNS) {
            const ASN1_IA5STRING* dns = name->d.dNSName;
            names.push_back(harmless(std::string(reinterpret_cast<const char*>(ASN1_STRING_get0_data(dns)),
                                                 static_cast<std::size_t>(ASN1_STRING_length(dns)))));
        } else if (name->type == GEN_IPADD) {
            const ASN1_OCTET_STRING* address = name->d.iPAddress;
            const int length = ASN1_STRING_length(address);
            char text[INET6_ADDRSTRLEN] = "";
            if (length == 4 || length == 16) {
                inet_ntop(length == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(address), text, sizeof text);
            }
            names.emplace_back(text[0] == '\0' ? "(malformed address)" : text);
        }
    }
    ERR_clear_error();
    return names;
}

std::chrono::sys_seconds time_of(const ASN1_TIME* time) noexcept {
    using namespace std::chrono;
    std::tm fields{};
    if (time == nullptr || ASN1_TIME_to_tm(time, &fields) != 1) return {};
    const sys_days day = year{fields.tm_year + 1900} / month{static_cast<unsigned>(fields.tm_mon) + 1} / fields.tm_mday;
    return day + hours{fields.tm_hour} + minutes{fields.tm_min} + seconds{fields.tm_sec};
}

std::string date_words(std::chrono::sys_seconds time) {
    using namespace std::chrono;
    const sys_days day = floor<days>(time);
    const year_month_day date{day};
    const hh_mm_ss clock{time - day};
    char text[64];
    std::snprintf(text, sizeof text, "%04d-%02u-%02u %02d:%02d:%02d UTC", static_cast<int>(date.year()),
                  static_cast<unsigned>(date.month()), static_cast<unsigned>(date.day()),
                  static_cast<int>(clock.hours().count()), static_cast<int>(clock.minutes().count()),
                  static_cast<int>(clock.seconds().count()));
    return text;
}

TlsCertificate describe(const X509* certificate) {
    return {
        .subject = full_name(X509_get_subject_name(certificate)),
        .issuer = full_name(X509_get_issuer_name(certificate)),
        .names = names_of(certificate),
        .not_before = time_of(X509_get0_notBefore(certificate)),
        .not_after = time_of(X509_get0_notAfter(certificate)),
    };
}

std::string address_bytes(std::string_view text) {
    if (text.starts_with('[') && text.ends_with(']')) text = text.substr(1, text.size() - 2);
    const std::string address{text.substr(0, text.find('%'))};
    unsigned char bytes[16];
    if (inet_pton(AF_INET, address.c_str(), bytes) == 1) return {reinterpret_cast<const char*>(bytes), 4};
    if (inet_pton(AF_INET6, address.c_str(), bytes) == 1) return {reinterpret_cast<const char*>(bytes), 16};
    return {};
}

QueuedError drain_errors() {
    QueuedError result;
    bool any = false;
    while (const unsigned long code = ERR_get_error()) {
        const bool from_tls = ERR_GET_LIB(code) == ERR_LIB_SSL;
        if (any && !from_tls && result.from_tls) continue;
#ifdef SSL_R_RECORD_LAYER_FAILURE
        // OpenSSL 3.2 and later: says no more than that an error of the record layer precedes it.
        if (any && from_tls && result.from_tls && ERR_GET_REASON(code) == SSL_R_RECORD_LAYER_FAILURE) continue;
#endif
        any = true;
        result.from_tls = from_tls;
        result.reason = ERR_GET_REASON(code);
        const char* words = ERR_reason_error_string(code);
        result.words = words != nullptr ? words : "error " + std::to_string(ERR_GET_REASON(code));
    }
    if (!any) result.words = "no reason given";
    return result;
}

}  // namespace torc::net::tls
