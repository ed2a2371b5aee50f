#include <doctest/doctest.h>

#include <atomic>
#include <certificates.hpp>
#include <utility>

#include <torc/http.hpp>
#include <torc/net.hpp>
#include <torc/runtime.hpp>

#include "../load/site_and_visitor.hpp"

// Goal: what may be used from several threads is. Method: a site and its visitor on each of several cores at once, with
// one TLS context for all the sites and one for all the visitors.

using namespace torc;

TEST_SUITE("http on several cores") {
    TEST_CASE("sites and visitors on every core share their TLS contexts") {
        const testing::CertificateWorld world;
        const net::TlsContext sites = net::TlsContext::server(world.server({"localhost"}));
        const net::TlsContext visitors = net::TlsContext::client(world.client());
        std::atomic<int> visits = 0;
        const int status = run_on_cores(3, [&](unsigned) -> task<> {
            return [](const net::TlsContext& site, const net::TlsContext& visitor, std::atomic<int>& made) -> task<> {
                for (int round = 0; round < 5; ++round) {
                    http::SessionOptions options;
                    options.tls = visitor;
                    co_await load::visit_site(site, std::move(options));
                    ++made;
                }
                const Statistics left = Executor::here().statistics();
                CHECK(left.in_flight == 0);
                CHECK(left.open_descriptors == 0);
                CHECK(left.buffers_lent == 0);
            }(sites, visitors, visits);
        });
        CHECK(status == 0);
        CHECK(visits == 15);
    }
}
