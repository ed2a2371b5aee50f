#include <torc/net/tls_engine.hpp>

#include <openssl/err.h>

#include <algorithm>

#include <torc/runtime/driver.hpp>

#include "tls_internal.hpp"

// Theory of operation. An engine is an SSL object between two pieces of memory (tls_bio.cpp). Its states:
//
//   fresh -> established -> ended (the peer's close_notify was read; writing may go on)
//     any -> failed         (sticky: `error` is set, and from then on nothing but its alert leaves)
//
// and, apart from these, close_sent: this side's close_notify is in the output. OpenSSL is asked again on every call,
// so no "what did I want last time" is kept; as the write side never blocks, the only thing OpenSSL ever lacks is
// input. The error queue is per thread and shared with everybody, so it is cleared before each call and drained after a
// failure.
//
// read() goes on until the caller's buffer is full or the window is used up, so a window that held whole records can be
// given back at once. What was decrypted before a failure is delivered first and the failure with the next call.

namespace torc::net::tls {

namespace {

constexpr std::size_t max_record_bytes = 16384;
constexpr std::size_t record_overhead_bytes = 64;  // header, padding, authentication, for every cipher
/// Reading makes OpenSSL answer what the protocol wants answered (a wish to renegotiate), also while a writer's output
/// waits for a peer that reads nothing. More than a writer may leave waiting, and as much again, is no accident.
constexpr std::size_t max_waiting_bytes = 2 * Engine::output_limit_bytes;

/// Notes the version in the server's hello, for the sentence that says it is too old.
void note_server_version(int sent, int, int content, const void* bytes, std::size_t size, SSL* ssl, void*) noexcept {
    const auto* hello = static_cast<const unsigned char*>(bytes);
    if (sent != 0 || content != SSL3_RT_HANDSHAKE || size < 6 || hello[0] != SSL3_MT_SERVER_HELLO) return;
    Engine::Impl::of(ssl).peer_version = hello[4] << 8 | hello[5];
}

bool is_host_name(std::string_view name) noexcept {
    if (name.empty() || name.size() > 253 || name.front() == '.' || name.find("..") != std::string_view::npos) {
        return false;
    }
    return std::ranges::all_of(name, [](unsigned char c) { return c > 0x20 && c < 0x7f && c != '/' && c != ':'; });
}

void set_server_name(Engine::Impl& impl, std::string name) {
    SSL* ssl = impl.ssl.get();
    X509_VERIFY_PARAM* parameters = SSL_get0_param(ssl);
    if (const std::string address = address_bytes(name); !address.empty()) {
        const auto* const bytes = reinterpret_cast<const unsigned char*>(address.data());
        if (X509_VERIFY_PARAM_set1_ip(parameters, bytes, address.size()) != 1) throw std::bad_alloc();
    } else {
        if (name.ends_with('.')) name.pop_back();  // the root's dot is in no certificate and not allowed in SNI
        if (name.empty() && !impl.context->verify) return;
        if (!is_host_name(name)) {
            throw Error{errc::invalid_argument, phase::tls, "set up",
                        name.empty()
                            ? "a certificate can only be verified against a host name or address, and none was given"
                            : "\"" + name + "\" is no host name a certificate can be verified against"};
        }
        X509_VERIFY_PARAM_set_hostflags(parameters,
                                        X509_CHECK_FLAG_NEVER_CHECK_SUBJECT | X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
        if (X509_VERIFY_PARAM_set1_host(parameters, name.data(), name.size()) != 1 ||
            SSL_set_tlsext_host_name(ssl, name.c_str()) != 1) {
            throw std::bad_alloc();
        }
    }
    impl.server_name = std::move(name);
}

bool lists(std::string_view wire, std::string_view protocol) noexcept {
    while (!wire.empty()) {
        const auto size = static_cast<unsigned char>(wire.front());
        if (wire.substr(1, size) == protocol) return true;
        wire.remove_prefix(1U + size);
    }
    return false;
}

std::unique_ptr<Engine::Impl> make_impl(const TlsContext& context) {
    ERR_clear_error();
    auto impl = std::make_unique<Engine::Impl>();
    impl->context = context.state();
    impl->ssl.reset(SSL_new(impl->context->context.get()));
    if (!impl->ssl) throw std::bad_alloc();
    SSL* ssl = impl->ssl.get();
    if (SSL_set_app_data(ssl, impl.get()) != 1) throw std::bad_alloc();
    X509_VERIFY_PARAM_set_time(SSL_get0_param(ssl), std::chrono::system_clock::to_time_t(Clock::wall_now()));
    BioPtr bio = make_bio(impl->transport);
    SSL_set_bio(ssl, bio.get(), bio.get());  // takes the one reference for both ends
    static_cast<void>(bio.release());
    return impl;
}

}  // namespace

Engine::Impl::~Impl() {
    // OpenSSL forgets the session of a connection freed without close_notify, an SSL 3.0 rule that TLS has dropped.
    if (ssl && established && !error) SSL_set_shutdown(ssl.get(), SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN);
}

Status Engine::Impl::fail(Error what) {
    error = std::move(what);
    return Status::failed;
}

Status Engine::Impl::judge(int result, std::string_view operation) {
    switch (SSL_get_error(ssl.get(), result)) {
        case SSL_ERROR_WANT_READ:
            if (transport.hit_end) return fail(explain_failure(*this, operation));
            return Status::want_input;
        case SSL_ERROR_ZERO_RETURN:
            if (!established) {
                transport.hit_end = true;
                return fail(explain_failure(*this, operation));
            }
            ended = true;
            return Status::end_of_stream;
        default: return fail(explain_failure(*this, operation));
    }
}

Status Engine::Impl::handshake() {
    if (error) return Status::failed;
    if (established) return Status::ok;
    if (abandoned) return fail(Error{errc::closed, phase::tls, "handshake"});
    ERR_clear_error();
    const int result = SSL_do_handshake(ssl.get());
    return result == 1 ? finish_handshake() : judge(result, "handshake");
}

Status Engine::Impl::finish_handshake() {
    SSL_set_msg_callback(ssl.get(), nullptr);
    const unsigned char* protocol = nullptr;
    unsigned int size = 0;
    SSL_get0_alpn_selected(ssl.get(), &protocol, &size);
    if (!context->server && size > 0 && !lists(alpn_wire, {reinterpret_cast<const char*>(protocol), size})) {
        return fail(Error{tls_errc::application_protocol_refused, phase::tls, "handshake",
                          "the server chose an application protocol that was not offered"});
    }
    established = true;
    return Status::ok;
}

Engine::Engine(const TlsContext& context, const ClientSide& side) : impl_(make_impl(context)) {
    SSL* ssl = impl_->ssl.get();
    if (context.is_server()) {
        throw Error{errc::invalid_argument, phase::tls, "set up", "a client can not use a server's context"};
    }
    SSL_set_connect_state(ssl);
    set_server_name(*impl_, side.server_name);
    impl_->alpn_wire = side.alpn ? alpn_wire_form(*side.alpn) : impl_->context->alpn_wire;
    if (!impl_->alpn_wire.empty() &&
        SSL_set_alpn_protos(ssl, reinterpret_cast<const unsigned char*>(impl_->alpn_wire.data()),
                            static_cast<unsigned int>(impl_->alpn_wire.size())) != 0) {
        throw std::bad_alloc();
    }
    SSL_set_msg_callback(ssl, note_server_version);
    if (!impl_->context->resumption) return;
    impl_->cache_key = session_key(impl_->server_name, side.port);
    const TlsSession session = side.session ? side.session : impl_->context->sessions.take(impl_->cache_key);
    if (session && may_resume(*session.state(), *impl_->context, impl_->cache_key)) {
        SSL_set_session(ssl, session.state()->session.get());
    }
}

Engine::Engine(const TlsContext& server_context) : impl_(make_impl(server_context)) {
    if (!server_context.is_server()) {
        throw Error{errc::invalid_argument, phase::tls, "set up", "a server can not use a client's context"};
    }
    SSL_set_accept_state(impl_->ssl.get());
}

Engine::~Engine() = default;
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;

void Engine::feed(std::span<const std::byte> ciphertext) noexcept { impl_->transport.input = ciphertext; }
std::size_t Engine::unread() const noexcept { return impl_->transport.input.size(); }
void Engine::input_ended() noexcept { impl_->transport.input_ended = true; }

Status Engine::handshake() { return impl_->handshake(); }

IoResult Engine::read(std::span<std::byte> plaintext) {
    Impl& impl = *impl_;
    if (const Status status = impl.handshake(); status != Status::ok) return {status, 0};
    if (impl.ended) return {Status::end_of_stream, 0};
    if (impl.abandoned) return {impl.fail(Error{errc::closed, phase::tls, "read"}), 0};
    if (impl.transport.output.pending_bytes() > max_waiting_bytes) {
        return {impl.fail(Error{tls_errc::protocol_error, phase::tls, "read",
                                "the peer asks for more and more answers and reads none of them"}),
                0};
    }
    std::size_t total = 0;
    while (total < plaintext.size()) {
        ERR_clear_error();
        std::size_t got = 0;
        const int result = SSL_read_ex(impl.ssl.get(), plaintext.data() + total, plaintext.size() - total, &got);
        if (result != 1) {
            const Status status = impl.judge(result, "read");
            if (total == 0) return {status, 0};
            break;
        }
        total += got;
    }
    return {Status::ok, total};
}

IoResult Engine::write(std::span<const std::byte> plaintext, std::size_t soon_bytes) {
    Impl& impl = *impl_;
    if (const Status status = impl.handshake(); status != Status::ok) return {status, 0};
    if (impl.abandoned || impl.close_sent) return {impl.fail(Error{errc::closed, phase::tls, "write"}), 0};
    OutputQueue& output = impl.transport.output;
    if (output.pending_bytes() >= output_limit_bytes) return {Status::want_flush, 0};
    const std::size_t room = output_limit_bytes - output.pending_bytes();
    const std::size_t size = std::min(plaintext.size(), room);
    // One block for all of it, so that one send can take it.
    const std::size_t expected = size + std::min(soon_bytes, room - size);
    output.expect(expected + (expected / max_record_bytes + 2) * record_overhead_bytes);
    std::size_t total = 0;
    while (total < size) {
        ERR_clear_error();
        std::size_t written = 0;
        const int result = SSL_write_ex(impl.ssl.get(), plaintext.data() + total, size - total, &written);
        if (result != 1) {
            output.expect(0);
            return {impl.judge(result, "write"), total};
        }
        total += written;
    }
    output.expect(0);
    return {Status::ok, total};
}

void Engine::close_notify() {
    Impl& impl = *impl_;
    if (!impl.established || impl.error || impl.abandoned || impl.close_sent) return;
    ERR_clear_error();
    impl.close_sent = true;
    if (SSL_shutdown(impl.ssl.get()) < 0) impl.judge(-1, "close");
}

void Engine::update_keys(bool ask_peer) {
    Impl& impl = *impl_;
    if (!impl.established || impl.error || impl.abandoned || impl.close_sent) return;
    if (SSL_version(impl.ssl.get()) < TLS1_3_VERSION) return;
    ERR_clear_error();
    SSL_key_update(impl.ssl.get(), ask_peer ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED);
    if (const int result = SSL_do_handshake(impl.ssl.get()); result != 1) impl.judge(result, "change keys");
}

void Engine::abandon() noexcept {
    impl_->abandoned = true;
    impl_->transport.output.clear();
}

std::span<const std::byte> Engine::output() const noexcept { return impl_->transport.output.front(); }
void Engine::consume_output(std::size_t n) noexcept { impl_->transport.output.consume(n); }
std::size_t Engine::output_bytes() const noexcept { return impl_->transport.output.pending_bytes(); }
std::size_t Engine::output_held_bytes() const noexcept { return impl_->transport.output.held_bytes(); }

bool Engine::established() const noexcept { return impl_->established; }
bool Engine::failed() const noexcept { return impl_->error.has_value(); }
bool Engine::close_notify_sent() const noexcept { return impl_->close_sent; }
const Error& Engine::error() const noexcept { return *impl_->error; }
TlsSession Engine::session() const { return impl_->session; }

}  // namespace torc::net::tls
