#include "simulated.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <functional>
#include <string>
#include <vector>

#include <torc/http/session.hpp>

// Goal: connecting while the two questions of a name are answered, to the millisecond (RFC 8305, sections 3 to 5).
// Method: a site whose answers come when a test says, on a network where every way takes 10 ms: a connection is there
// after 20 ms, and so is a refusal.

using namespace torc;
using namespace torc::test;

namespace {

constexpr auto way_there_and_back = 20ms;
constexpr auto dns_time_out = 14s;
/// Operations take some nanoseconds of their own.
Clock::duration whole_milliseconds(Clock::duration time) { return std::chrono::floor<std::chrono::milliseconds>(time); }

const std::error_code silent = make_error_code(errc::resolver_failed);
const std::error_code no_such_name = make_error_code(errc::not_found);

/// When an answer comes and what it is.
struct Answer {
    Clock::duration after = 1ms;
    std::error_code failure;
};

struct Site {
    std::vector<std::string> addresses{"192.0.2.1", "2001:db8::1"};
    Answer v6;
    Answer v4;
    std::vector<std::string> dark{};  ///< of the addresses: connecting to them gets no answer
    bool listens_v4 = true;
    bool listens_v6 = true;
};

/// How connecting ended.
struct Ended {
    std::string peer;  ///< or the error
    std::vector<std::string> attached;
    Clock::duration took{};
    net::ResolverStatistics names;
};

std::vector<std::string> attached_to(const Error& error) {
    std::vector<std::string> all;
    for (const std::exception_ptr& other : error.attached()) {
        try {
            std::rethrow_exception(other);
        } catch (const Error& attached) {
            all.emplace_back(attached.what());
        }
    }
    return all;
}

task<> serve(net::Address where) {
    net::ListenOptions options;
    options.v6_only = where.is_v6();
    net::TcpListener listener = net::TcpListener::bind(where, options);
    for (;;) {
        net::TcpStream stream = co_await listener.accept();
        static_cast<void>(co_await as_result(receive_all(stream)));
    }
}

/// Runs `visit` on a host with addresses of both families, next to the site.
void beside(const Site& site, const std::function<task<>()>& visit) {
    sim::run(1, plain(), [&](sim::World& world) -> task<> {
        world.add_host("client", {"10.0.0.1", "2001:db8:c::1"});
        std::vector<std::string> there;
        for (const std::string& address : site.addresses) {
            const bool dark = std::ranges::find(site.dark, address) != site.dark.end();
            if (!dark) there.push_back(address);
        }
        world.add_host("server", there);
        if (!site.dark.empty()) {
            world.add_host("nowhere", site.dark);
            world.isolate("nowhere");
        }
        world.add_name("site", site.addresses);
        world.delay_name("site", AF_INET6, site.v6.after, site.v6.failure);
        world.delay_name("site", AF_INET, site.v4.after, site.v4.failure);
        task<> visiting = world.on("client", visit());
        std::vector<task<>> serving;
        if (site.listens_v4) serving.push_back(world.on("server", serve(net::Address::any(80))));
        if (site.listens_v6) serving.push_back(world.on("server", serve(net::Address::any_v6(80))));
        co_await with_scope([&](scope& here) -> task<> {
            for (task<>& each : serving) here.spawn(std::move(each));
            co_await std::move(visiting);
            here.cancel();
        });
    });
}

Ended connected(const Site& site, const net::ConnectOptions& options = {}) {
    Ended ended;
    beside(site, [&]() -> task<> {
        const Clock::time_point began = Clock::now();
        auto stream = co_await as_result(net::TcpStream::connect("site", 80, options));
        ended.took = whole_milliseconds(Clock::now() - began);
        if (stream) {
            ended.peer = stream->peer().ip_string();
        } else {
            ended.peer = stream.error().what();
            ended.attached = attached_to(stream.error());
        }
        ended.names = net::Resolver::of(Executor::here()).statistics();
    });
    return ended;
}

}  // namespace

TEST_SUITE("sim: names while connecting") {
    TEST_CASE("IPv6 addresses are connected to at once, and nobody waits for IPv4") {
        for (const Clock::duration v4 : {Clock::duration{5ms}, Clock::duration{dns_time_out}}) {
            const Ended ended = connected({.v6 = {5ms, {}}, .v4 = {v4, {}}});
            CHECK(ended.peer == "2001:db8::1");
            CHECK(ended.took == 5ms + way_there_and_back);
        }
        const Ended ended = connected({.v6 = {5ms, {}}, .v4 = {dns_time_out, silent}});
        CHECK(ended.peer == "2001:db8::1");
        CHECK(ended.took == 5ms + way_there_and_back);
        CHECK(ended.names.abandoned == 1);
    }

    TEST_CASE("IPv4 addresses wait for IPv6 as long as the resolution delay, not as long as name servers are silent") {
        const Site site{.v6 = {dns_time_out, silent}, .v4 = {5ms, {}}};
        Ended ended = connected(site);
        CHECK(ended.peer == "192.0.2.1");
        CHECK(ended.took == 5ms + 50ms + way_there_and_back);
        CHECK(ended.names.lookups == 2);
        CHECK(ended.names.abandoned == 1);
        net::ConnectOptions options;
        options.resolution_delay = 7ms;
        CHECK(connected(site, options).took == 5ms + 7ms + way_there_and_back);
        options.resolution_delay = {};
        CHECK(connected(site, options).took == 5ms + way_there_and_back);
    }

    TEST_CASE("IPv6 addresses that come within the resolution delay are tried first, as soon as they come") {
        Ended ended = connected({.v6 = {54ms, {}}, .v4 = {5ms, {}}});
        CHECK(ended.peer == "2001:db8::1");
        CHECK(ended.took == 54ms + way_there_and_back);
        ended = connected({.v6 = {56ms, {}}, .v4 = {5ms, {}}});
        CHECK(ended.peer == "192.0.2.1");
        CHECK(ended.took == 55ms + way_there_and_back);
    }

    TEST_CASE("an answer that says there is none ends the resolution delay") {
        Ended ended = connected({.addresses = {"192.0.2.1"}, .v6 = {20ms, {}}, .v4 = {5ms, {}}});
        CHECK(ended.peer == "192.0.2.1");
        CHECK(ended.took == 20ms + way_there_and_back);
        for (const std::error_code failure : {silent, no_such_name}) {
            ended = connected({.v6 = {20ms, failure}, .v4 = {5ms, {}}});
            CHECK(ended.peer == "192.0.2.1");
            CHECK(ended.took == 20ms + way_there_and_back);
        }
    }

    TEST_CASE("one family's failure that comes first is none while the other may have addresses") {
        for (const std::error_code failure : {silent, no_such_name}) {
            Ended ended = connected({.v6 = {1ms, failure}, .v4 = {3s, {}}});
            CHECK(ended.peer == "192.0.2.1");
            CHECK(ended.took == 3s + way_there_and_back);
            ended = connected({.v6 = {3s, {}}, .v4 = {1ms, failure}});
            CHECK(ended.peer == "2001:db8::1");
            CHECK(ended.took == 3s + way_there_and_back);
        }
    }

    TEST_CASE("addresses that come when all others have failed are tried at once") {
        const Ended ended = connected({.v6 = {5ms, {}}, .v4 = {2s, {}}, .listens_v6 = false});
        CHECK(ended.peer == "192.0.2.1");
        CHECK(ended.took == 2s + way_there_and_back);
    }

    TEST_CASE("addresses that come in the midst of an attempt are next, when its delay is over") {
        const Site site{.addresses = {"192.0.2.1", "2001:db8::1", "2001:db8::2"},
                        .v6 = {5ms, {}},
                        .v4 = {100ms, {}},
                        .dark = {"2001:db8::1", "2001:db8::2"}};
        const Ended ended = connected(site);
        CHECK(ended.peer == "192.0.2.1");
        CHECK(ended.took == 5ms + 250ms + way_there_and_back);
    }

    TEST_CASE("IPv6 addresses that come late have the next turn, before the IPv4 addresses that are left") {
        const Site site{.addresses = {"192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1"},
                        .v6 = {100ms, {}},
                        .v4 = {5ms, {}},
                        .dark = {"192.0.2.1", "192.0.2.2"}};
        const Ended ended = connected(site);
        CHECK(ended.peer == "2001:db8::1");
        CHECK(ended.took == 5ms + 50ms + 250ms + way_there_and_back);
    }

    TEST_CASE("when neither family has an address the error is the one that says more") {
        struct Case {
            Answer v6;
            Answer v4;
            std::string_view said;
        };
        for (const Case& each : {
                 Case{{1ms, silent}, {2ms, silent}, "resolve: site: the name could not be looked up"},
                 Case{{1ms, no_such_name}, {2ms, no_such_name}, "resolve: site: no such name"},
                 Case{{1ms, silent}, {2ms, no_such_name}, "resolve: site: the name could not be looked up"},
                 Case{{2ms, no_such_name}, {1ms, silent}, "resolve: site: the name could not be looked up"},
             }) {
            const Ended ended = connected({.v6 = each.v6, .v4 = each.v4});
            CHECK(ended.peer == each.said);
            CHECK(ended.took == 2ms);
        }
        CHECK(connected({.addresses = {}}).peer == "resolve: site: the name has no address");
    }

    TEST_CASE("when nothing connects the error has every attempt, and why addresses may be missing") {
        const Ended ended =
            connected({.addresses = {"192.0.2.1", "192.0.2.2"}, .v6 = {3s, silent}, .listens_v4 = false});
        CHECK(ended.peer == "connect: 192.0.2.1:80: connection refused");
        CHECK(ended.attached ==
              std::vector<std::string>{"connect: 192.0.2.2:80: connection refused",
                                       "resolve: site: IPv6 addresses: the name could not be looked up"});
        // The failure might have been made up for until it was one.
        CHECK(ended.took == 3s);
        // That there are none is nobody's failure.
        CHECK(connected({.addresses = {"192.0.2.1"}, .listens_v4 = false}).attached.empty());
    }

    TEST_CASE("a time limit says what it cut short, and what had become of the rest") {
        net::ConnectOptions options;
        options.timeout = 1s;
        Ended ended = connected(
            {.addresses = {"2001:db8::1", "192.0.2.1"}, .v4 = {100ms, {}}, .dark = {"192.0.2.1"}, .listens_v6 = false},
            options);
        CHECK(ended.peer == "connect: 192.0.2.1:80: timed out");
        CHECK(ended.attached == std::vector<std::string>{"connect: [2001:db8::1]:80: connection refused"});
        CHECK(ended.took == 1ms + 1s);
        // Where all that was left to wait for is an answer, what happened is the attempts.
        ended = connected({.v6 = {dns_time_out, silent}, .listens_v4 = false}, options);
        CHECK(ended.peer == "connect: 192.0.2.1:80: connection refused");
        CHECK(ended.attached ==
              std::vector<std::string>{"resolve: site: IPv6 addresses: the name servers have not answered yet"});
        CHECK(ended.took == 1ms + 50ms + 1s);
    }

    TEST_CASE("a host that has no way for a family begins with the other") {
        sim::run(1, plain(), [](sim::World& world) -> task<> {
            world.add_host("old", {"10.0.0.1"});
            world.add_name("site", {"2001:db8::1", "192.0.2.1"});
            auto look_up = []() -> task<std::string> {
                net::Resolution names = net::Resolver::of(Executor::here()).look_up("site", 80);
                co_await names.complete();
                co_return names.addresses().front().ip_string();
            };
            task<std::string> looking = world.on("old", look_up());
            CHECK(co_await std::move(looking) == "192.0.2.1");
        });
    }

    TEST_CASE("the preferred family is the one that is waited for, and an only one waits for nobody") {
        const auto first = [](net::family_preference preference, const Site& site) {
            std::pair<std::string, Clock::duration> seen;
            beside(site, [&]() -> task<> {
                const Clock::time_point began = Clock::now();
                net::Resolution names = net::Resolver::of(Executor::here()).look_up("site", 80, preference);
                co_await names.usable();
                seen = {names.addresses().front().ip_string(), Clock::now() - began};
            });
            return seen;
        };
        const Site v6_is_late{.v6 = {3s, {}}, .v4 = {5ms, {}}};
        const Site v4_is_late{.v6 = {5ms, {}}, .v4 = {3s, {}}};
        using Seen = std::pair<std::string, Clock::duration>;
        CHECK(first(net::family_preference::v4_first, v4_is_late) == Seen{"2001:db8::1", 55ms});
        CHECK(first(net::family_preference::v4_first, v6_is_late) == Seen{"192.0.2.1", 5ms});
        CHECK(first(net::family_preference::v6_first, v6_is_late) == Seen{"192.0.2.1", 55ms});
        CHECK(first(net::family_preference::v4_only, v6_is_late) == Seen{"192.0.2.1", 5ms});
        CHECK(first(net::family_preference::v6_only, v6_is_late) == Seen{"2001:db8::1", 3s});
    }

    TEST_CASE("a look-up of all addresses waits for both answers") {
        beside({.v6 = {3s, {}}, .v4 = {5ms, {}}}, []() -> task<> {
            const Clock::time_point began = Clock::now();
            auto found = co_await net::Resolver::of(Executor::here()).resolve("site", 80);
            CHECK(Clock::now() - began == 3s);
            CHECK(found.size() == 2);
        });
    }

    TEST_CASE("answers of a family may be delayed or made to fail only for names and families there are") {
        sim::run(1, plain(), [](sim::World& world) -> task<> {
            CHECK_THROWS_AS(world.delay_name("nobody", AF_INET, 1s), Error);
            CHECK_THROWS_AS(world.delay_name("local", AF_UNIX, 1s), Error);
            co_return;
        });
    }
}

TEST_SUITE("sim: names while a session opens") {
    /// What a session that asks the site for a page ends with.
    struct Visit {
        std::string end;  ///< "200", or the error
        Clock::duration resolve{};
        Clock::duration connect{};
        std::string peer;
    };

    Visit visit(const Site& site, const http::SessionOptions& options) {
        Visit seen;
        beside(site, [&]() -> task<> {
            http::AsyncSession session{"http://site/", options};
            const auto answer = co_await as_result(session.get());
            seen.end = answer ? std::to_string(answer->get().status()) : answer.error().what();
            seen.resolve = whole_milliseconds(session.timings().resolve);
            seen.connect = whole_milliseconds(session.timings().connect);
            seen.peer = session.peer().ip_string();
        });
        return seen;
    }

    /// Nobody answers at the site: what counts is how far a session comes.
    http::SessionOptions impatient() {
        http::SessionOptions options;
        options.timeouts.head = 100ms;
        return options;
    }

    TEST_CASE("the resolve phase lasts until there are addresses to begin with") {
        const Visit seen = visit({.v6 = {dns_time_out, silent}, .v4 = {5ms, {}}}, impatient());
        CHECK(seen.end == "head: 192.0.2.1:80: timed out after 0.1 s");
        CHECK(seen.resolve == 55ms);
        CHECK(seen.connect == way_there_and_back);
        CHECK(seen.peer == "192.0.2.1");
    }

    TEST_CASE("what is looked up later is the connect phase's") {
        const Visit seen = visit({.v6 = {5ms, {}}, .v4 = {2s, {}}, .listens_v6 = false}, impatient());
        CHECK(seen.end == "head: 192.0.2.1:80: timed out after 0.1 s");
        CHECK(seen.resolve == 5ms);
        CHECK(seen.connect == 2s - 5ms + way_there_and_back);
    }

    TEST_CASE("a limit of the resolve phase is one of waiting for addresses, and takes those there are") {
        http::SessionOptions options = impatient();
        options.timeouts.resolve = 20ms;
        Visit seen = visit({.v6 = {3s, {}}, .v4 = {2s, {}}}, options);
        CHECK(seen.end == "resolve: timed out after 0.02 s");
        seen = visit({.v6 = {3s, {}}, .v4 = {5ms, {}}}, options);
        CHECK(seen.end == "head: 192.0.2.1:80: timed out after 0.1 s");
        CHECK(seen.resolve == 20ms);
    }

    TEST_CASE("a limit of the connect phase has the attempts attached") {
        http::SessionOptions options = impatient();
        options.timeouts.connect = 1s;
        beside({.v4 = {100ms, {}}, .dark = {"192.0.2.1"}, .listens_v6 = false}, [&]() -> task<> {
            http::AsyncSession session{"http://site/", options};
            const auto answer = co_await as_result(session.get());
            REQUIRE_FALSE(answer);
            CHECK(std::string_view{answer.error().what()} == "connect: 192.0.2.1:80: timed out after 1 s");
            CHECK(attached_to(answer.error()) ==
                  std::vector<std::string>{"connect: [2001:db8::1]:80: connection refused"});
            CHECK(session.timings().resolve == 1ms);
        });
    }
}
