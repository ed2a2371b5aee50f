#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <unordered_map>

#include <torc/net/tls_engine.hpp>
#include <torc/net/tls_error.hpp>

#include "tls_openssl.hpp"

/// What the files behind TlsContext and Engine share.
namespace torc::net::tls {

struct SessionState {
    SslSessionPtr session;
    std::string key;                                  ///< the server it belongs to, see session_key()
    std::uint64_t context_id = 0;                     ///< the context that vouched for the server then
    std::chrono::system_clock::time_point expires{};  ///< by the server's word

    /// Whether a server could still accept it, and the certificate it rests on is not past its end.
    [[nodiscard]] bool is_fresh() const noexcept;
};

/// Sessions a client context remembers. A server of TLS 1.3 hands out one or two with each connection, and each is good
/// for one: the connections that are to begin at once with a session need one apiece.
class SessionCache {
   public:
    static constexpr std::size_t max_sessions = 1024;
    static constexpr std::size_t max_sessions_per_server = 128;

    void put(TlsSession session);
    /// The newest that is fresh. A session of TLS 1.3 is given out once, as RFC 8446 C.4 asks; an older one stays.
    TlsSession take(const std::string& key);

   private:
    struct Server {
        std::string key;
        std::list<TlsSession> sessions;  ///< newest first, never empty
    };
    using Servers = std::list<Server>;
    void drop_oldest(Servers::iterator server) noexcept;

    std::mutex mutex_;
    Servers servers_;  ///< latest used first
    std::unordered_map<std::string_view, Servers::iterator> by_key_;
    std::size_t size_ = 0;
};

/// A parsed TlsIdentity.
struct LoadedIdentity {
    CertificatePtr certificate;
    CertificatesPtr chain;
    KeyPtr key;
};

struct ContextState {
    SslContextPtr context;
    std::uint64_t id = 0;
    bool server = false;
    bool verify = false;
    bool resumption = false;
    bool has_identity = false;
    TlsVersion min_version = TlsVersion::tls1_2;
    TlsVersion max_version = TlsVersion::tls1_3;
    std::string alpn_wire;
    std::vector<LoadedIdentity> identities;  ///< server only
    mutable SessionCache sessions;           ///< client only
};

/// What verification found wrong with the peer's chain.
struct CertificateFault {
    tls_errc code = tls_errc::certificate_invalid;
    std::string words;
};

/// Ciphertext waiting to be sent: blocks that never move, so that a send may be under way while more is appended.
class OutputQueue {
   public:
    /// The next block made will hold at least this much.
    void expect(std::size_t bytes) noexcept { expected_bytes_ = bytes; }
    void append(std::span<const std::byte> bytes);
    [[nodiscard]] std::span<const std::byte> front() const noexcept;
    void consume(std::size_t n) noexcept;
    void clear() noexcept;
    [[nodiscard]] std::size_t pending_bytes() const noexcept { return pending_bytes_; }
    [[nodiscard]] std::size_t held_bytes() const noexcept;

   private:
    struct Block {
        std::unique_ptr<std::byte[]> bytes;
        std::size_t begin = 0;
        std::size_t end = 0;
        std::size_t capacity = 0;
    };
    std::vector<Block> blocks_;
    std::size_t pending_bytes_ = 0;
    std::size_t expected_bytes_ = 0;
};

/// The two ends of the engine that OpenSSL reads from and writes to.
struct Transport {
    std::span<const std::byte> input;
    bool input_ended = false;
    bool hit_end = false;  ///< OpenSSL asked for bytes after the end
    bool out_of_memory = false;
    std::uint8_t seen = 0;  ///< how much of `first_bytes` is filled
    std::array<unsigned char, 8> first_bytes{};
    OutputQueue output;
};

/// A BIO over `transport`, which must outlive it.
BioPtr make_bio(Transport& transport);

struct Engine::Impl {
    std::shared_ptr<const ContextState> context;
    Transport transport;
    SslPtr ssl;               ///< after the transport, which its BIO points to
    std::string server_name;  ///< as verified; empty on a server
    std::string cache_key;    ///< empty where sessions are not kept
    std::string alpn_wire;    ///< what the client offered
    bool established = false;
    bool ended = false;  ///< the peer's close_notify was read
    bool close_sent = false;
    bool abandoned = false;
    bool certificate_asked = false;  ///< the server asked for a client certificate
    int peer_version = 0;            ///< the version in the peer's hello, as on the wire; 0 before it
    std::optional<CertificateFault> fault;
    std::optional<Error> error;
    TlsSession session;  ///< the latest that may be resumed

    Impl() = default;
    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;
    ~Impl();

    static Impl& of(const SSL* ssl) noexcept { return *static_cast<Impl*>(SSL_get_app_data(ssl)); }

    Status handshake();
    Status fail(Error what);
    Status judge(int result, std::string_view operation);
    Status finish_handshake();
};

std::string session_key(std::string_view server_name, std::uint16_t port);
/// Called by OpenSSL with a new session of a client; keeps it in the engine and the context.
int keep_session(SSL* ssl, SSL_SESSION* session) noexcept;
/// Whether a session may still be offered: same server, same context, fresh.
bool may_resume(const SessionState& session, const ContextState& context, std::string_view key) noexcept;

/// Called by OpenSSL with the verdict on each certificate; keeps the words for the first fault.
int on_verified(int good, X509_STORE_CTX* store) noexcept;

/// ALPN's wire form. Errors: `Error` (bad_option) for an empty or overlong protocol name.
std::string alpn_wire_form(const std::vector<std::string>& protocols);

/// Puts what failed into one code and one sentence. Empties OpenSSL's error queue.
Error explain_failure(Engine::Impl& engine, std::string_view operation);

LoadedIdentity load_identity(const TlsIdentity& identity);
/// For servers' clients the system's store is left out, and the authorities are named to the clients.
void load_trust(SSL_CTX* context, const TlsTrust& trust, bool for_clients);

[[noreturn]] void throw_bad_option(std::string_view what, std::string_view value);

}  // namespace torc::net::tls
