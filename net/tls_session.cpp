#include <algorithm>
#include <ctime>
#include <iterator>

#include <torc/runtime/driver.hpp>

#include "tls_internal.hpp"

// Theory of operation. A session lets a client skip the certificate of a server it has verified before, so it must
// never reach a place where that verification would have come out differently. Each is therefore tied to the context
// (whose trust store and options verified it) and to the name and port it was made with, and it is no longer offered
// once the certificate it rests on is past its end. OpenSSL calls keep_session(), for TLS 1.2 when the handshake
// completes, for TLS 1.3 whenever a ticket arrives.
//
// The cache is bounded twice, for one server and for all. What has to go is the oldest session of the server that was
// used least recently; a server of which none is left is forgotten. Expired sessions are dropped where they are met: at
// the end of the list that is added to, in front of the one wanted, and at the server whose turn to go is next.

namespace torc::net::tls {

std::string session_key(std::string_view server_name, std::uint16_t port) {
    return std::string(server_name) + ':' + std::to_string(port);
}

namespace {

std::chrono::seconds lifetime_of(const SSL_SESSION* session) noexcept {
    const unsigned long hint_s = SSL_SESSION_get_ticket_lifetime_hint(session);
    constexpr unsigned long longest_s = 7 * 24 * 3600;  // RFC 8446, 4.6.1
    if (hint_s > 0) return std::chrono::seconds{std::min(hint_s, longest_s)};
    return std::chrono::seconds{SSL_SESSION_get_timeout(session)};  // the server did not say: OpenSSL's two hours
}

/// TLS 1.2 and older: a session may be used any number of times.
bool is_reusable(const TlsSession& session) noexcept {
    return SSL_SESSION_get_protocol_version(session.state()->session.get()) < TLS1_3_VERSION;
}

}  // namespace

int keep_session(SSL* ssl, SSL_SESSION* session) noexcept {
    Engine::Impl& engine = Engine::Impl::of(ssl);
    if (engine.cache_key.empty() || SSL_SESSION_is_resumable(session) != 1) return 0;
    try {
        auto state = std::make_shared<SessionState>();
        state->key = engine.cache_key;
        state->context_id = engine.context->id;
        state->expires = Clock::wall_now() + lifetime_of(session);
        SSL_SESSION_up_ref(session);
        state->session.reset(session);
        engine.session = TlsSession{std::move(state)};
        engine.context->sessions.put(engine.session);
    } catch (...) {
        // Without memory there is nothing to resume, which is no reason to fail.
    }
    return 0;
}

bool SessionState::is_fresh() const noexcept {
    if (SSL_SESSION_is_resumable(session.get()) != 1) return false;
    const X509* certificate = SSL_SESSION_get0_peer(session.get());
    if (certificate == nullptr) return false;
    const auto wall_now = Clock::wall_now();
    std::time_t now = std::chrono::system_clock::to_time_t(wall_now);
    return wall_now < expires && X509_cmp_time(X509_get0_notAfter(certificate), &now) > 0;
}

bool may_resume(const SessionState& session, const ContextState& context, std::string_view key) noexcept {
    return session.context_id == context.id && session.key == key && session.is_fresh();
}

void SessionCache::drop_oldest(Servers::iterator server) noexcept {
    server->sessions.pop_back();
    --size_;
    if (!server->sessions.empty()) return;
    by_key_.erase(server->key);
    servers_.erase(server);
}

void SessionCache::put(TlsSession session) {
    const std::lock_guard lock{mutex_};
    const std::string& key = session.state()->key;
    std::list<TlsSession> added;  // what may throw comes before what is changed
    added.push_front(session);
    if (const auto found = by_key_.find(key); found != by_key_.end()) {
        servers_.splice(servers_.begin(), servers_, found->second);
    } else {
        Servers made;
        made.push_front({key, {}});
        by_key_.emplace(made.front().key, made.begin());
        servers_.splice(servers_.begin(), made);
    }
    std::list<TlsSession>& sessions = servers_.front().sessions;
    if (is_reusable(session)) {
        size_ -= sessions.size();
        sessions.clear();
    }
    sessions.splice(sessions.begin(), added);
    ++size_;
    while (sessions.size() > max_sessions_per_server || (sessions.size() > 1 && !sessions.back().state()->is_fresh())) {
        drop_oldest(servers_.begin());
    }
    while (size_ > max_sessions || (servers_.size() > 1 && !servers_.back().sessions.back().state()->is_fresh())) {
        drop_oldest(std::prev(servers_.end()));
    }
}

TlsSession SessionCache::take(const std::string& key) {
    const std::lock_guard lock{mutex_};
    const auto found = by_key_.find(key);
    if (found == by_key_.end()) return {};
    const auto server = found->second;
    servers_.splice(servers_.begin(), servers_, server);
    std::list<TlsSession>& sessions = server->sessions;
    TlsSession newest;
    while (!newest && !sessions.empty()) {
        if (sessions.front().state()->is_fresh()) newest = sessions.front();
        if (newest && is_reusable(newest)) return newest;
        sessions.pop_front();
        --size_;
    }
    if (sessions.empty()) {
        by_key_.erase(server->key);
        servers_.erase(server);
    }
    return newest;
}

}  // namespace torc::net::tls
