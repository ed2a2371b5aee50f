#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <vector>

#include <torc/net/tls_error.hpp>
#include <torc/net/tls_selfsigned.hpp>
#include <torc/runtime.hpp>

#include "tls_policy.hpp"

// Who is accepted, who is refused, in which words; what is agreed on.

using namespace torc;
using namespace torc::net;
using namespace torc::testing;
using tls::Status;

namespace {

template <class Make>
Error error_of(Make make) {
    try {
        make();
    } catch (const Error& error) {
        return error;
    }
    FAIL("nothing was thrown");
    return Error{errc::unsupported};
}

struct TemporaryFile {
    std::filesystem::path path = std::filesystem::temp_directory_path() / "torc-tls-policy-test.pem";
    explicit TemporaryFile(const std::string& text) { std::ofstream{path, std::ios::binary} << text; }
    ~TemporaryFile() { std::filesystem::remove(path); }
};

}  // namespace

TEST_SUITE("tls certificates") {
    TEST_CASE("every kind of certificate is accepted or refused as it should be, in the right words") {
        for (const CertificateCase& one : certificate_matrix()) {
            for (const TlsVersion newest : {TlsVersion::tls1_2, TlsVersion::tls1_3}) {
                TlsClientOptions options = one.client;
                options.algorithms.max_version = newest;
                const bool about_versions = one.expected == tls_errc::protocol_version_refused;
                const bool names_alert = one.expected == tls_errc::client_certificate_required;
                if (newest == TlsVersion::tls1_2 && (about_versions || names_alert)) continue;
                CAPTURE(one.name);
                CAPTURE(to_string(newest));
                const TlsPair pair = meet(TlsContext::client(options), TlsContext::server(one.server), {one.host});
                const std::string words = words_of(pair.client);
                CAPTURE(words);
                CHECK(code_of(pair.client) == one.expected);
                for (const std::string& part : one.words) {
                    CAPTURE(part);
                    CHECK(words.find(part) != std::string::npos);
                }
                if (!one.expected) {
                    CHECK(pair.client.engine.info().verified);
                    CHECK(pair.server.engine.established());
                }
                if (is_certificate_fault(one.expected)) CHECK_FALSE(pair.server.engine.established());
            }
        }
    }

    TEST_CASE("without verification everything is accepted, and what is wrong is still told") {
        for (const CertificateCase& one : certificate_matrix()) {
            if (!is_certificate_fault(one.expected)) continue;
            CAPTURE(one.name);
            TlsClientOptions options = one.client;
            options.dangerously_skip_verification = true;
            const TlsPair pair = meet(TlsContext::client(options), TlsContext::server(one.server), {one.host});
            REQUIRE(pair.client.engine.established());
            const TlsPeerInfo info = pair.client.engine.info();
            CHECK_FALSE(info.verified);
            for (const std::string& part : one.words) CHECK(info.verification.find(part) != std::string::npos);
        }
    }

    TEST_CASE("a server from the days of TLS 1.1 is told by the version in its hello") {
        TlsEnd client{tls::Engine{TlsContext::client(world().client()), {"site.test"}}};
        client.drive();
        std::string hello("\x16\x03\x02\x00\x2a\x02\x00\x00\x26\x03\x02", 11);
        hello += std::string(32, 'r') + std::string("\x00\xc0\x13\x00", 4);
        client.accept(hello);
        CHECK(code_of(client) == tls_errc::protocol_version_refused);
        CHECK(words_of(client) == "the peer offers only TLS 1.1; this side accepts TLS 1.2 to TLS 1.3");
    }

    TEST_CASE("a server tells a client that is too old what it offered") {
        TlsServerOptions options = world().server({"site.test"});
        options.algorithms.min_version = TlsVersion::tls1_3;
        TlsClientOptions old = world().client();
        old.algorithms.max_version = TlsVersion::tls1_2;
        TlsPair pair = meet(TlsContext::client(old), TlsContext::server(options), {"site.test"});
        CHECK(words_of(pair.server) == "the peer offers only TLS 1.2; this side accepts only TLS 1.3");
        CHECK(code_of(pair.client) == tls_errc::protocol_version_refused);

        options.algorithms = {.max_version = TlsVersion::tls1_2};
        TlsClientOptions fresh = world().client();
        fresh.algorithms.min_version = TlsVersion::tls1_3;
        pair = meet(TlsContext::client(fresh), TlsContext::server(options), {"site.test"});
        CHECK(words_of(pair.server) == "the peer offers only TLS 1.3; this side accepts only TLS 1.2");
    }

    TEST_CASE("TLS 1.1 works for those who insist on it") {
        TlsServerOptions server = world().server({"site.test"});
        TlsClientOptions client = world().client();
        server.algorithms = client.algorithms = {
            .min_version = TlsVersion::tls1_1, .max_version = TlsVersion::tls1_1, .ciphers = "ALL:@SECLEVEL=0"};
        const TlsPair pair = meet(TlsContext::client(client), TlsContext::server(server), {"site.test"});
        REQUIRE(pair.client.engine.established());
        CHECK(pair.client.engine.info().version == TlsVersion::tls1_1);
    }

    TEST_CASE("a server learns who its client is, and refuses strangers in words") {
        TlsServerOptions options = world().server({"site.test"});
        options.client_certificate = TlsClientCertificate::request;
        options.client_trust.ca_pem = world().root.certificate_pem();
        for (const TlsVersion version : {TlsVersion::tls1_2, TlsVersion::tls1_3}) {
            options.algorithms.max_version = version;
            const TlsContext server = TlsContext::server(options);
            TlsClientOptions client = world().client();
            TlsPair pair = meet(TlsContext::client(client), server, {"site.test"});
            CHECK(pair.server.engine.established());  // it only asked

            client.identity = world().intermediate.issue({.common_name = "Alice", .for_client = true});
            pair = meet(TlsContext::client(client), server, {"site.test"});
            REQUIRE(pair.server.engine.established());
            const TlsPeerInfo info = pair.server.engine.info();
            REQUIRE(info.certificate);
            CHECK(info.certificate->subject == "CN=Alice");
            CHECK(info.verified);
            REQUIRE(info.chain.size() == 1);
            CHECK(info.chain[0].subject == info.certificate->issuer);

            client.identity = ThrowawayAuthority::self_signed({.common_name = "Mallory", .for_client = true});
            pair = meet(TlsContext::client(client), server, {"site.test"});
            CHECK(code_of(pair.server) == tls_errc::self_signed);
            CHECK(words_of(pair.server) ==
                  "the client certificate is self-signed (by \"Mallory\") and is not trusted here");
            CHECK(code_of(pair.client) == tls_errc::certificate_refused_by_peer);
            CHECK(words_of(pair.client).find("alert unknown_ca") != std::string::npos);
        }
        options.client_certificate = TlsClientCertificate::require;
        const TlsPair pair = meet(TlsContext::client(world().client()), TlsContext::server(options), {"site.test"});
        CHECK(code_of(pair.server) == tls_errc::client_certificate_required);
        CHECK(words_of(pair.server) == "the client gave no certificate, and one is required");
    }

    TEST_CASE("a server with several certificates shows the one for the name asked for") {
        TlsServerOptions options;
        options.identities = {
            world().intermediate.issue({.common_name = "first", .names = {"one.test"}}),
            world().intermediate.issue({.common_name = "second", .names = {"*.two.test"}, .key = TlsKeyKind::rsa_2048}),
            world().root.issue({.common_name = "third", .names = {"three.test", "192.0.2.3"}})};
        const TlsContext server = TlsContext::server(options);
        const TlsContext client = TlsContext::client(world().client());
        const auto shown_for = [&](const std::string& host) {
            const TlsPair pair = meet(client, server, {host});
            if (!pair.client.engine.established()) return words_of(pair.client);
            return pair.client.engine.info().certificate->subject;
        };
        CHECK(shown_for("one.test") == "CN=first");
        CHECK(shown_for("www.two.test") == "CN=second");
        CHECK(shown_for("three.test") == "CN=third");
        CHECK(shown_for("four.test") == "the certificate is for one.test, not for four.test");
    }
}

TEST_SUITE("tls agreement") {
    TEST_CASE("application protocols are chosen by the server's preference, or refused") {
        TlsServerOptions server_options = world().server({"site.test"});
        server_options.alpn = {"h2", "http/1.1"};
        const TlsContext server = TlsContext::server(server_options);
        TlsClientOptions options = world().client();
        options.alpn = {"http/1.1", "h2"};
        const TlsContext client = TlsContext::client(options);
        TlsPair pair = meet(client, server, {"site.test"});
        CHECK(pair.client.engine.info().alpn == "h2");

        pair = meet(client, server, {"site.test", 0, std::vector<std::string>{"http/1.1"}});
        CHECK(pair.client.engine.info().alpn == "http/1.1");

        pair = meet(client, server, {"site.test", 0, std::vector<std::string>{}});
        CHECK(pair.client.engine.info().alpn.empty());

        pair = meet(client, server, {"site.test", 0, std::vector<std::string>{"gopher"}});
        CHECK(code_of(pair.client) == tls_errc::application_protocol_refused);
        CHECK(words_of(pair.client).find("alert no_application_protocol") != std::string::npos);
        CHECK(code_of(pair.server) == tls_errc::application_protocol_refused);
    }

    TEST_CASE("sides without a common cipher part with words") {
        TlsServerOptions server = world().server({"site.test"});
        server.algorithms = {.max_version = TlsVersion::tls1_2, .ciphers = "ECDHE-ECDSA-CHACHA20-POLY1305"};
        TlsClientOptions client = world().client();
        client.algorithms.ciphers = "ECDHE-ECDSA-AES128-GCM-SHA256";
        const TlsPair pair = meet(TlsContext::client(client), TlsContext::server(server), {"site.test"});
        CHECK(code_of(pair.server) == tls_errc::nothing_in_common);
        CHECK(code_of(pair.client) == tls_errc::alert_received);
        CHECK(words_of(pair.client).find("alert handshake_failure") != std::string::npos);
    }

    TEST_CASE("a server that speaks plain HTTP is recognised") {
        TlsEnd client{tls::Engine{TlsContext::client(world().client()), {"site.test"}}};
        client.drive();
        client.accept("HTTP/1.1 400 Bad Request\r\n\r\n");
        CHECK(code_of(client) == tls_errc::not_tls);
        CHECK(words_of(client) == "the peer does not speak TLS; it begins with \"HTTP/\"");

        TlsEnd server{tls::Engine{TlsContext::server(world().server({"site.test"}))}};
        server.accept("GET / HTTP/1.1\r\n\r\n");
        CHECK(code_of(server) == tls_errc::not_tls);
        CHECK(words_of(server).find("\"GET /") != std::string::npos);
    }
}

TEST_SUITE("tls options") {
    TEST_CASE("what can not be loaded is named") {
        const Error missing = error_of([] { TlsContext::client({.trust = {.ca_file = "/nowhere/ca.pem"}}); });
        CHECK(missing.code() == std::errc::no_such_file_or_directory);
        CHECK(missing.message() == "the CA file \"/nowhere/ca.pem\" can not be read: No such file or directory");

        const Error directory = error_of([] { TlsContext::client({.trust = {.ca_directory = "/nowhere"}}); });
        CHECK(directory.message().find("\"/nowhere\"") != std::string::npos);

        const TemporaryFile empty{""};
        const Error nothing = error_of([&] { TlsContext::client({.trust = {.ca_file = empty.path.string()}}); });
        CHECK(nothing.code() == tls_errc::bad_credentials);
        CHECK(nothing.message() == "the CA file \"" + empty.path.string() + "\" holds no certificate in PEM form");

        std::string damaged = world().root.certificate_pem();
        damaged.replace(damaged.find('\n') + 1, 8, "AAAAAAAA");
        const Error broken = error_of([&] { TlsContext::client({.trust = {.ca_pem = damaged}}); });
        CHECK(broken.message().starts_with("the CA given as text holds a damaged certificate: "));
    }

    TEST_CASE("a certificate and a key that do not belong together are refused") {
        TlsServerOptions options = world().server({"site.test"});
        options.identities[0].key_pem = world().server({"site.test"}).identities[0].key_pem;
        CHECK(error_of([&] { TlsContext::server(options); }).message() ==
              "the key in the key given as text does not belong to the first certificate in the certificate given as "
              "text");
        options.identities[0].key_pem =
            "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
        CHECK(std::string(error_of([&] { TlsContext::server(options); }).message()).find("the password is missing") !=
              std::string::npos);
        CHECK(error_of([] { TlsContext::server({}); }).message() == "a server needs a certificate, and none was given");
        TlsServerOptions asking = world().server({"site.test"});
        asking.client_certificate = TlsClientCertificate::require;
        CHECK(std::string(error_of([&] { TlsContext::server(asking); }).message()).find("no authority is given") !=
              std::string::npos);
    }

    TEST_CASE("files work like text, with chain and key in one") {
        const TlsIdentity identity = world().server({"site.test"}).identities[0];
        const TemporaryFile file{identity.key_pem + identity.chain_pem};
        const TlsContext server = TlsContext::server({.identities = {{.chain_file = file.path.string()}}});
        const TlsPair pair = meet(TlsContext::client(world().client()), server, {"site.test"});
        CHECK(pair.client.engine.established());
    }

    TEST_CASE("lists that name nothing known are refused and repeated") {
        TlsClientOptions options;
        options.algorithms.ciphers = "ROT13";
        CHECK(error_of([&] { TlsContext::client(options); }).message() ==
              "the list of ciphers \"ROT13\" can not be used");
        options.algorithms = {.ciphersuites = "ROT13"};
        CHECK(error_of([&] { TlsContext::client(options); }).message() ==
              "the list of TLS 1.3 cipher suites \"ROT13\" can not be used");
        options.algorithms = {.groups = "circle"};
        CHECK(error_of([&] { TlsContext::client(options); }).code() == tls_errc::bad_option);
        options.algorithms = {.signature_algorithms = "a cross"};
        CHECK(error_of([&] { TlsContext::client(options); }).message() ==
              "the list of signature algorithms \"a cross\" can not be used");
        CHECK(error_of([&] { TlsContext::client(options); }).code() == std::errc::invalid_argument);
        options.algorithms = {.min_version = TlsVersion::tls1_3, .max_version = TlsVersion::tls1_2};
        CHECK(error_of([&] { TlsContext::client(options); }).message() ==
              "the range of versions \"TLS 1.3 to TLS 1.2\" can not be used");
        CHECK(error_of([] { TlsContext::client({.alpn = {""}}); }).code() == tls_errc::bad_option);
    }

    TEST_CASE("an authority whose name is longer than X.509 allows is refused") {
        const std::string name(65, 'x');
        const net::CertificateRequest request{.common_name = name};
        const Error error = error_of([&] { net::ThrowawayAuthority{request}; });
        CHECK(error.code() == tls_errc::bad_credentials);
        CHECK(std::string(error.message()).starts_with("\"" + name + "\" can not be a certificate's common name"));
    }

    TEST_CASE("a name that no certificate can be for is refused before anything is sent") {
        const TlsContext client = TlsContext::client(world().client());
        for (const std::string& name : {std::string{}, std::string{"a b"}, std::string{"a..b"}, std::string{"a\0b", 3},
                                        std::string(300, 'a'), std::string{"."}}) {
            CAPTURE(name);
            CHECK(error_of([&] { tls::Engine(client, {name}); }).code() == errc::invalid_argument);
        }
        const TlsContext server = TlsContext::server(world().server({"site.test"}));
        const TlsPair dotted = meet(client, server, {"site.test."});
        CHECK(dotted.client.engine.established());
        CHECK(dotted.server.engine.info().server_name == "site.test");
        CHECK(error_of([&] { tls::Engine(server, {"site.test"}); }).code() == errc::invalid_argument);
        CHECK(error_of([&] { tls::Engine{client}; }).code() == errc::invalid_argument);
    }

    TEST_CASE("an address is verified but not put into SNI") {
        const TlsContext server = TlsContext::server(world().server({"192.0.2.7"}));
        const TlsPair pair = meet(TlsContext::client(world().client()), server, {"192.0.2.7"});
        REQUIRE(pair.server.engine.established());
        CHECK(pair.server.engine.info().server_name.empty());
    }

    TEST_CASE("the system's trust store does not trust a throw-away authority") {
        const TlsContext server = TlsContext::server(world().server({"site.test"}));
        TlsPair pair = meet(TlsContext::client(), server, {"site.test"});
        CHECK(code_of(pair.client) == tls_errc::untrusted_root);
        TlsClientOptions both = world().client();
        both.trust.also_system_store = true;
        pair = meet(TlsContext::client(both), server, {"site.test"});
        CHECK(pair.client.engine.established());
    }

    TEST_CASE("alerts have their names") {
        CHECK(tls_alert_name(40) == "handshake_failure");
        CHECK(tls_alert_name(116) == "certificate_required");
        CHECK(tls_alert_name(255) == "unknown");
    }
}
