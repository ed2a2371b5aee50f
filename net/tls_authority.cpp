#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>

#include <torc/net/tls_error.hpp>
#include <torc/net/tls_selfsigned.hpp>

#include <optional>

#include "tls_openssl.hpp"
#include "tls_random.hpp"

// Theory of operation. Certificates are built the way RFC 5280 asks, so that what verification thinks of them depends
// on the dates and names requested and on nothing else: version 3, a random serial number, key identifiers that link
// issuer and subject, basic constraints and key usages. Host names go into the subject alternative names alone.

namespace torc::net {

namespace {

using namespace tls;

using IntegerPtr = std::unique_ptr<ASN1_INTEGER, Freeing<ASN1_INTEGER_free>>;
using BignumPtr = std::unique_ptr<BIGNUM, Freeing<BN_free>>;
using ExtensionPtr = std::unique_ptr<X509_EXTENSION, Freeing<X509_EXTENSION_free>>;
using RevokedPtr = std::unique_ptr<X509_REVOKED, Freeing<X509_REVOKED_free>>;
using TimePtr = std::unique_ptr<ASN1_TIME, Freeing<ASN1_TIME_free>>;

enum class Role { authority, server, client };

[[noreturn]] void throw_failure(const std::string& what) {
    throw Error{tls_errc::bad_credentials, phase::tls, "issue", what + ": " + drain_errors().words};
}

void check(bool good, const char* what) {
    if (!good) throw_failure(std::string("the certificate can not be made, ") + what);
}

KeyPtr make_key(TlsKeyKind kind) {
    KeyPtr key{kind == TlsKeyKind::rsa_2048 ? EVP_RSA_gen(2048) : EVP_EC_gen("P-256")};
    check(key != nullptr, "no key");
    return key;
}

IntegerPtr make_serial() {
    unsigned char bytes[16];
    check(RAND_bytes(bytes, sizeof bytes) == 1, "no random number");
    bytes[0] = static_cast<unsigned char>((bytes[0] & 0x7f) | 0x40);  // positive, and never shorter
    const BignumPtr number{BN_bin2bn(bytes, sizeof bytes, nullptr)};
    IntegerPtr serial{number ? BN_to_ASN1_INTEGER(number.get(), nullptr) : nullptr};
    check(serial != nullptr, "no serial number");
    return serial;
}

TimePtr make_time(std::chrono::sys_seconds when) {
    TimePtr time{ASN1_TIME_set(nullptr, when.time_since_epoch().count())};
    check(time != nullptr, "the date is out of range");
    return time;
}

void add_extension(X509* certificate, X509V3_CTX& context, int kind, const char* value) {
    const ExtensionPtr extension{X509V3_EXT_conf_nid(nullptr, &context, kind, value)};
    check(extension && X509_add_ext(certificate, extension.get(), -1) == 1, value);
}

/// Built by hand rather than from OpenSSL's textual form, in which a comma in a name would start another one.
void add_names(X509* certificate, const std::vector<std::string>& names) {
    if (names.empty()) return;
    const NamesPtr list{sk_GENERAL_NAME_new_null()};
    check(list != nullptr, "no memory");
    for (const std::string& name : names) {
        const std::string address = address_bytes(name);
        const std::string& bytes = address.empty() ? name : address;
        GENERAL_NAME* entry = GENERAL_NAME_new();
        check(entry != nullptr && sk_GENERAL_NAME_push(list.get(), entry) > 0, "no memory");
        ASN1_STRING* value = address.empty() ? ASN1_IA5STRING_new() : ASN1_OCTET_STRING_new();
        check(value != nullptr && ASN1_STRING_set(value, bytes.data(), static_cast<int>(bytes.size())) == 1,
              "no memory");
        GENERAL_NAME_set0_value(entry, address.empty() ? GEN_DNS : GEN_IPADD, value);
    }
    check(X509_add1_ext_i2d(certificate, NID_subject_alt_name, list.get(), 0, X509V3_ADD_DEFAULT) == 1, "the names");
}

/// `issuer` and `issuer_key` null: signed by itself.
CertificatePtr make_certificate(const CertificateRequest& request, Role role, EVP_PKEY* key, X509* issuer,
                                EVP_PKEY* issuer_key) {
    ERR_clear_error();
    CertificatePtr made{X509_new()};
    X509* certificate = made.get();
    check(certificate != nullptr && X509_set_version(certificate, X509_VERSION_3) == 1, "no memory");
    check(X509_set_serialNumber(certificate, make_serial().get()) == 1, "the serial number");
    check(X509_set1_notBefore(certificate, make_time(request.not_before).get()) == 1 &&
              X509_set1_notAfter(certificate, make_time(request.not_after).get()) == 1,
          "the dates");
    X509_NAME* subject = X509_get_subject_name(certificate);
    if (X509_NAME_add_entry_by_NID(subject, NID_commonName, MBSTRING_UTF8,
                                   reinterpret_cast<const unsigned char*>(request.common_name.data()),
                                   static_cast<int>(request.common_name.size()), -1, 0) != 1) {
        throw_failure("\"" + request.common_name + "\" can not be a certificate's common name");
    }
    X509* signer = issuer != nullptr ? issuer : certificate;
    check(X509_set_issuer_name(certificate, X509_get_subject_name(signer)) == 1, "the issuer");
    check(X509_set_pubkey(certificate, key) == 1, "the key");

    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, signer, certificate, nullptr, nullptr, 0);
    const bool authority = role == Role::authority;
    add_extension(certificate, context, NID_basic_constraints, authority ? "critical,CA:TRUE" : "critical,CA:FALSE");
    add_extension(certificate, context, NID_key_usage,
                  authority ? "critical,keyCertSign,cRLSign" : "critical,digitalSignature,keyEncipherment");
    add_extension(certificate, context, NID_subject_key_identifier, "hash");
    add_extension(certificate, context, NID_authority_key_identifier, issuer != nullptr ? "keyid:always" : "keyid");
    if (!authority) {
        add_extension(certificate, context, NID_ext_key_usage, role == Role::client ? "clientAuth" : "serverAuth");
        add_names(certificate, request.names);
    }
    check(X509_sign(certificate, issuer_key != nullptr ? issuer_key : key, EVP_sha256()) > 0, "the signature");
    return made;
}

template <class Write>
std::string to_pem(Write write) {
    const BioPtr bio{BIO_new(BIO_s_mem())};
    check(bio && write(bio.get()) == 1, "no PEM");
    char* text = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &text);
    return {text, static_cast<std::size_t>(size)};
}

std::string certificate_to_pem(X509* certificate) {
    return to_pem([&](BIO* bio) { return PEM_write_bio_X509(bio, certificate); });
}

std::string key_to_pem(EVP_PKEY* key) {
    return to_pem([&](BIO* bio) { return PEM_write_bio_PrivateKey(bio, key, nullptr, nullptr, 0, nullptr, nullptr); });
}

}  // namespace

struct ThrowawayAuthority::State {
    KeyPtr key;
    CertificatePtr certificate;
    std::string chain_pem;  ///< this authority and those above it, without the root
};

ThrowawayAuthority::ThrowawayAuthority(const CertificateRequest& request) {
    use_simulated_randomness();
    auto state = std::make_shared<State>();
    state->key = make_key(request.key);
    state->certificate = make_certificate(request, Role::authority, state->key.get(), nullptr, nullptr);
    state_ = std::move(state);
}

ThrowawayAuthority ThrowawayAuthority::intermediate(const CertificateRequest& request) const {
    auto state = std::make_shared<State>();
    state->key = make_key(request.key);
    state->certificate =
        make_certificate(request, Role::authority, state->key.get(), state_->certificate.get(), state_->key.get());
    state->chain_pem = certificate_to_pem(state->certificate.get()) + state_->chain_pem;
    return ThrowawayAuthority{std::move(state)};
}

TlsIdentity ThrowawayAuthority::issue(const CertificateRequest& request) const {
    const KeyPtr key = make_key(request.key);
    const CertificatePtr certificate = make_certificate(request, request.for_client ? Role::client : Role::server,
                                                        key.get(), state_->certificate.get(), state_->key.get());
    TlsIdentity identity;
    identity.chain_pem = certificate_to_pem(certificate.get());
    if (request.with_intermediates) identity.chain_pem += state_->chain_pem;
    identity.key_pem = key_to_pem(key.get());
    return identity;
}

TlsIdentity ThrowawayAuthority::self_signed(const CertificateRequest& request) {
    const KeyPtr key = make_key(request.key);
    const CertificatePtr certificate =
        make_certificate(request, request.for_client ? Role::client : Role::server, key.get(), nullptr, nullptr);
    TlsIdentity identity;
    identity.chain_pem = certificate_to_pem(certificate.get());
    identity.key_pem = key_to_pem(key.get());
    return identity;
}

std::string ThrowawayAuthority::certificate_pem() const { return certificate_to_pem(state_->certificate.get()); }

std::string ThrowawayAuthority::revocation_list(std::span<const TlsIdentity> revoked) const {
    ERR_clear_error();
    const auto now = CertificateRequest::now();
    const CrlPtr list{X509_CRL_new()};
    check(list != nullptr && X509_CRL_set_version(list.get(), X509_CRL_VERSION_2) == 1, "no memory");
    check(X509_CRL_set_issuer_name(list.get(), X509_get_subject_name(state_->certificate.get())) == 1, "the issuer");
    check(X509_CRL_set1_lastUpdate(list.get(), make_time(now - std::chrono::hours{1}).get()) == 1 &&
              X509_CRL_set1_nextUpdate(list.get(), make_time(now + std::chrono::hours{24}).get()) == 1,
          "the dates");
    for (const TlsIdentity& identity : revoked) {
        const BioPtr bio{BIO_new_mem_buf(identity.chain_pem.data(), static_cast<int>(identity.chain_pem.size()))};
        const CertificatePtr certificate{bio ? PEM_read_bio_X509(bio.get(), nullptr, nullptr, nullptr) : nullptr};
        check(certificate != nullptr, "what is to be revoked is no certificate");
        RevokedPtr entry{X509_REVOKED_new()};
        check(entry && X509_REVOKED_set_serialNumber(entry.get(), X509_get_serialNumber(certificate.get())) == 1 &&
                  X509_REVOKED_set_revocationDate(entry.get(), make_time(now - std::chrono::hours{1}).get()) == 1 &&
                  X509_CRL_add0_revoked(list.get(), entry.get()) == 1,
              "the entry");
        static_cast<void>(entry.release());
    }
    check(X509_CRL_sort(list.get()) == 1 && X509_CRL_sign(list.get(), state_->key.get(), EVP_sha256()) > 0,
          "the signature");
    return to_pem([&](BIO* bio) { return PEM_write_bio_X509_CRL(bio, list.get()); });
}

}  // namespace torc::net
