#include <doctest/doctest.h>

#include <atomic>
#include <memory>
#include <thread>
#include <vector>

#include <torc/net/tls_selfsigned.hpp>
#include <torc/runtime.hpp>
#include <torc/runtime/sim.hpp>

#include "tls_policy.hpp"

// Sessions that are resumed: by whom, how many are remembered, for how long, and what they carry.

using namespace torc;
using namespace torc::net;
using namespace torc::testing;
using tls::Status;

namespace {

/// Of so many connections that begin before any of them goes on: how many resumed a session.
int resumed_of(int count, const TlsContext& client, const TlsContext& server, const tls::ClientSide& side) {
    std::vector<std::unique_ptr<TlsPair>> pairs;
    for (int i = 0; i < count; ++i) pairs.push_back(std::make_unique<TlsPair>(client, server, side));
    int resumed = 0;
    for (const auto& pair : pairs) {
        pair->run();
        CHECK(pair->client.engine.established());
        if (pair->client.engine.established() && pair->client.engine.info().resumed) ++resumed;
    }
    return resumed;
}

}  // namespace

TEST_SUITE("tls sessions") {
    TEST_CASE("a session is resumed, whether handed over or remembered by the context") {
        for (const TlsVersion version : {TlsVersion::tls1_2, TlsVersion::tls1_3}) {
            CAPTURE(to_string(version));
            TlsServerOptions server_options = world().server({"site.test"});
            server_options.algorithms.max_version = version;
            const TlsContext server = TlsContext::server(server_options);
            const TlsContext client = TlsContext::client(world().client());
            TlsSession session;
            {
                const TlsPair first = meet(client, server, {"site.test", 443});
                REQUIRE(first.client.engine.established());
                CHECK_FALSE(first.client.engine.info().resumed);
                session = first.client.engine.session();
                CHECK(session);
            }  // gone without close_notify, which TLS allows
            const TlsPair handed = meet(client, server, {"site.test", 443, {}, session});
            CHECK(handed.client.engine.info().resumed);
            CHECK(handed.server.engine.info().resumed);
            const TlsPeerInfo info = handed.client.engine.info();
            CHECK(info.verified);
            REQUIRE(info.certificate);
            CHECK(info.certificate->subject == "CN=Test Server");

            const TlsPair remembered = meet(client, server, {"site.test", 443});
            CHECK(remembered.client.engine.info().resumed);
            const TlsPair elsewhere = meet(client, server, {"site.test", 444});
            CHECK_FALSE(elsewhere.client.engine.info().resumed);
        }
    }

    // A session of TLS 1.3 is good for one connection, and is taken when the connection begins.
    TEST_CASE("connections that begin at once each resume a session of their own") {
        const TlsContext server = TlsContext::server(world().server({"site.test"}));
        const TlsContext client = TlsContext::client(world().client());
        CHECK(resumed_of(32, client, server, {"site.test", 443}) == 0);
        for (int round = 0; round < 3; ++round) CHECK(resumed_of(32, client, server, {"site.test", 443}) == 32);
    }

    TEST_CASE("a context remembers no more than 128 sessions of one server") {
        const TlsContext server = TlsContext::server(world().server({"site.test"}));
        const TlsContext client = TlsContext::client(world().client());
        resumed_of(150, client, server, {"site.test", 443});  // two tickets each
        CHECK(resumed_of(150, client, server, {"site.test", 443}) == 128);
    }

    TEST_CASE("and no more than 1024 in all, those of the servers that were used last") {
        const TlsContext server = TlsContext::server(world().server({"site.test"}));
        const TlsContext client = TlsContext::client(world().client());
        constexpr std::uint16_t servers = 600;
        for (std::uint16_t port = 1; port <= servers; ++port) meet(client, server, {"site.test", port});
        // Looking does not change which is the oldest: each that is asked brings back as many sessions as it takes.
        for (std::uint16_t port = servers; port > servers - 512; --port) {
            CAPTURE(port);
            REQUIRE(meet(client, server, {"site.test", port}).client.engine.info().resumed);
        }
        CHECK_FALSE(meet(client, server, {"site.test", servers - 512}).client.engine.info().resumed);
        CHECK_FALSE(meet(client, server, {"site.test", 1}).client.engine.info().resumed);
    }

    TEST_CASE("a session is forgotten when the server's word for it is over") {
        sim::run(1, {}, []() -> task<> {
            const ThrowawayAuthority authority;
            CertificateRequest request;
            request.names = {"site.test"};
            TlsServerOptions server_options;
            server_options.identities = {authority.issue(request)};
            TlsClientOptions client_options;
            client_options.trust.ca_pem = authority.certificate_pem();
            const TlsContext server = TlsContext::server(server_options);
            const TlsContext client = TlsContext::client(client_options);
            meet(client, server, {"site.test"});
            const TlsSession session = meet(client, server, {"site.test"}).client.engine.session();
            co_await sleep_for(std::chrono::hours{1});
            CHECK(meet(client, server, {"site.test"}).client.engine.info().resumed);
            co_await sleep_for(std::chrono::hours{2});  // OpenSSL's servers promise two
            CHECK_FALSE(meet(client, server, {"site.test", 0, {}, session}).client.engine.info().resumed);
            CHECK_FALSE(meet(client, server, {"site.test", 1}).client.engine.info().resumed);
            const TlsPair fresh = meet(client, server, {"site.test"});
            CHECK(fresh.client.engine.established());
        });
    }

    TEST_CASE("a session of TLS 1.2 serves any number of connections") {
        TlsServerOptions options = world().server({"site.test"});
        options.algorithms.max_version = TlsVersion::tls1_2;
        const TlsContext server = TlsContext::server(options);
        const TlsContext client = TlsContext::client(world().client());
        meet(client, server, {"site.test", 443});
        CHECK(resumed_of(32, client, server, {"site.test", 443}) == 32);
    }

    TEST_CASE("a session carries no trust to another name or another context") {
        const TlsContext server = TlsContext::server(world().server({"site.test", "www.site.test"}));
        TlsClientOptions careless = world().client();
        careless.dangerously_skip_verification = true;
        const TlsContext client = TlsContext::client(world().client());
        const TlsSession session = meet(client, server, {"site.test"}).client.engine.session();
        REQUIRE(session);
        const TlsPair other_name = meet(client, server, {"www.site.test", 0, {}, session});
        CHECK(other_name.client.engine.established());
        CHECK_FALSE(other_name.client.engine.info().resumed);

        const TlsSession unverified =
            meet(TlsContext::client(careless), server, {"wrong.test"}).client.engine.session();
        REQUIRE(unverified);
        const TlsPair refused = meet(client, server, {"wrong.test", 0, {}, unverified});
        CHECK(code_of(refused.client) == tls_errc::wrong_host);
    }

    TEST_CASE("threads may share a context and the sessions it remembers") {
        const TlsContext server = TlsContext::server(world().server({"site.test"}));
        const TlsContext client = TlsContext::client(world().client());
        std::atomic<int> resumed{0};
        const auto connect_often = [&] {
            for (int i = 0; i < 50; ++i) {
                const TlsPair pair = meet(client, server, {"site.test"});
                if (pair.client.engine.established() && pair.client.engine.info().resumed) ++resumed;
            }
        };
        std::thread one{connect_often};
        std::thread two{connect_often};
        one.join();
        two.join();
        CHECK(resumed >= 90);
    }

    TEST_CASE("nothing is resumed where either side does not want it") {
        for (const TlsVersion version : {TlsVersion::tls1_2, TlsVersion::tls1_3}) {
            TlsServerOptions server_options = world().server({"site.test"});
            server_options.algorithms.max_version = version;
            const TlsContext willing = TlsContext::server(server_options);
            server_options.tickets = false;
            const TlsContext unwilling = TlsContext::server(server_options);
            TlsClientOptions forgetful_options = world().client();
            forgetful_options.resumption = false;
            const TlsContext forgetful = TlsContext::client(forgetful_options);
            const TlsContext client = TlsContext::client(world().client());
            for (int i = 0; i < 2; ++i) {
                const TlsPair one = meet(client, unwilling, {"site.test"});
                CHECK_FALSE(one.client.engine.info().resumed);
                const TlsPair two = meet(forgetful, willing, {"site.test"});
                CHECK_FALSE(two.client.engine.info().resumed);
                CHECK_FALSE(two.client.engine.session());
            }
        }
    }
}
