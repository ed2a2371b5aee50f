#include <ctime>

#include <torc/runtime/driver.hpp>

#include "tls_internal.hpp"

// Theory of operation. A session lets a client skip the certificate of a server it has verified before, so it must
// never reach a place where that verification would have come out differently. Each is therefore tied to the context
// (whose trust store and options verified it) and to the name and port it was made with, and it is no longer offered
// once the certificate it rests on is past its end. OpenSSL calls keep_session(), for TLS 1.2 when the handshake
// completes, for TLS 1.3 whenever a ticket arrives.

namespace torc::net::tls {

std::string session_key(std::string_view server_name, std::uint16_t port) {
    return std::string(server_name) + ':' + std::to_string(port);
}

int keep_session(SSL* ssl, SSL_SESSION* session) noexcept {
    Engine::Impl& engine = Engine::Impl::of(ssl);
    if (engine.cache_key.empty() || SSL_SESSION_is_resumable(session) != 1) return 0;
    try {
        auto state = std::make_shared<SessionState>();
        state->key = engine.cache_key;
        state->context_id = engine.context->id;
        SSL_SESSION_up_ref(session);
        state->session.reset(session);
        engine.session = TlsSession{std::move(state)};
        engine.context->sessions.put(engine.session);
    } catch (...) {
        // Without memory there is nothing to resume, which is no reason to fail.
    }
    return 0;
}

bool may_resume(const SessionState& session, const ContextState& context, std::string_view key) noexcept {
    if (session.context_id != context.id || session.key != key) return false;
    if (SSL_SESSION_is_resumable(session.session.get()) != 1) return false;
    const X509* certificate = SSL_SESSION_get0_peer(session.session.get());
    if (certificate == nullptr) return false;
    std::time_t now = std::chrono::system_clock::to_time_t(Clock::wall_now());
    return X509_cmp_time(X509_get0_notAfter(certificate), &now) > 0;
}

void SessionCache::put(TlsSession session) {
    const std::lock_guard lock{mutex_};
    const std::string& key = session.state()->key;
    if (const auto found = by_key_.find(key); found != by_key_.end()) {
        servers_.splice(servers_.begin(), servers_, found->second);
    } else {
        servers_.push_front({key, {}});
        by_key_.emplace(servers_.front().key, servers_.begin());
        if (servers_.size() > max_servers) {
            by_key_.erase(servers_.back().key);
            servers_.pop_back();
        }
    }
    std::vector<TlsSession>& sessions = servers_.front().sessions;
    if (sessions.size() == max_sessions_per_server) sessions.erase(sessions.begin());
    sessions.push_back(std::move(session));
}

TlsSession SessionCache::take(const std::string& key) {
    const std::lock_guard lock{mutex_};
    const auto found = by_key_.find(key);
    if (found == by_key_.end() || found->second->sessions.empty()) return {};
    servers_.splice(servers_.begin(), servers_, found->second);
    std::vector<TlsSession>& sessions = found->second->sessions;
    TlsSession latest = sessions.back();
    if (SSL_SESSION_get_protocol_version(latest.state()->session.get()) >= TLS1_3_VERSION) sessions.pop_back();
    return latest;
}

}  // namespace torc::net::tls
