#include "certificates.hpp"

#include <utility>

// Theory of operation. Each case differs from the good one in a single thing, so that a refusal can have one reason
// only. The authorities are made once per process; making keys is the slow part.

namespace torc::testing {

using namespace net;
using std::chrono::hours;

TlsServerOptions CertificateWorld::server(std::vector<std::string> names) const {
    return {.identities = {intermediate.issue({.common_name = "Test Server", .names = std::move(names)})}};
}

TlsClientOptions CertificateWorld::client() const { return {.trust = {.ca_pem = root.certificate_pem()}}; }

namespace {

TlsServerOptions showing(TlsIdentity identity) { return {.identities = {std::move(identity)}}; }

std::vector<std::string> hundred_names() {
    std::vector<std::string> names;
    names.reserve(100);
    for (int i = 0; i < 100; ++i) names.push_back("host" + std::to_string(i) + ".many.test");
    return names;
}

}  // namespace

std::vector<CertificateCase> certificate_matrix() {
    const CertificateWorld world;
    const ThrowawayAuthority& issuer = world.intermediate;
    const TlsClientOptions client = world.client();
    const auto now = CertificateRequest::now();
    const std::string host = "site.test";
    std::vector<CertificateCase> cases;
    const auto add = [&](CertificateCase one) { cases.push_back(std::move(one)); };

    add({"a good certificate is accepted", world.server({host}), client, host, {}, {}});
    add({"an RSA certificate is accepted",
         showing(issuer.issue({.names = {host}, .key = TlsKeyKind::rsa_2048})),
         client,
         host,
         {},
         {}});
    add({"a wildcard covers one label", world.server({"*.site.test"}), client, "www.site.test", {}, {}});
    add({"a wildcard does not cover two labels",
         world.server({"*.site.test"}),
         client,
         "a.b.site.test",
         tls_errc::wrong_host,
         {"*.site.test", "not for a.b.site.test"}});
    add({"a wildcard over a whole top-level domain counts for nothing",
         world.server({"*.test"}),
         client,
         host,
         tls_errc::wrong_host,
         {"*.test", "not for site.test"}});
    add({"an expired certificate is refused with its last day",
         showing(issuer.issue({.names = {host}, .not_before = now - hours{48}, .not_after = now - hours{24}})),
         client,
         host,
         tls_errc::certificate_expired,
         {"the certificate expired on 20", "UTC"}});
    add({"a certificate of the future is refused with its first day",
         showing(issuer.issue({.names = {host}, .not_before = now + hours{24}, .not_after = now + hours{48}})),
         client,
         host,
         tls_errc::certificate_not_yet_valid,
         {"is not valid before 20"}});
    const ThrowawayAuthority stale = world.root.intermediate(
        {.common_name = "Stale Intermediate", .not_before = now - hours{48}, .not_after = now - hours{24}});
    add({"an expired intermediate is refused and named",
         showing(stale.issue({.names = {host}})),
         client,
         host,
         tls_errc::certificate_expired,
         {"\"Stale Intermediate\" expired on"}});
    add({"a certificate for another host is refused with the names it has",
         world.server({"a.test", "b.test", "c.test"}),
         client,
         host,
         tls_errc::wrong_host,
         {"the certificate is for a.test, b.test and c.test, not for site.test"}});
    add({"a host that is only the common name does not count",
         showing(issuer.issue({.common_name = host})),
         client,
         host,
         tls_errc::wrong_host,
         {"names no host", host}});
    add({"a self-signed certificate is refused",
         showing(ThrowawayAuthority::self_signed({.common_name = "Loner", .names = {host}})),
         client,
         host,
         tls_errc::self_signed,
         {"self-signed", "\"Loner\""}});
    const TlsIdentity pinned = ThrowawayAuthority::self_signed({.common_name = "Loner", .names = {host}});
    add({"a self-signed certificate that is trusted itself is accepted",
         showing(pinned),
         {.trust = {.ca_pem = pinned.chain_pem}},
         host,
         {},
         {}});

    add({"an intermediate that is trusted itself is enough",
         world.server({host}),
         {.trust = {.ca_pem = issuer.certificate_pem()}},
         host,
         {},
         {}});

    const ThrowawayAuthority stranger{{.common_name = "Strange Root"}};
    const ThrowawayAuthority below = stranger.intermediate({.common_name = "Strange Intermediate"});
    add({"a chain to an unknown root is refused and the root named",
         showing(below.issue({.names = {host}})),
         client,
         host,
         tls_errc::untrusted_root,
         {"\"Strange Intermediate\"", "\"Strange Root\" is not trusted"}});
    TlsIdentity with_root = below.issue({.names = {host}});
    with_root.chain_pem += stranger.certificate_pem();
    add({"an unknown root that was sent is refused and named",
         showing(with_root),
         client,
         host,
         tls_errc::untrusted_root,
         {"root \"Strange Root\"", "not trusted"}});
    add({"a forgotten intermediate is refused and named",
         showing(issuer.issue({.names = {host}, .with_intermediates = false})),
         client,
         host,
         tls_errc::missing_intermediate,
         {"\"Test Intermediate\"", "no intermediate"}});

    add({"an address in the certificate is accepted",
         world.server({"192.0.2.7", "2001:db8::7"}),
         client,
         "192.0.2.7",
         {},
         {}});
    add({"an IPv6 address in brackets is accepted",
         world.server({"192.0.2.7", "2001:db8::7"}),
         client,
         "[2001:db8:0::7]",
         {},
         {}});
    add({"another address is refused",
         world.server({"192.0.2.7", "2001:db8::7"}),
         client,
         "192.0.2.8",
         tls_errc::wrong_host,
         {"is for 192.0.2.7 and 2001:db8::7, not for 192.0.2.8"}});
    add({"an address is not matched by a host name that looks like it",
         world.server({"*.0.2.7"}),
         client,
         "192.0.2.7",
         tls_errc::wrong_host,
         {"not for 192.0.2.7"}});

    add({"the last of a hundred names is accepted", world.server(hundred_names()), client, "host99.many.test", {}, {}});
    add({"a name that is none of a hundred is refused without listing them all",
         world.server(hundred_names()),
         client,
         "host100.many.test",
         tls_errc::wrong_host,
         {"host0.many.test", "and 95 more, not for host100.many.test"}});

    const TlsServerOptions revoked = world.server({host});
    TlsClientOptions with_list = client;
    with_list.trust.crl_pem = issuer.revocation_list(revoked.identities);
    add({"a revoked certificate is refused",
         revoked,
         with_list,
         host,
         tls_errc::certificate_revoked,
         {"was revoked by its issuer \"Test Intermediate\""}});
    add({"a certificate that the revocation list does not name is accepted",
         world.server({host}),
         with_list,
         host,
         {},
         {}});
    add({"a certificate that no revocation list covers is refused",
         showing(world.root.issue({.names = {host}})),
         with_list,
         host,
         tls_errc::certificate_invalid,
         {"no revocation list", "\"Test Root\""}});
    add({"a client's certificate does not identify a server",
         showing(issuer.issue({.names = {host}, .for_client = true})),
         client,
         host,
         tls_errc::certificate_invalid,
         {"not issued to identify a server"}});

    TlsServerOptions old = world.server({host});
    old.algorithms = {
        .min_version = TlsVersion::tls1_0, .max_version = TlsVersion::tls1_1, .ciphers = "ALL:@SECLEVEL=0"};
    add({"a server of TLS 1.1 alone is refused",
         old,
         client,
         host,
         tls_errc::protocol_version_refused,
         {"the peer offers only versions older than TLS 1.2", "this side accepts TLS 1.2 to TLS 1.3"}});
    TlsServerOptions strict = world.server({host});
    strict.client_certificate = TlsClientCertificate::require;
    strict.client_trust.ca_pem = world.root.certificate_pem();
    add({"a server that requires a client certificate refuses a client without",
         strict,
         client,
         host,
         tls_errc::client_certificate_required,
         {"client certificate", "alert certificate_required"}});
    strict.algorithms.max_version = TlsVersion::tls1_2;
    add({"so does one of TLS 1.2",
         strict,
         client,
         host,
         tls_errc::client_certificate_required,
         {"client certificate", "alert handshake_failure"}});
    TlsClientOptions known = client;
    known.identity = issuer.issue({.common_name = "Test Client", .for_client = true});
    add({"a server that requires a client certificate accepts one", strict, known, host, {}, {}});
    return cases;
}

}  // namespace torc::testing
