#include <openssl/err.h>

#include <atomic>
#include <utility>

#include "tls_internal.hpp"
#include "tls_provider.hpp"
#include "tls_random.hpp"

// Theory of operation. One SSL_CTX per TlsContext, filled in once and never changed: that makes copies and threads
// safe. Everything OpenSSL's configuration file could shift (versions, ciphers, groups, signature algorithms) is set
// here explicitly; only the security level stays as the machine's administrator set it. Nothing process-wide is
// touched.
//
// The default lists are short on purpose: each group, cipher and signature algorithm on them costs look-ups in every
// handshake and bytes in every hello, and one key share is enough, X25519 being what nearly every peer chooses.
//
// The callbacks run inside OpenSSL, so nothing may be thrown out of them.

namespace torc::net {

namespace tls {

namespace {

constexpr const char* default_ciphers = "ECDHE+AESGCM+AES128:ECDHE+AESGCM:ECDHE+CHACHA20:DHE+AESGCM:ECDHE+AES:!aNULL";
constexpr const char* default_ciphersuites =
    "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";
constexpr const char* default_groups = "X25519:P-256:P-384";
constexpr const char* default_signature_algorithms =
    "ECDSA+SHA256:RSA-PSS+SHA256:RSA+SHA256:ed25519:ECDSA+SHA384:RSA-PSS+SHA384:RSA+SHA384:"
    "ECDSA+SHA512:RSA-PSS+SHA512:RSA+SHA512";

int wire_version(TlsVersion version) noexcept {
    switch (version) {
        case TlsVersion::tls1_0: return TLS1_VERSION;
        case TlsVersion::tls1_1: return TLS1_1_VERSION;
        case TlsVersion::tls1_2: return TLS1_2_VERSION;
        case TlsVersion::tls1_3: break;
    }
    return TLS1_3_VERSION;
}

void set_algorithms(SSL_CTX* context, const TlsAlgorithms& options) {
    if (options.min_version > options.max_version) {
        throw_bad_option("range of versions", std::string(to_string(options.min_version)) + " to " +
                                                  std::string(to_string(options.max_version)));
    }
    SSL_CTX_set_min_proto_version(context, wire_version(options.min_version));
    SSL_CTX_set_max_proto_version(context, wire_version(options.max_version));

    const auto choose = [](const std::string& given, const char* fallback) {
        return given.empty() ? fallback : given.c_str();
    };
    if (SSL_CTX_set_cipher_list(context, choose(options.ciphers, default_ciphers)) != 1) {
        throw_bad_option("list of ciphers", options.ciphers);
    }
    if (SSL_CTX_set_ciphersuites(context, choose(options.ciphersuites, default_ciphersuites)) != 1) {
        throw_bad_option("list of TLS 1.3 cipher suites", options.ciphersuites);
    }
    if (SSL_CTX_set1_groups_list(context, choose(options.groups, default_groups)) != 1) {
        throw_bad_option("list of groups", options.groups);
    }
    // The versions before 1.2 sign with SHA-1, which the short list leaves out.
    const bool old = options.min_version < TlsVersion::tls1_2;
    if (options.signature_algorithms.empty() && old) return;
    if (SSL_CTX_set1_sigalgs_list(context, choose(options.signature_algorithms, default_signature_algorithms)) != 1) {
        throw_bad_option("list of signature algorithms", options.signature_algorithms);
    }
}

std::shared_ptr<ContextState> make_state(const SSL_METHOD* method, const TlsAlgorithms& algorithms) {
    static std::atomic<std::uint64_t> next_id{1};
    use_simulated_randomness();
    ERR_clear_error();
    auto state = std::make_shared<ContextState>();
    state->context.reset(SSL_CTX_new_ex(library_context(), nullptr, method));
    if (!state->context) {
        throw Error{errc::unsupported, phase::tls, "set up", "OpenSSL can not be used: " + drain_errors().words};
    }
    state->id = next_id.fetch_add(1, std::memory_order_relaxed);
    state->min_version = algorithms.min_version;
    state->max_version = algorithms.max_version;
    SSL_CTX* context = state->context.get();
    SSL_CTX_set_mode(context,
                     SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_options(context, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION);
    SSL_CTX_set_read_ahead(context, 0);
    set_algorithms(context, algorithms);
    return state;
}

int note_certificate_request(SSL* ssl, X509**, EVP_PKEY**) noexcept {
    Engine::Impl::of(ssl).certificate_asked = true;
    return 0;
}

/// The newest version a client offers, for the sentence that says it was too old.
int note_client_version(SSL* ssl, int*, void*) noexcept {
    int newest = static_cast<int>(SSL_client_hello_get0_legacy_version(ssl));
    const unsigned char* list = nullptr;
    std::size_t size = 0;
    if (SSL_client_hello_get0_ext(ssl, TLSEXT_TYPE_supported_versions, &list, &size) == 1) {
        newest = 0;
        for (std::size_t i = 1; i + 1 < size; i += 2) {
            const int version = list[i] << 8 | list[i + 1];
            if (version <= TLS1_3_VERSION && version > newest) newest = version;
        }
    }
    Engine::Impl::of(ssl).peer_version = newest;
    return SSL_CLIENT_HELLO_SUCCESS;
}

int choose_protocol(SSL*, const unsigned char** out, unsigned char* out_size, const unsigned char* offered,
                    unsigned int offered_size, void* user) noexcept {
    const std::string& ours = static_cast<const ContextState*>(user)->alpn_wire;
    unsigned char* chosen = nullptr;
    const int verdict = SSL_select_next_proto(&chosen, out_size, reinterpret_cast<const unsigned char*>(ours.data()),
                                              static_cast<unsigned int>(ours.size()), offered, offered_size);
    *out = chosen;
    return verdict == OPENSSL_NPN_NEGOTIATED ? SSL_TLSEXT_ERR_OK : SSL_TLSEXT_ERR_ALERT_FATAL;
}

/// Shows the certificate that covers the name asked for. The first is already in place.
int choose_identity(SSL* ssl, void* user) noexcept {
    const auto& identities = static_cast<const ContextState*>(user)->identities;
    const char* name = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
    if (name == nullptr) return 1;
    for (const LoadedIdentity& identity : identities) {
        if (X509_check_host(identity.certificate.get(), name, 0, X509_CHECK_FLAG_NEVER_CHECK_SUBJECT, nullptr) != 1) {
            continue;
        }
        if (&identity == &identities.front()) return 1;
        SSL_certs_clear(ssl);  // else one of another key type would be left beside it
        return SSL_use_cert_and_key(ssl, identity.certificate.get(), identity.key.get(), identity.chain.get(), 1);
    }
    return 1;
}

void use_identity(SSL_CTX* context, const LoadedIdentity& identity) {
    if (SSL_CTX_use_cert_and_key(context, identity.certificate.get(), identity.key.get(), identity.chain.get(), 1) !=
        1) {
        throw Error{tls_errc::bad_credentials, phase::tls, "load",
                    "the certificate can not be used: " + drain_errors().words};
    }
}

}  // namespace

std::string alpn_wire_form(const std::vector<std::string>& protocols) {
    std::string wire;
    for (const std::string& protocol : protocols) {
        if (protocol.empty() || protocol.size() > 255) throw_bad_option("application protocol", protocol);
        wire += static_cast<char>(protocol.size());
        wire += protocol;
    }
    if (wire.size() > 65535) throw_bad_option("list of application protocols", "of more than 65535 bytes");
    return wire;
}

void throw_bad_option(std::string_view what, std::string_view value) {
    ERR_clear_error();
    throw Error{tls_errc::bad_option, phase::tls, "set up",
                "the " + std::string(what) + " \"" + std::string(value) + "\" can not be used"};
}

}  // namespace tls

std::string_view to_string(TlsVersion version) noexcept {
    switch (version) {
        case TlsVersion::tls1_0: return "TLS 1.0";
        case TlsVersion::tls1_1: return "TLS 1.1";
        case TlsVersion::tls1_2: return "TLS 1.2";
        case TlsVersion::tls1_3: break;
    }
    return "TLS 1.3";
}

TlsContext TlsContext::client(const TlsClientOptions& options) {
    auto state = tls::make_state(TLS_client_method(), options.algorithms);
    SSL_CTX* context = state->context.get();
    state->verify = !options.dangerously_skip_verification;
    state->alpn_wire = tls::alpn_wire_form(options.alpn);
    state->resumption = options.resumption;
    tls::load_trust(context, options.trust, false);
    SSL_CTX_set_verify(context, state->verify ? SSL_VERIFY_PEER : SSL_VERIFY_NONE, tls::on_verified);
    if (!options.identity.empty()) {
        tls::use_identity(context, tls::load_identity(options.identity));
        state->has_identity = true;
    }
    SSL_CTX_set_client_cert_cb(context, tls::note_certificate_request);
    if (options.resumption) {
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_CLIENT | SSL_SESS_CACHE_NO_INTERNAL);
        SSL_CTX_sess_set_new_cb(context, tls::keep_session);
    } else {
        SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
        SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
    }
    return TlsContext{std::move(state)};
}

TlsContext TlsContext::server(const TlsServerOptions& options) {
    auto state = tls::make_state(TLS_server_method(), options.algorithms);
    SSL_CTX* context = state->context.get();
    state->server = true;
    if (options.identities.empty()) {
        throw Error{tls_errc::bad_credentials, phase::tls, "load", "a server needs a certificate, and none was given"};
    }
    for (const TlsIdentity& identity : options.identities) state->identities.push_back(tls::load_identity(identity));
    tls::use_identity(context, state->identities.front());
    if (state->identities.size() > 1) SSL_CTX_set_cert_cb(context, tls::choose_identity, state.get());
    state->has_identity = true;

    state->alpn_wire = tls::alpn_wire_form(options.alpn);
    if (!state->alpn_wire.empty()) SSL_CTX_set_alpn_select_cb(context, tls::choose_protocol, state.get());

    if (options.client_certificate != TlsClientCertificate::ignore) {
        const TlsTrust& trust = options.client_trust;
        if (trust.ca_file.empty() && trust.ca_directory.empty() && trust.ca_pem.empty()) {
            throw Error{tls_errc::bad_credentials, phase::tls, "load",
                        "client certificates are asked for, but no authority is given to check them against"};
        }
        tls::load_trust(context, trust, true);
        state->verify = true;
        const bool required = options.client_certificate == TlsClientCertificate::require;
        SSL_CTX_set_verify(context, SSL_VERIFY_PEER | (required ? SSL_VERIFY_FAIL_IF_NO_PEER_CERT : 0),
                           tls::on_verified);
    }
    SSL_CTX_set_client_hello_cb(context, tls::note_client_version, nullptr);
    SSL_CTX_set_options(context, SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA);

    // Tickets carry the session; nothing is kept here per client.
    constexpr unsigned char session_context[] = "torc";
    SSL_CTX_set_session_id_context(context, session_context, sizeof session_context - 1);
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    if (!options.tickets) {
        SSL_CTX_set_options(context, SSL_OP_NO_TICKET);
        SSL_CTX_set_num_tickets(context, 0);
    }
    return TlsContext{std::move(state)};
}

bool TlsContext::is_server() const noexcept { return state_->server; }
bool TlsContext::verifies_peer() const noexcept { return state_->verify; }

}  // namespace torc::net
