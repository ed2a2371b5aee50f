#include <openssl/err.h>
#include <openssl/pem.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "tls_internal.hpp"

// Theory of operation. Files are read here and parsed from memory, so that a file that can not be read and a file that
// holds the wrong thing are told apart, and so that PEM text and files take one path. OpenSSL's own password prompt on
// the terminal is never reached.

namespace torc::net::tls {

namespace {

/// PEM text and what to call its origin in a sentence.
struct Source {
    std::string text;
    std::string origin;
};

[[noreturn]] void throw_bad_credentials(std::string words) {
    ERR_clear_error();
    throw Error{tls_errc::bad_credentials, phase::tls, "load", std::move(words)};
}

Source read_source(const std::string& pem, const std::string& file, std::string_view what) {
    if (!pem.empty()) return {pem, "the " + std::string(what) + " given as text"};
    const std::string origin = "the " + std::string(what) + " file \"" + file + "\"";
    std::ostringstream text;
    errno = 0;
    std::ifstream stream{file, std::ios::binary};
    if (stream && stream.peek() != std::ifstream::traits_type::eof()) text << stream.rdbuf();
    if (!stream) {
        const int code = errno != 0 ? errno : EIO;
        if (stream.is_open() && stream.eof() && errno == 0) return {{}, origin};
        throw Error{std::error_code{code, std::generic_category()}, phase::tls, "load",
                    origin + " can not be read: " + std::strerror(code)};
    }
    return {std::move(text).str(), origin};
}

BioPtr open_text(const std::string& text) {
    BioPtr bio{BIO_new_mem_buf(text.data(), static_cast<int>(text.size()))};
    if (!bio) throw std::bad_alloc();
    return bio;
}

int give_password(char* to, int size, int, void* user) noexcept {
    const auto& password = *static_cast<const std::string*>(user);
    if (password.empty() || password.size() > static_cast<std::size_t>(size)) return -1;
    password.copy(to, password.size());
    return static_cast<int>(password.size());
}

/// Reads PEM blocks of one kind until there are no more. OpenSSL says "no start line" both for an empty text and after
/// the last block, so the caller judges whether enough came.
template <class Pointer, class Read>
std::vector<Pointer> read_all(const Source& source, Read read, std::string_view kind) {
    std::string no_password;
    std::vector<Pointer> all;
    BioPtr bio = open_text(source.text);
    ERR_clear_error();
    while (auto* one = read(bio.get(), nullptr, give_password, &no_password)) all.emplace_back(one);
    const unsigned long code = ERR_peek_last_error();
    const bool at_end = ERR_GET_LIB(code) == ERR_LIB_PEM && ERR_GET_REASON(code) == PEM_R_NO_START_LINE;
    const QueuedError queued = drain_errors();
    if (!at_end) {
        throw_bad_credentials(source.origin + " holds a damaged " + std::string(kind) + ": " + queued.words);
    }
    if (all.empty()) throw_bad_credentials(source.origin + " holds no " + std::string(kind) + " in PEM form");
    return all;
}

std::vector<CertificatePtr> read_certificates(const Source& source) {
    return read_all<CertificatePtr>(source, PEM_read_bio_X509_AUX, "certificate");
}

KeyPtr read_key(const Source& source, const std::string& password) {
    BioPtr bio = open_text(source.text);
    std::string given = password;
    KeyPtr key{PEM_read_bio_PrivateKey(bio.get(), nullptr, give_password, &given)};
    OPENSSL_cleanse(given.data(), given.size());
    ERR_clear_error();
    if (key) return key;
    if (source.text.find("ENCRYPTED") != std::string::npos) {
        throw_bad_credentials("the key in " + source.origin + " is encrypted, and the password is " +
                              (password.empty() ? "missing" : "wrong"));
    }
    throw_bad_credentials(source.origin + " holds no usable private key in PEM form");
}

void add_system_certificates(X509_STORE* store) {
    if (X509_STORE_set_default_paths(store) != 1) {
        throw_bad_credentials("the system's trust store can not be opened: " + drain_errors().words);
    }
}

/// The system's trust store, shared by every context that trusts just that: parsing it takes as long as thirty
/// handshakes. Kept for the life of the process, as contexts may live in static objects; nothing may be added to it.
X509_STORE* system_store() {
    static X509_STORE* const store = [] {
        std::unique_ptr<X509_STORE, Freeing<X509_STORE_free>> made{X509_STORE_new()};
        if (!made) throw std::bad_alloc();
        add_system_certificates(made.get());
        return made.release();
    }();
    return store;
}

}  // namespace

LoadedIdentity load_identity(const TlsIdentity& identity) {
    if (identity.empty()) throw_bad_credentials("no certificate was given");
    const Source chain = read_source(identity.chain_pem, identity.chain_file, "certificate");
    const bool key_apart = !identity.key_pem.empty() || !identity.key_file.empty();
    const Source key = key_apart ? read_source(identity.key_pem, identity.key_file, "key") : chain;

    LoadedIdentity loaded;
    std::vector<CertificatePtr> certificates = read_certificates(chain);
    loaded.key = read_key(key, identity.key_password);
    loaded.certificate = std::move(certificates.front());
    loaded.chain.reset(sk_X509_new_null());
    if (!loaded.chain) throw std::bad_alloc();
    for (std::size_t i = 1; i < certificates.size(); ++i) {
        if (sk_X509_push(loaded.chain.get(), certificates[i].get()) == 0) throw std::bad_alloc();
        static_cast<void>(certificates[i].release());
    }
    if (X509_check_private_key(loaded.certificate.get(), loaded.key.get()) != 1) {
        throw_bad_credentials("the key in " + key.origin + " does not belong to the first certificate in " +
                              chain.origin);
    }
    return loaded;
}

void load_trust(SSL_CTX* context, const TlsTrust& trust, bool for_clients) {
    X509_STORE* store = SSL_CTX_get_cert_store(context);
    const bool own = !trust.ca_file.empty() || !trust.ca_directory.empty() || !trust.ca_pem.empty();
    const auto add = [&](const std::string& pem, const std::string& file) {
        for (const CertificatePtr& certificate : read_certificates(read_source(pem, file, "CA"))) {
            if (X509_STORE_add_cert(store, certificate.get()) != 1) throw std::bad_alloc();
            // Clients with several certificates choose by the authorities a server names.
            if (for_clients && SSL_CTX_add_client_CA(context, certificate.get()) != 1) throw std::bad_alloc();
        }
    };
    if (!trust.ca_pem.empty()) add(trust.ca_pem, {});
    if (!trust.ca_file.empty()) add({}, trust.ca_file);
    if (!trust.ca_directory.empty()) {
        std::error_code code;
        if (!std::filesystem::is_directory(trust.ca_directory, code)) {
            if (!code) code = std::make_error_code(std::errc::not_a_directory);
            throw Error{code, phase::tls, "load",
                        "the CA directory \"" + trust.ca_directory + "\" can not be read: " + code.message()};
        }
        if (X509_STORE_load_path(store, trust.ca_directory.c_str()) != 1) throw std::bad_alloc();
    }
    if (!for_clients && !own && trust.crl_pem.empty()) {
        SSL_CTX_set1_cert_store(context, system_store());
    } else if (!for_clients && (!own || trust.also_system_store)) {
        add_system_certificates(store);
    }
    if (!trust.crl_pem.empty()) {
        const Source source{trust.crl_pem, "the revocation list given as text"};
        for (const CrlPtr& list : read_all<CrlPtr>(source, PEM_read_bio_X509_CRL, "revocation list")) {
            if (X509_STORE_add_crl(store, list.get()) != 1) throw std::bad_alloc();
        }
        X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context), X509_V_FLAG_CRL_CHECK);
    }
    // A trusted certificate is where a chain may end, whether or not it signed itself.
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(context), X509_V_FLAG_PARTIAL_CHAIN);
    ERR_clear_error();
}

}  // namespace torc::net::tls
