#include <doctest/doctest.h>
#include <openssl/dsa.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/provider.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>

#include <cstring>
#include <memory>
#include <string>

#include "../../net/tls_provider.hpp"
#include "tls_pair.hpp"

// Goal: what TLS can use by default is usable, whichever of OpenSSL's library contexts a TLS context lives in; and it
// is the process's own where the program has arranged something there. Method: certificates of every kind that
// authorities issue, made with OpenSSL itself, and every cipher and group, in both versions.

using namespace torc;
using namespace torc::net;
using namespace torc::testing;

namespace {

template <auto free_function>
struct Freeing {
    void operator()(auto* object) const noexcept { free_function(object); }
};
using Key = std::unique_ptr<EVP_PKEY, Freeing<EVP_PKEY_free>>;
using Certificate = std::unique_ptr<X509, Freeing<X509_free>>;

Key make_key(const std::string& kind) {
    if (kind == "RSA") return Key{EVP_RSA_gen(2048)};
    if (kind.starts_with("P-")) return Key{EVP_EC_gen(kind.c_str())};
    const std::unique_ptr<EVP_PKEY_CTX, Freeing<EVP_PKEY_CTX_free>> context{
        EVP_PKEY_CTX_new_from_name(nullptr, kind.c_str(), nullptr)};
    EVP_PKEY* made = nullptr;
    if (kind == "DSA") {
        EVP_PKEY_paramgen_init(context.get());
        EVP_PKEY_CTX_set_dsa_paramgen_bits(context.get(), 2048);
        EVP_PKEY_paramgen(context.get(), &made);
        const Key parameters{made};
        const std::unique_ptr<EVP_PKEY_CTX, Freeing<EVP_PKEY_CTX_free>> from{
            EVP_PKEY_CTX_new_from_pkey(nullptr, parameters.get(), nullptr)};
        made = nullptr;
        EVP_PKEY_keygen_init(from.get());
        EVP_PKEY_keygen(from.get(), &made);
        return Key{made};
    }
    EVP_PKEY_keygen_init(context.get());
    if (kind == "RSA-PSS") EVP_PKEY_CTX_set_rsa_keygen_bits(context.get(), 2048);
    EVP_PKEY_keygen(context.get(), &made);
    return Key{made};
}

template <class Write>
std::string pem_of(Write write) {
    const std::unique_ptr<BIO, Freeing<BIO_free_all>> bio{BIO_new(BIO_s_mem())};
    REQUIRE(write(bio.get()) == 1);
    char* text = nullptr;
    const long size = BIO_get_mem_data(bio.get(), &text);
    return {text, static_cast<std::size_t>(size)};
}

struct Issued {
    TlsIdentity identity;
    std::string ca_pem;
};

void add(X509* certificate, int kind, const char* value) {
    X509V3_CTX context;
    X509V3_set_ctx_nodb(&context);
    X509V3_set_ctx(&context, certificate, certificate, nullptr, nullptr, 0);
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, kind, value);
    REQUIRE(extension != nullptr);
    X509_add_ext(certificate, extension, -1);
    X509_EXTENSION_free(extension);
}

Certificate make_certificate(const char* name, EVP_PKEY* key, const X509* issuer, EVP_PKEY* issuer_key) {
    Certificate made{X509_new()};
    X509_set_version(made.get(), X509_VERSION_3);
    ASN1_INTEGER_set(X509_get_serialNumber(made.get()), issuer == nullptr ? 1 : 2);
    X509_gmtime_adj(X509_getm_notBefore(made.get()), -3600);
    X509_gmtime_adj(X509_getm_notAfter(made.get()), 3600);
    X509_NAME_add_entry_by_NID(X509_get_subject_name(made.get()), NID_commonName, MBSTRING_UTF8,
                               reinterpret_cast<const unsigned char*>(name), -1, -1, 0);
    X509_set_issuer_name(made.get(), X509_get_subject_name(issuer != nullptr ? issuer : made.get()));
    X509_set_pubkey(made.get(), key);
    add(made.get(), NID_basic_constraints, issuer == nullptr ? "critical,CA:TRUE" : "critical,CA:FALSE");
    if (issuer != nullptr) add(made.get(), NID_subject_alt_name, "DNS:site.test");
    const bool own_digest = EVP_PKEY_is_a(issuer_key, "ED25519") == 1 || EVP_PKEY_is_a(issuer_key, "ED448") == 1;
    REQUIRE(X509_sign(made.get(), issuer_key, own_digest ? nullptr : EVP_sha256()) > 0);
    return made;
}

/// A certificate with one kind of key, by an authority with another.
Issued issue(const std::string& kind, const std::string& authority_kind, const char* password = nullptr) {
    const Key authority_key = make_key(authority_kind);
    const Key key = make_key(kind);
    REQUIRE(authority_key);
    REQUIRE(key);
    const Certificate authority = make_certificate("root", authority_key.get(), nullptr, authority_key.get());
    const Certificate own = make_certificate("site", key.get(), authority.get(), authority_key.get());
    Issued issued;
    issued.ca_pem = pem_of([&](BIO* bio) { return PEM_write_bio_X509(bio, authority.get()); });
    issued.identity.chain_pem = pem_of([&](BIO* bio) { return PEM_write_bio_X509(bio, own.get()); });
    issued.identity.key_pem = pem_of([&](BIO* bio) {
        return PEM_write_bio_PKCS8PrivateKey(
            bio, key.get(), password != nullptr ? EVP_aes_256_cbc() : nullptr, password,
            password != nullptr ? static_cast<int>(std::strlen(password)) : 0, nullptr, nullptr);
    });
    if (password != nullptr) issued.identity.key_password = password;
    return issued;
}

/// Both sides show such a certificate, and a second connection resumes. Says what was wrong, or the cipher.
std::string talk(const Issued& issued, const TlsAlgorithms& server_algorithms, const TlsAlgorithms& client_algorithms) {
    TlsServerOptions server_options;
    server_options.identities = {issued.identity};
    server_options.algorithms = server_algorithms;
    server_options.client_certificate = TlsClientCertificate::require;
    server_options.client_trust.ca_pem = issued.ca_pem;
    TlsClientOptions client_options;
    client_options.trust.ca_pem = issued.ca_pem;
    client_options.identity = issued.identity;
    client_options.algorithms = client_algorithms;
    const TlsContext server = TlsContext::server(server_options);
    const TlsContext client = TlsContext::client(client_options);
    std::string cipher;
    for (const bool again : {false, true}) {
        TlsPair pair{client, server, {"site.test"}};
        pair.run();
        pair.send(pair.client, pair.server, "ping");
        pair.send(pair.server, pair.client, "pong");
        if (pair.client.engine.failed()) return std::string(pair.client.engine.error().message());
        if (pair.server.engine.failed()) return std::string(pair.server.engine.error().message());
        const TlsPeerInfo at_client = pair.client.engine.info();
        const TlsPeerInfo at_server = pair.server.engine.info();
        if (!at_client.verified || !at_server.verified) return "not verified";
        if (at_client.resumed != again) return again ? "not resumed" : "resumed";
        if (pair.server.received != "ping" || pair.client.received != "pong") return "not understood";
        cipher = at_client.cipher;
    }
    return cipher;
}

bool begins_cheaply() { return OpenSSL_version_num() < 0x30200000UL; }

}  // namespace

TEST_SUITE("TLS: kinds") {
    TEST_CASE("every kind of key is good for a certificate, and every kind for its authority") {
        for (const char* const kind : {"RSA", "P-256", "P-384", "ED25519"}) {
            const Issued issued = issue(kind, kind);
            for (const TlsVersion version : {TlsVersion::tls1_2, TlsVersion::tls1_3}) {
                CAPTURE(kind);
                CAPTURE(to_string(version));
                TlsAlgorithms algorithms;
                algorithms.max_version = version;
                const std::string key = std::string_view{kind} == "RSA" ? "RSA" : "ECDSA";
                const bool newest = version == TlsVersion::tls1_3;
                CHECK(talk(issued, algorithms, {}) ==
                      (newest ? "TLS_AES_128_GCM_SHA256" : "ECDHE-" + key + "-AES128-GCM-SHA256"));
            }
        }
    }

    TEST_CASE("an authority may have a key of another kind") {
        CHECK(talk(issue("P-384", "RSA"), {}, {}) == "TLS_AES_128_GCM_SHA256");
        CHECK(talk(issue("RSA", "ED25519"), {}, {}) == "TLS_AES_128_GCM_SHA256");
        CHECK(talk(issue("P-256", "DSA"), {}, {}) == "TLS_AES_128_GCM_SHA256");
    }

    TEST_CASE("rarer kinds serve those who ask for them") {
        TlsAlgorithms algorithms;
        algorithms.groups = "P-521:X25519";
        CHECK(talk(issue("P-521", "P-521"), algorithms, algorithms) == "TLS_AES_128_GCM_SHA256");
        algorithms.max_version = TlsVersion::tls1_2;
        CHECK(talk(issue("P-521", "P-521"), algorithms, algorithms) == "ECDHE-ECDSA-AES128-GCM-SHA256");
        algorithms = {};
        algorithms.signature_algorithms = "ed448";
        CHECK(talk(issue("ED448", "ED448"), algorithms, algorithms) == "TLS_AES_128_GCM_SHA256");
        algorithms.signature_algorithms = "rsa_pss_pss_sha256";
        CHECK(talk(issue("RSA-PSS", "RSA-PSS"), algorithms, algorithms) == "TLS_AES_128_GCM_SHA256");
    }

    TEST_CASE("every cipher of the default lists can be agreed on, and more that are asked for") {
        const Issued ec = issue("P-256", "P-256");
        const Issued rsa = issue("RSA", "RSA");
        for (const char* const suite :
             {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"}) {
            TlsAlgorithms algorithms;
            algorithms.ciphersuites = suite;
            CHECK(talk(ec, algorithms, {}) == suite);
        }
        for (const std::string tail : {"AES128-GCM-SHA256", "AES256-GCM-SHA384", "CHACHA20-POLY1305", "AES128-SHA256",
                                       "AES256-SHA384", "AES128-SHA", "AES256-SHA"}) {
            TlsAlgorithms algorithms;
            algorithms.max_version = TlsVersion::tls1_2;
            algorithms.ciphers = "ECDHE-ECDSA-" + tail;
            CHECK(talk(ec, algorithms, {}) == algorithms.ciphers);
            algorithms.ciphers = "ECDHE-RSA-" + tail;
            CHECK(talk(rsa, algorithms, {}) == algorithms.ciphers);
        }
        for (const char* const cipher : {"AES128-GCM-SHA256", "ECDHE-RSA-CAMELLIA128-SHA256"}) {
            TlsAlgorithms algorithms;
            algorithms.max_version = TlsVersion::tls1_2;
            algorithms.ciphers = cipher;
            CHECK(talk(rsa, algorithms, algorithms) == cipher);
        }
    }

    TEST_CASE("every group can be agreed on") {
        const Issued ec = issue("P-256", "P-256");
        for (const char* const group : {"X25519", "P-256", "P-384", "P-521", "X448", "ffdhe2048"}) {
            CAPTURE(group);
            TlsAlgorithms algorithms;
            algorithms.groups = group;
            CHECK(talk(ec, algorithms, algorithms) == "TLS_AES_128_GCM_SHA256");
        }
    }

    TEST_CASE("a key may be encrypted") {
        CHECK(talk(issue("RSA", "P-256", "secret"), {}, {}) == "TLS_AES_128_GCM_SHA256");
    }

    TEST_CASE("what the program arranged in its own library context counts") {
        const Issued ec = issue("P-256", "P-256");
        CHECK((tls::library_context() != nullptr) == begins_cheaply());
        SUBCASE("another provider") {
            OSSL_PROVIDER* const base = OSSL_PROVIDER_try_load(nullptr, "base", 1);
            REQUIRE(base != nullptr);
            CHECK(tls::library_context() == nullptr);
            CHECK(talk(ec, {}, {}) == "TLS_AES_128_GCM_SHA256");
            OSSL_PROVIDER_unload(base);
        }
        SUBCASE("FIPS") {
            REQUIRE(EVP_default_properties_enable_fips(nullptr, 1) == 1);
            CHECK(tls::library_context() == nullptr);
            REQUIRE(EVP_default_properties_enable_fips(nullptr, 0) == 1);
        }
        SUBCASE("a library context for the thread") {
            const std::unique_ptr<OSSL_LIB_CTX, Freeing<OSSL_LIB_CTX_free>> own{OSSL_LIB_CTX_new()};
            OSSL_LIB_CTX* const before = OSSL_LIB_CTX_set0_default(own.get());
            CHECK(tls::library_context() == nullptr);
            CHECK(talk(ec, {}, {}) == "TLS_AES_128_GCM_SHA256");
            OSSL_LIB_CTX_set0_default(before);
        }
        CHECK((tls::library_context() != nullptr) == begins_cheaply());
    }
}
