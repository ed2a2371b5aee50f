#include "tls_provider.hpp"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/decoder.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/provider.h>

#include <algorithm>
#include <array>
#include <string_view>
#include <vector>

// Theory of operation. To read the public key in a certificate, OpenSSL before 3.2 tries on every decoder of every
// provider, every time: those for private keys, for PEM, for Microsoft's formats. That is a quarter of the instructions
// of a client's handshake. TLS contexts here therefore live in a library context of their own, with a provider that is
// OpenSSL's default one but for its decoders: it passes on those that read a SubjectPublicKeyInfo, all that a
// certificate holds, of a key that can sign. SM2 is left out, which TLS can not use in those versions. Nothing else is
// filtered, no cipher, group, digest or signature, so there is no option that could ask for what is missing. Private
// keys are read in the process's own context, and so are trusted certificates; OpenSSL carries keys over where the two
// meet.
//
// What the process or its administrator arranged goes before speed. The process's own context is used
//
//   - with OpenSSL 3.2 and later, which remembers the decoders that fit,
//   - where any provider but the default one is active, or FIPS is asked for,
//   - on a thread whose program has set a library context of its own.
//
// This is looked at for each TLS context, when it is made. Nothing of the process's context is changed.
//
// OpenSSL makes what a provider offers of one kind (digests, key exchanges, ...) all at once, when the first of it is
// asked for, and notes that it has. If it runs out of memory while it does, it notes it all the same: what was not made
// is unsupported until the process ends, and no handshake succeeds any more. So it is all asked for with the first TLS
// context, when a process begins, and not in the first handshake, in the middle of its work.

namespace torc::net::tls {

namespace {

constexpr unsigned long first_that_remembers = 0x30200000UL;
constexpr std::array<std::string_view, 6> signing_keys{"RSA", "RSA-PSS", "EC", "ED25519", "ED448", "DSA"};

bool is_wanted(const OSSL_ALGORITHM& decoder) noexcept {
    const std::string_view properties = decoder.property_definition != nullptr ? decoder.property_definition : "";
    const std::string_view names = decoder.algorithm_names;  // the first of them is what everybody calls it
    return properties.find("structure=SubjectPublicKeyInfo") != std::string_view::npos &&
           std::ranges::find(signing_keys, names.substr(0, names.find(':'))) != signing_keys.end();
}

struct Filter {
    OSSL_PROVIDER* all = nullptr;
    std::vector<OSSL_ALGORITHM> decoders;  ///< ends with an entry of nulls
};

/// Never destroyed: contexts may live in static objects.
Filter& filter() {
    static Filter* const made = new Filter;
    return *made;
}

const OSSL_ALGORITHM* query(void*, int operation, int* no_cache) noexcept {
    if (operation != OSSL_OP_DECODER) return OSSL_PROVIDER_query_operation(filter().all, operation, no_cache);
    *no_cache = 0;
    return filter().decoders.data();
}

int capabilities(void*, const char* capability, OSSL_CALLBACK* callback, void* user) noexcept {
    return OSSL_PROVIDER_get_capabilities(filter().all, capability, callback, user);
}

int start(const OSSL_CORE_HANDLE*, const OSSL_DISPATCH*, const OSSL_DISPATCH** functions, void** context) noexcept {
    static const OSSL_DISPATCH ours[] = {
        {OSSL_FUNC_PROVIDER_QUERY_OPERATION, reinterpret_cast<void (*)()>(query)},
        {OSSL_FUNC_PROVIDER_GET_CAPABILITIES, reinterpret_cast<void (*)()>(capabilities)},
        {0, nullptr},
    };
    *functions = ours;
    *context = OSSL_PROVIDER_get0_provider_ctx(filter().all);  // what the functions passed on expect to be given
    return 1;
}

/// Asks for one of each kind of what a handshake uses. Each is there, in the default provider as in FIPS's.
bool make_ready(OSSL_LIB_CTX* context) noexcept {
    const auto is_there = [](auto* algorithm, auto free_algorithm) noexcept {
        free_algorithm(algorithm);
        return algorithm != nullptr;
    };
    return is_there(EVP_RAND_fetch(context, "CTR-DRBG", nullptr), EVP_RAND_free) &&
           is_there(EVP_MD_fetch(context, "SHA256", nullptr), EVP_MD_free) &&
           is_there(EVP_CIPHER_fetch(context, "AES-128-GCM", nullptr), EVP_CIPHER_free) &&
           is_there(EVP_MAC_fetch(context, "HMAC", nullptr), EVP_MAC_free) &&
           is_there(EVP_KDF_fetch(context, "HKDF", nullptr), EVP_KDF_free) &&
           is_there(EVP_KEYMGMT_fetch(context, "EC", nullptr), EVP_KEYMGMT_free) &&
           is_there(EVP_KEYEXCH_fetch(context, "ECDH", nullptr), EVP_KEYEXCH_free) &&
           is_there(EVP_SIGNATURE_fetch(context, "ECDSA", nullptr), EVP_SIGNATURE_free) &&
           is_there(EVP_ASYM_CIPHER_fetch(context, "RSA", nullptr), EVP_ASYM_CIPHER_free) &&
           is_there(OSSL_DECODER_fetch(context, "EC", nullptr), OSSL_DECODER_free);
}

/// Null if anything is not as expected.
OSSL_LIB_CTX* make_context() {
    constexpr int retain_fallbacks = 1;  // or loading it would change how the process's context chooses providers
    filter().all = OSSL_PROVIDER_try_load(nullptr, "default", retain_fallbacks);
    if (filter().all == nullptr) return nullptr;
    int no_cache = 0;
    const OSSL_ALGORITHM* each = OSSL_PROVIDER_query_operation(filter().all, OSSL_OP_DECODER, &no_cache);
    for (; each != nullptr && each->algorithm_names != nullptr; ++each) {
        if (is_wanted(*each)) filter().decoders.push_back(*each);
    }
    if (filter().decoders.size() != signing_keys.size()) return nullptr;
    filter().decoders.push_back({});
    OSSL_LIB_CTX* const made = OSSL_LIB_CTX_new();
    if (made == nullptr) return nullptr;
    if (OSSL_PROVIDER_add_builtin(made, "torc", start) == 1 && OSSL_PROVIDER_load(made, "torc") != nullptr &&
        make_ready(made)) {
        return made;
    }
    OSSL_LIB_CTX_free(made);
    return nullptr;
}

int is_default(OSSL_PROVIDER* provider, void*) noexcept {
    return std::string_view{OSSL_PROVIDER_get0_name(provider)} == "default" ? 1 : 0;
}

/// Whether providers are OpenSSL's own choice and nobody else's.
bool nothing_is_arranged() noexcept {
    if (OSSL_LIB_CTX_set0_default(nullptr) != OSSL_LIB_CTX_get0_global_default()) return false;  // null: only asks
    return EVP_default_properties_is_fips_enabled(nullptr) == 0 &&
           OSSL_PROVIDER_do_all(nullptr, is_default, nullptr) == 1;
}

}  // namespace

OSSL_LIB_CTX* library_context() {
    OSSL_LIB_CTX* context = nullptr;
    if (OpenSSL_version_num() < first_that_remembers && nothing_is_arranged()) {
        static OSSL_LIB_CTX* const ours = make_context();
        context = ours;
    }
    if (context == nullptr) static_cast<void>(make_ready(nullptr));  // what it lacks it will say when it is used
    ERR_clear_error();
    return context;
}

}  // namespace torc::net::tls
