#include <doctest/doctest.h>

#include <cstring>
#include <memory>
#include <random>

#include <torc/net/tls_error.hpp>

#include "certificates.hpp"
#include "tls_pair.hpp"

// Two engines talk to each other through memory. What varies is how the ciphertext is cut, damaged and ended.

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TORC_SANITIZED
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define TORC_SANITIZED
#endif
#endif
#if defined(__GLIBC__) && !defined(TORC_SANITIZED)
#define TORC_COUNTS_MEMORY  // by the allocator's own count, which only glibc keeps and sanitizers replace
#include <malloc.h>
#endif

using namespace torc;
using namespace torc::net;
using namespace torc::testing;
using tls::Status;

namespace {

const CertificateWorld& world() {
    static const CertificateWorld made;
    return made;
}

struct Contexts {
    TlsContext client;
    TlsContext server;

    explicit Contexts(TlsVersion version, bool resumption = false)
        : client(make_client(version, resumption)), server(make_server(version)) {}

    static TlsContext make_client(TlsVersion version, bool resumption) {
        TlsClientOptions options = world().client();
        options.algorithms.max_version = version;
        options.alpn = {"http/1.1"};
        options.resumption = resumption;
        return TlsContext::client(options);
    }
    static TlsContext make_server(TlsVersion version) {
        TlsServerOptions options = world().server({"site.test"});
        options.algorithms.max_version = version;
        options.alpn = {"h2", "http/1.1"};
        return TlsContext::server(options);
    }
    TlsPair pair() const { return {client, server, {"site.test"}}; }
};

std::string pattern(std::size_t size) {
    std::string text(size, '\0');
    for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>('a' + i * 7 % 26);
    return text;
}

std::error_code code_of(const TlsEnd& end) {
    return end.engine.failed() ? end.engine.error().code() : std::error_code{};
}

}  // namespace

TEST_SUITE("tls engine") {
    TEST_CASE("two engines shake hands, talk and part in good order") {
        for (const TlsVersion version : {TlsVersion::tls1_2, TlsVersion::tls1_3}) {
            CAPTURE(to_string(version));
            const Contexts contexts{version};
            TlsPair pair = contexts.pair();
            pair.run();
            REQUIRE(pair.client.engine.established());
            REQUIRE(pair.server.engine.established());
            pair.send(pair.client, pair.server, "a question");
            pair.send(pair.server, pair.client, "an answer");
            CHECK(pair.server.received == "a question");
            CHECK(pair.client.received == "an answer");

            pair.client.engine.close_notify();
            pair.run();
            CHECK(pair.server.status == Status::end_of_stream);
            pair.send(pair.server, pair.client, ", late");  // the other direction is still open
            CHECK(pair.client.received == "an answer, late");
            pair.server.engine.close_notify();
            pair.run();
            CHECK(pair.client.status == Status::end_of_stream);
            pair.client.end_input();
            CHECK(pair.client.status == Status::end_of_stream);
        }
    }

    TEST_CASE("a person can learn what was agreed on and with whom") {
        for (const TlsVersion version : {TlsVersion::tls1_2, TlsVersion::tls1_3}) {
            const Contexts contexts{version};
            TlsPair pair = contexts.pair();
            pair.run();
            REQUIRE(pair.client.engine.established());
            const TlsPeerInfo info = pair.client.engine.info();
            CHECK(info.version == version);
            CHECK(info.alpn == "http/1.1");
            CHECK(info.server_name == "site.test");
            CHECK_FALSE(info.resumed);
            CHECK(info.verified);
            CHECK(info.verification == "verified");
            CHECK(info.cipher ==
                  (version == TlsVersion::tls1_3 ? "TLS_AES_128_GCM_SHA256" : "ECDHE-ECDSA-AES128-GCM-SHA256"));
            REQUIRE(info.chain.size() == 1);
            CHECK(info.chain[0].subject == info.certificate->issuer);
            REQUIRE(info.certificate);
            CHECK(info.certificate->subject == "CN=Test Server");
            CHECK(info.certificate->issuer == "CN=Test Intermediate");
            CHECK(info.certificate->names == std::vector<std::string>{"site.test"});
            const auto lifetime = info.certificate->not_after - info.certificate->not_before;
            CHECK(lifetime >= std::chrono::hours{25});
            CHECK(lifetime < std::chrono::hours{26});
            const auto now = CertificateRequest::now();
            CHECK(info.certificate->not_before < now);
            CHECK(info.certificate->not_after > now);

            const TlsPeerInfo other = pair.server.engine.info();
            CHECK(other.server_name == "site.test");
            CHECK(other.alpn == "http/1.1");
            CHECK_FALSE(other.certificate);
            CHECK(other.verification == "no certificate was shown");
        }
    }

    // Method: learn how many bytes pass each way, then repeat the conversation with the stream cut at each place in
    // turn, and once with every byte alone; then all of it again with sessions that are resumed.
    TEST_CASE("the ciphertext may be cut anywhere") {
        for (const auto& [version, resumption] : {std::pair{TlsVersion::tls1_2, false},
                                                  {TlsVersion::tls1_3, false},
                                                  {TlsVersion::tls1_2, true},
                                                  {TlsVersion::tls1_3, true}}) {
            CAPTURE(to_string(version));
            CAPTURE(resumption);
            const Contexts contexts{version, resumption};
            const auto converse = [&](std::function<std::size_t(const TlsEnd&, std::size_t)> piece_bytes) {
                TlsPair pair{contexts.client, contexts.server, {"site.test", 1}};
                pair.piece_bytes = std::move(piece_bytes);
                pair.run();
                pair.send(pair.client, pair.server, "ping");
                pair.send(pair.server, pair.client, "pong");
                pair.client.engine.close_notify();
                pair.server.engine.close_notify();
                pair.run();
                const bool good = pair.server.received == "ping" && pair.client.received == "pong" &&
                                  pair.server.status == Status::end_of_stream &&
                                  pair.client.status == Status::end_of_stream;
                return good ? std::max(pair.client.ciphertext_bytes, pair.server.ciphertext_bytes) : 0;
            };
            converse(nullptr);
            const std::size_t total = converse(nullptr);
            REQUIRE(total > 300);
            CHECK(converse([](const TlsEnd&, std::size_t) { return std::size_t{1}; }) > 300);
            for (std::size_t cut = 1; cut < total; ++cut) {
                CAPTURE(cut);
                REQUIRE(converse([cut](const TlsEnd&, std::size_t offset) {
                            return offset < cut ? cut - offset : std::size_t{1} << 20;
                        }) > 0);
            }
        }
    }

    // Goal: what a peer or a forger sends can break the connection, never the process, and never yields a byte that
    // was not sent. Not every change is an error: some fields are ignored by the protocol itself.
    TEST_CASE("a damaged stream yields an error in words and no false byte") {
        const std::string question = pattern(300);
        const std::string answer = pattern(500);
        for (const TlsVersion version : {TlsVersion::tls1_2, TlsVersion::tls1_3}) {
            const Contexts contexts{version};
            std::mt19937 random{20261};
            int failures = 0;
            constexpr int rounds = 1500;
            for (int round = 0; round < rounds; ++round) {
                const bool to_client = round % 2 == 0;
                const std::size_t at = random() % 2600;
                const auto change = static_cast<char>(1U << random() % 8U);
                CAPTURE(at);
                CAPTURE(to_client);
                TlsPair pair{contexts.client, contexts.server, {"site.test"}};
                pair.tamper = [&](const TlsEnd& to, std::size_t offset, std::string& piece) {
                    if ((&to == &pair.client) != to_client || at < offset || at - offset >= piece.size()) return;
                    piece[at - offset] = static_cast<char>(piece[at - offset] ^ change);
                };
                pair.run();
                pair.send(pair.client, pair.server, question);
                pair.send(pair.server, pair.client, answer);
                pair.client.end_input();
                pair.server.end_input();
                REQUIRE(question.starts_with(pair.server.received));
                REQUIRE(answer.starts_with(pair.client.received));
                REQUIRE(pair.client.engine.failed());  // at least by the missing close_notify
                REQUIRE(pair.client.engine.error().code().category() == tls_category());
                REQUIRE(pair.client.engine.error().message().size() > 10);
                if (code_of(pair.client) != tls_errc::truncated || code_of(pair.server) != tls_errc::truncated) {
                    ++failures;
                }
            }
            CHECK(failures > rounds / 3);
        }
    }

    TEST_CASE("noise in place of a peer is refused") {
        const Contexts contexts{TlsVersion::tls1_3};
        std::mt19937 random{7};
        for (int round = 0; round < 500; ++round) {
            TlsEnd client{tls::Engine{contexts.client, {"site.test"}}};
            TlsEnd server{tls::Engine{contexts.server}};
            std::string noise(200, '\0');
            for (char& c : noise) c = static_cast<char>(random());
            if (round % 2 == 0) noise.replace(0, 5, std::string("\x16\x03\x03\x00\x80", 5));
            for (TlsEnd* end : {&client, &server}) {
                end->drive();
                end->accept(noise);
                end->end_input();
                REQUIRE(end->status == Status::failed);
                REQUIRE_FALSE(end->engine.established());
            }
        }
    }

    TEST_CASE("megabytes pass both ways, and unsent output stays bounded") {
        const std::string big = pattern(3'000'000);
        for (const TlsVersion version : {TlsVersion::tls1_2, TlsVersion::tls1_3}) {
            const Contexts contexts{version};
            TlsPair pair = contexts.pair();
            pair.run();
            pair.piece_bytes = [](const TlsEnd&, std::size_t) { return std::size_t{10'007}; };
            pair.send(pair.client, pair.server, big);
            pair.send(pair.server, pair.client, big);
            CHECK(pair.server.received == big);
            CHECK(pair.client.received == big);

            const auto bytes = bytes_of(big);
            const tls::IoResult first = pair.client.engine.write(bytes);
            CHECK(first.status == Status::ok);
            CHECK(first.n == tls::Engine::output_limit_bytes);
            CHECK(pair.client.engine.write(bytes).status == Status::want_flush);
            CHECK(pair.client.engine.output_bytes() < tls::Engine::output_limit_bytes + 1024);
            CHECK(pair.client.engine.output().size() == pair.client.engine.output_bytes());  // one send can take it all
        }
    }

    TEST_CASE("output being sent does not move when the engine says more") {
        const Contexts contexts{TlsVersion::tls1_3};
        TlsPair pair = contexts.pair();
        pair.run();
        pair.client.engine.write(bytes_of("first"));
        const std::span<const std::byte> lent = pair.client.engine.output();
        const std::string before = pair.client.output();
        for (int i = 0; i < 5; ++i) pair.client.engine.write(bytes_of(pattern(9000)));
        tls::Engine moved = std::move(pair.client.engine);
        moved.close_notify();
        CHECK(moved.output().data() == lent.data());
        CHECK(std::memcmp(lent.data(), before.data(), before.size()) == 0);
    }

    TEST_CASE("keys change in mid-stream, in either direction, and nothing is lost") {
        const Contexts contexts{TlsVersion::tls1_3};
        TlsPair pair = contexts.pair();
        pair.run();
        std::string sent;
        for (int i = 0; i < 20; ++i) {
            pair.client.engine.update_keys(i % 2 == 0);
            pair.send(pair.client, pair.server, pattern(100));
            pair.server.engine.update_keys(i % 3 == 0);
            pair.send(pair.server, pair.client, pattern(100));
            sent += pattern(100);
        }
        CHECK(pair.server.received == sent);
        CHECK(pair.client.received == sent);
    }

    TEST_CASE("an idle connection holds no buffer") {
        const Contexts contexts{TlsVersion::tls1_3};
        TlsPair pair = contexts.pair();
        pair.run();
        CHECK(pair.client.engine.output_held_bytes() == 0);
        CHECK(pair.server.engine.output_held_bytes() == 0);
        const auto exchange = [&] {
            pair.send(pair.client, pair.server, pattern(50'000));
            pair.send(pair.server, pair.client, pattern(50'000));
            std::string{}.swap(pair.client.received);
            std::string{}.swap(pair.server.received);
        };
        exchange();
        CHECK(pair.client.engine.output_held_bytes() == 0);
        CHECK(pair.server.engine.output_held_bytes() == 0);
    }

#ifdef TORC_COUNTS_MEMORY
    // Two engines without buffers take some 40 KB together; with a record's buffer for each direction, over 100.
    TEST_CASE("nor does OpenSSL hold one in its name") {
        const Contexts contexts{TlsVersion::tls1_3};
        constexpr std::size_t count = 50;
        std::vector<std::unique_ptr<TlsPair>> pairs;
        const std::size_t before = mallinfo2().uordblks;
        for (std::size_t i = 0; i < count; ++i) {
            pairs.push_back(std::make_unique<TlsPair>(contexts.pair()));
            TlsPair& pair = *pairs.back();
            pair.run();
            pair.send(pair.client, pair.server, pattern(50'000));
            pair.send(pair.server, pair.client, pattern(50'000));
            std::string{}.swap(pair.client.received);
            std::string{}.swap(pair.server.received);
        }
        CHECK((mallinfo2().uordblks - before) / count < 70'000);
    }
#endif
}

TEST_SUITE("tls endings") {
    TEST_CASE("a stream that ends without close_notify is told apart from an orderly end") {
        for (const TlsVersion version : {TlsVersion::tls1_2, TlsVersion::tls1_3}) {
            const Contexts contexts{version};
            TlsPair pair = contexts.pair();
            pair.run();
            pair.send(pair.server, pair.client, "half of it");
            pair.client.end_input();
            CHECK(pair.client.received == "half of it");
            CHECK(pair.client.status == Status::failed);
            CHECK(code_of(pair.client) == tls_errc::truncated);
            CHECK(std::string(pair.client.engine.error().what()) ==
                  "tls: read: the connection ended without close_notify; data may be missing");
            pair.client.engine.close_notify();
            CHECK(pair.client.engine.output().empty());  // nothing vouches for a stream with a hole
        }
    }

    TEST_CASE("a stream cut inside a record delivers what came before, then the error") {
        const Contexts contexts{TlsVersion::tls1_3};
        TlsPair pair = contexts.pair();
        pair.run();
        pair.server.engine.write(bytes_of("whole"));
        pair.server.engine.write(bytes_of("partial"));
        const std::string ciphertext = pair.server.output();
        pair.client.accept(ciphertext.substr(0, ciphertext.size() - 3));
        CHECK(pair.client.status == Status::want_input);
        pair.client.end_input();
        CHECK(pair.client.received == "whole");
        CHECK(code_of(pair.client) == tls_errc::truncated);
    }

    TEST_CASE("a connection closed during the handshake says so") {
        const Contexts contexts{TlsVersion::tls1_3};
        TlsEnd client{tls::Engine{contexts.client, {"site.test"}}};
        client.drive();
        client.end_input();
        CHECK(code_of(client) == tls_errc::truncated);
        CHECK(client.engine.error().message() == "the peer closed the connection during the TLS handshake");
        CHECK(client.engine.error().where() == phase::tls);
        CHECK(client.engine.error().operation() == "handshake");
    }

    TEST_CASE("close_notify is said once, and only where it means something") {
        const Contexts contexts{TlsVersion::tls1_3};
        SUBCASE("not before the handshake is complete") {
            TlsEnd client{tls::Engine{contexts.client, {"site.test"}}};
            client.drive();
            const std::size_t hello = client.engine.output_bytes();
            client.engine.close_notify();
            CHECK(client.engine.output_bytes() == hello);
            CHECK_FALSE(client.engine.close_notify_sent());
        }
        SUBCASE("not after a failed handshake, of which the alert is all that leaves") {
            TlsPair pair{contexts.client, contexts.server, {"other.test"}};
            pair.client.drive();
            pair.server.accept(pair.client.output());
            pair.client.engine.consume_output(pair.client.engine.output_bytes());
            pair.client.accept(pair.server.output());
            CHECK(code_of(pair.client) == tls_errc::wrong_host);
            const std::size_t alert = pair.client.engine.output_bytes();
            CHECK(alert > 0);
            pair.client.engine.close_notify();
            CHECK(pair.client.engine.output_bytes() == alert);
        }
        SUBCASE("not twice") {
            TlsPair pair = contexts.pair();
            pair.run();
            pair.client.engine.close_notify();
            const std::size_t once = pair.client.engine.output_bytes();
            CHECK(once > 0);
            CHECK(pair.client.engine.close_notify_sent());
            pair.client.engine.close_notify();
            CHECK(pair.client.engine.output_bytes() == once);
        }
        SUBCASE("not once the transport broke") {
            TlsPair pair = contexts.pair();
            pair.run();
            pair.client.engine.write(bytes_of("half"));
            pair.client.engine.abandon();
            pair.client.engine.close_notify();
            CHECK(pair.client.engine.output().empty());
            CHECK(pair.client.engine.write(bytes_of("more")).status == Status::failed);
            CHECK(code_of(pair.client) == make_error_code(errc::closed));
        }
    }

    TEST_CASE("writing after close_notify is refused") {
        const Contexts contexts{TlsVersion::tls1_3};
        TlsPair pair = contexts.pair();
        pair.run();
        pair.client.engine.close_notify();
        CHECK(pair.client.engine.write(bytes_of("more")).status == Status::failed);
        CHECK(code_of(pair.client) == make_error_code(errc::closed));
    }

    TEST_CASE("a forged record breaks the stream with words") {
        for (const TlsVersion version : {TlsVersion::tls1_2, TlsVersion::tls1_3}) {
            const Contexts contexts{version};
            TlsPair pair = contexts.pair();
            pair.run();
            pair.server.engine.write(bytes_of("secret"));
            std::string record = pair.server.output();
            record.back() = static_cast<char>(record.back() ^ 1);
            pair.client.accept(record);
            CHECK(code_of(pair.client) == tls_errc::bad_record);
            CHECK(pair.client.engine.error().message().starts_with("a damaged TLS record arrived ("));
            CHECK(pair.client.received.empty());
            // The peer learns of it by an alert and can name it.
            pair.server.accept(pair.client.output());
            CHECK(code_of(pair.server) == tls_errc::alert_received);
            CHECK(pair.server.engine.error().message() ==
                  "the peer ended the connection with an error (alert bad_record_mac)");
        }
    }
}
