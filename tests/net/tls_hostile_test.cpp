#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>

#include <memory>
#include <optional>
#include <string>

#include <torc/runtime/offload.hpp>

#include "memory_watch.hpp"
#include "tls_meeting.hpp"
#include "tls_pair.hpp"
#include "tls_programs.hpp"

// Goal: nobody can make a connection renegotiate, nor make an engine hold more and more by asking again and again for
// what has to be answered. Method: OpenSSL itself as the other side, which does what an engine never would; then its
// programs, over sockets.

using namespace torc;
using namespace torc::net;
using namespace torc::testing;
using torc::test::run_clean;

namespace {

struct Free {
    void operator()(SSL* ssl) const { SSL_free(ssl); }
    void operator()(SSL_CTX* context) const { SSL_CTX_free(context); }
    void operator()(BIO* bio) const { BIO_free(bio); }
    void operator()(X509* certificate) const { X509_free(certificate); }
    void operator()(EVP_PKEY* key) const { EVP_PKEY_free(key); }
};
template <class T>
using Owned = std::unique_ptr<T, Free>;

/// OpenSSL between two pieces of memory.
class Wild {
   public:
    Wild(bool server, int version) : context_(SSL_CTX_new(TLS_method())) {
        SSL_CTX_set_min_proto_version(context_.get(), version);
        SSL_CTX_set_max_proto_version(context_.get(), version);
        if (server) show_certificate();
        ssl_.reset(SSL_new(context_.get()));
        SSL_set_bio(ssl_.get(), BIO_new(BIO_s_mem()), BIO_new(BIO_s_mem()));
        server ? SSL_set_accept_state(ssl_.get()) : SSL_set_connect_state(ssl_.get());
    }

    [[nodiscard]] SSL* ssl() const { return ssl_.get(); }
    void take(std::string_view ciphertext) const {
        BIO_write(SSL_get_rbio(ssl_.get()), ciphertext.data(), static_cast<int>(ciphertext.size()));
    }
    /// What it has to say.
    [[nodiscard]] std::string give() const {
        std::string all(BIO_ctrl_pending(SSL_get_wbio(ssl_.get())), '\0');
        BIO_read(SSL_get_wbio(ssl_.get()), all.data(), static_cast<int>(all.size()));
        return all;
    }
    void write(std::string_view text) const {
        REQUIRE(SSL_write(ssl_.get(), text.data(), static_cast<int>(text.size())) == static_cast<int>(text.size()));
    }
    /// Asks to renegotiate; a client goes on when it is answered.
    void renegotiate() const {
        REQUIRE(SSL_renegotiate(ssl_.get()) == 1);
        SSL_do_handshake(ssl_.get());
    }
    void update_keys() const {
        SSL_key_update(ssl_.get(), SSL_KEY_UPDATE_REQUESTED);
        SSL_do_handshake(ssl_.get());
    }
    void send_ticket() const {
        SSL_new_session_ticket(ssl_.get());
        SSL_do_handshake(ssl_.get());
    }
    /// Reads nothing, and says why.
    [[nodiscard]] int read_reason() const {
        ERR_clear_error();
        char byte = 0;
        if (SSL_read(ssl_.get(), &byte, 1) > 0) FAIL("something was read");
        return ERR_GET_REASON(ERR_peek_error());
    }

   private:
    void show_certificate() const {
        const TlsIdentity identity = world().root.issue({.common_name = "Wild", .names = {"site.test"}});
        const Owned<BIO> chain{BIO_new_mem_buf(identity.chain_pem.data(), static_cast<int>(identity.chain_pem.size()))};
        const Owned<BIO> key{BIO_new_mem_buf(identity.key_pem.data(), static_cast<int>(identity.key_pem.size()))};
        const Owned<X509> certificate{PEM_read_bio_X509(chain.get(), nullptr, nullptr, nullptr)};
        const Owned<EVP_PKEY> secret{PEM_read_bio_PrivateKey(key.get(), nullptr, nullptr, nullptr)};
        REQUIRE(SSL_CTX_use_certificate(context_.get(), certificate.get()) == 1);
        REQUIRE(SSL_CTX_use_PrivateKey(context_.get(), secret.get()) == 1);
    }

    Owned<SSL_CTX> context_;
    Owned<SSL> ssl_;
};

void carry_back(TlsEnd& from, const Wild& to) {
    for (; !from.engine.output().empty(); from.engine.consume_output(from.engine.output().size())) {
        to.take(from.output());
    }
}

void shake_hands(const Wild& wild, TlsEnd& end) {
    while (!end.engine.established() || SSL_is_init_finished(wild.ssl()) == 0) {
        SSL_do_handshake(wild.ssl());
        end.accept(wild.give());
        carry_back(end, wild);
        REQUIRE(end.status == tls::Status::want_input);
    }
    wild.write("hello");
    end.accept(wild.give());
    CHECK(end.received == "hello");
    end.received.clear();
}

TlsEnd engine_for(bool server) {
    if (server) return TlsEnd{tls::Engine{TlsContext::server(world().server({"site.test"}))}};
    return TlsEnd{tls::Engine{TlsContext::client(world().client()), tls::ClientSide{"site.test"}}};
}

/// What an engine may hold for a peer that reads nothing, and what it needs for itself.
constexpr std::size_t bound_bytes = 512 * 1024;

}  // namespace

TEST_SUITE("TLS: hostile peers") {
    TEST_CASE("a peer that asks to renegotiate is refused, and what was agreed on stays") {
        for (const bool server : {true, false}) {
            CAPTURE(server);
            const Wild wild{!server, TLS1_2_VERSION};
            TlsEnd end = engine_for(server);
            shake_hands(wild, end);
            wild.renegotiate();
            end.accept(wild.give());
            CHECK(end.status == tls::Status::want_input);
            CHECK(end.received == "");
            CHECK_FALSE(end.engine.output().empty());
            // A client can say nothing more before it is answered, a server can.
            if (!server) {
                wild.write("still here");
                end.accept(wild.give());
                CHECK(end.received == "still here");
            }
            carry_back(end, wild);
            CHECK(wild.read_reason() == SSL_R_NO_RENEGOTIATION);
            end.accept(wild.give());
            CHECK(end.status == tls::Status::failed);
            CHECK(end.engine.error().code() == tls_errc::alert_received);
        }
    }

    TEST_CASE("a peer that asks again and again and reads no answer is given up") {
        struct Asking {
            std::string what;
            bool server;  ///< asks
            int version;
            void (*ask)(const Wild&);
        };
        const auto renegotiate = [](const Wild& wild) { wild.renegotiate(); };
        const auto update_keys = [](const Wild& wild) { wild.update_keys(); };
        for (const Asking& row : {Asking{"to renegotiate", true, TLS1_2_VERSION, renegotiate},
                                  Asking{"a client for new keys", true, TLS1_3_VERSION, update_keys},
                                  Asking{"a server for new keys", false, TLS1_3_VERSION, update_keys}}) {
            CAPTURE(row.what);
            const Wild wild{row.server, row.version};
            TlsEnd end = engine_for(!row.server);
            shake_hands(wild, end);
            const test::memory_watch memory;
            int asked = 0;
            for (; asked < 100'000 && end.status != tls::Status::failed; ++asked) {
                row.ask(wild);
                end.accept(wild.give());
            }
            REQUIRE(end.status == tls::Status::failed);
            CHECK(asked > 1000);
            CHECK(end.engine.error().code() == tls_errc::protocol_error);
            CHECK(end.engine.error().message() == "the peer asks for more and more answers and reads none of them");
            CHECK(memory.peak_bytes() < bound_bytes);
        }
    }

    TEST_CASE("new keys and new tickets without end cost nothing while the answers are read") {
        for (const bool server : {true, false}) {
            CAPTURE(server);
            const Wild wild{!server, TLS1_3_VERSION};
            TlsEnd end = engine_for(server);
            shake_hands(wild, end);
            const test::memory_watch memory;
            for (int i = 0; i < 5'000; ++i) {
                wild.update_keys();
                if (!server) wild.send_ticket();
                end.accept(wild.give());
                carry_back(end, wild);
                REQUIRE(end.status == tls::Status::want_input);
                CHECK(wild.read_reason() == 0);  // nothing to read, and nothing wrong
            }
            CHECK(memory.peak_bytes() < bound_bytes);
            wild.write("still here");
            end.accept(wild.give());
            CHECK(end.received == "still here");
        }
    }

    TEST_CASE("openssl s_client may ask a stream to renegotiate, and is refused") {
        if (openssl_is_missing()) return;
        const Files files;
        std::optional<Process> client;
        run_clean([&]() -> task<> {
            const Meeting meeting;
            TcpListener listener = TcpListener::bind(Address::loopback(0));
            auto serve = [&]() -> task<> {
                TlsStream stream = co_await meeting.accept(listener);
                const std::string got = co_await receive_exactly(stream, 6);
                CHECK(got == "hello\n");
                co_await stream.send("good day\n");
                const Error refused = co_await error_of(receive_all(stream));
                CHECK(refused.code() == tls_errc::alert_received);
            };
            auto visit = [&]() -> task<> {
                co_await offload([&] {
                    Process program{{"openssl", "s_client", "-connect", listener.local().to_string(), "-servername",
                                     "site.test", "-CAfile", files.root, "-tls1_2", "-quiet", "-no_ign_eof"}};
                    program.write("hello\n");
                    program.wait_for("good day");
                    program.write("R\n");
                    program.wait_for("RENEGOTIATING");
                    program.wait_for("no renegotiation");
                    CHECK(program.wait() != 0);
                });
            };
            co_await gather(serve(), visit());
        });
    }

    TEST_CASE("openssl s_server may ask a stream to renegotiate, and is refused") {
        if (openssl_is_missing()) return;
        const Files files;
        Process server{{"openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", files.certificate, "-key", files.key,
                        "-tls1_2"}};
        const std::string at = server.wait_for("ACCEPT ");
        const Address address = Address::loopback(static_cast<std::uint16_t>(std::stoi(at.substr(at.rfind(':') + 1))));
        const Meeting meeting;
        run_clean([&]() -> task<> {
            TlsStream stream = co_await meeting.connect(address);
            co_await stream.send("hello\n");
            co_await offload([&] {
                server.wait_for("hello");
                server.write("r\n");
            });
            const Error refused = co_await error_of(receive_all(stream));
            CHECK(refused.code() == tls_errc::alert_received);
            co_await offload([&] { server.wait_for("no renegotiation"); });
        });
    }
}
