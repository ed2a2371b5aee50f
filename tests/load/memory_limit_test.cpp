#include <doctest/doctest.h>

#include <algorithm>
#include <cstdio>
#include <functional>
#include <new>
#include <string>
#include <vector>

#include <certificates.hpp>
#include <forked.hpp>
#include <leak_check.hpp>
#include <torc/http/session.hpp>
#include <torc/runtime.hpp>

#include "crowd.hpp"
#include "crowd_server.hpp"
#include "failing_memory.hpp"
#include "load.hpp"
#include "site_and_visitor.hpp"

// A process that gets no more memory from its system (RLIMIT_AS), at some point of what it does: the point is the
// number of bytes it may still have, which the seed chooses. It ends with std::bad_alloc or an Error, or does without;
// it does not die. And when there is memory again it does what it could not do before, on the same executor.

using namespace torc;
using load::Chance;

namespace {

/// Calls `attempt` with its memory limited; 0 if it did without, 1 if it ended with an error for lack of memory.
int attempt_limited(std::size_t further_bytes, const std::function<void()>& attempt) {
    load::limit_address_space(further_bytes);
    int ended = 0;
    try {
        attempt();
    } catch (const std::bad_alloc&) {
        ended = 1;
    } catch (const Error&) {
        ended = 1;
    }
    load::allow_address_space();
    return ended;
}

/// How many bytes there may be beyond what there is: any number below `most_bytes`, and both ends.
std::vector<std::size_t> any_below(std::size_t most_bytes, Chance& chance) {
    std::vector<std::size_t> limits{0};
    while (limits.size() + 1 < load::sized<std::size_t>(60, 12)) {
        // The lower halves are more often where it matters.
        limits.push_back(chance.below(most_bytes >> chance.below(6)));
    }
    limits.push_back(2 * most_bytes);
    return limits;
}

/// Every page of them. The system gives memory by pages, so there is nothing in between.
std::vector<std::size_t> every_page(std::size_t most_bytes) {
    std::vector<std::size_t> limits;
    const std::size_t step = load::sized<std::size_t>(1, 8) * 4096;
    for (std::size_t bytes = 0; bytes <= most_bytes; bytes += step) limits.push_back(bytes);
    limits.push_back(2 * most_bytes);
    return limits;
}

/// Tries it with each of these limits, in children. It is known how it ends without memory, and with enough of it.
void try_limits(const std::vector<std::size_t>& limits, const std::function<int(std::size_t)>& in_child) {
    if (!load::can_limit_address_space()) {
        MESSAGE("skipped: a sanitizer needs the whole address space");
        return;
    }
    std::size_t errors = 0;
    for (const std::size_t further_bytes : limits) {
        test::Forked child{[&] { return in_child(further_bytes); }, 60};
        const int status = child.wait();
        INFO("with ", further_bytes, " bytes more: ", child.output());
        CHECK((status == 0 || status == 1));
        if (further_bytes == limits.back()) CHECK(status == 0);
        if (status == 1) ++errors;
    }
    std::printf("%zu of %zu ended with an error\n", errors, limits.size());
    CHECK(errors > 0);
}

}  // namespace

TEST_SUITE("memory limited") {
    TEST_CASE("a client reads a body that is too large for it, and goes on when there is memory again") {
        Chance chance = Chance::announced("large bodies");
        load::CrowdServer site{0, 100};
        const std::string url = "http://127.0.0.1:" + std::to_string(site.port());
        try_limits(any_below(24 << 20, chance), [&](std::size_t further_bytes) {
            Executor executor;
            int ended = 0;
            executor.run([](const std::string& where, std::size_t bytes, int& how) -> task<> {
                http::AsyncSession session{where};
                load::limit_address_space(bytes);
                try {
                    http::Response& response = co_await session.get("/pages/128");
                    const std::string text = co_await response.text();
                    if (text.size() != std::size_t{128} * 64 * 1024) throw std::runtime_error("a part is missing");
                } catch (const std::bad_alloc&) {
                    how = 1;
                } catch (const Error&) {
                    how = 1;
                }
                load::allow_address_space();
                http::Response& again = co_await session.get("/small");
                const std::string text = co_await again.text();
                if (text != load::page(false)) throw std::runtime_error("it does not go on");
            }(url, further_bytes, ended));
            const Statistics left = executor.statistics();
            if (left.in_flight + left.open_descriptors + left.buffers_lent + left.timers > 0) return 9;
            return ended;
        });
        CHECK(site.stop() == 0);
    }

    TEST_CASE("a TLS handshake, on either side") {
        const testing::CertificateWorld world;
        const net::TlsContext site = net::TlsContext::server(world.server({"localhost"}));
        http::SessionOptions options;
        options.tls = net::TlsContext::client(world.client());
        try_limits(every_page(1 << 19), [&](std::size_t further_bytes) {
            Executor executor;
            const int ended = attempt_limited(further_bytes, [&] { executor.run(load::visit_site(site, options)); });
            executor.run(load::visit_site(site, options));
            const Statistics left = executor.statistics();
            return left.in_flight + left.open_descriptors + left.buffers_lent + left.timers > 0 ? 9 : ended;
        });
    }

    TEST_CASE("an executor that is made") {
        Chance chance = Chance::announced("executors");
        try_limits(any_below(8 << 20, chance), [&](std::size_t further_bytes) {
            const test::open_files before = test::open_files::now();
            const auto make_and_run = [] {
                Executor executor;
                executor.run([]() -> task<> { co_await yield(); }());
            };
            const int ended = attempt_limited(further_bytes, make_and_run);
            make_and_run();
            return test::open_files::now().count == before.count ? ended : 9;
        });
    }

    TEST_CASE("a server under load: it may turn clients away, and serves everybody when there is memory again") {
        if (!load::can_limit_address_space()) {
            MESSAGE("skipped: a sanitizer needs the whole address space");
            return;
        }
        Chance chance = Chance::announced("a server under load");
        std::size_t turned_away = 0;
        for (int again = load::sized(12, 3); again > 0; --again) {
            load::CrowdServer site{0, 10'000};
            const std::string at_rest = site.now().held;
            const net::Address address = net::Address::loopback(site.port());
            site.limit_memory(chance.below(std::size_t{1} << 20));
            const load::CrowdReport limited = load::visit({address, 400, 20, chance.next(), 0}, [] {});
            turned_away += limited.faults;
            site.allow_memory();
            const load::CrowdReport allowed = load::visit({address, 400, 20, chance.next(), 0}, [] {});
            CHECK_MESSAGE(allowed.faults == 0, allowed.first_fault);
            CHECK(allowed.answers >= 760);
            const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{20};
            std::string held = site.now().held;
            while (held != at_rest && std::chrono::steady_clock::now() < deadline) held = site.now().held;
            CHECK(held == at_rest);
            const int status = site.stop();
            CHECK_MESSAGE(status == 0, site.output());
        }
        std::printf("%zu of the visitors were turned away\n", turned_away);
        CHECK(turned_away > 0);
    }
}
