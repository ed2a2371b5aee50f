// The resolver and what name servers say. Where a test needs something to have happened it waits for the server to have
// been asked; only the tests of silence wait for time to pass.

#include "resolving.hpp"

#include <torc/runtime/gather.hpp>
#include <torc/runtime/gather_settled.hpp>
#include <torc/runtime/offload.hpp>
#include <torc/runtime/race.hpp>
#include <torc/runtime/time.hpp>

#include "../../net/resolver_cache.hpp"

using namespace torc::test;
using torc::task;

namespace {

task<> asked(DnsServer& server, std::string name, std::size_t count) {
    // Captures that are trivial to copy: GCC 12 destroys others twice in a co_await.
    const auto wait = [&server, &name, count] { server.wait_for_questions(name, count); };
    co_await torc::offload(wait);
}

/// Lets both ends close the connections of this executor's resolver, which are descriptors of this process too.
task<> disconnected(DnsServer& server) {
    while (torc::Executor::here().statistics().open_closes > 0) co_await torc::yield();
    const auto wait = [&server] { server.wait_until_disconnected(); };
    co_await torc::offload(wait);
}

}  // namespace

TEST_CASE("a name becomes its addresses of both families, with the port that was asked for") {
    DnsServer server;
    server.set("both.test", {.a = {"127.0.0.1"}, .aaaa = {"::1"}});
    const std::string said = look_up_once(asking(server), "both.test", 443);
    CHECK(said.find("127.0.0.1:443") != said.npos);
    CHECK(said.find("[::1]:443") != said.npos);
}

TEST_CASE("a name with addresses of one family has those") {
    DnsServer server;
    server.set("four.test", {.a = {"127.0.0.1"}});
    server.set("six.test", {.aaaa = {"::1"}});
    CHECK(look_up_once(asking(server), "four.test") == "127.0.0.1:80");
    CHECK(look_up_once(asking(server), "six.test") == "[::1]:80");
    CHECK(look_up_once(asking(server), "FOUR.Test") == "127.0.0.1:80");
    CHECK(look_up_once(asking(server), "four.test.") == "127.0.0.1:80");
}

TEST_CASE("a family can be preferred or insisted on") {
    DnsServer server;
    server.set("both.test", {.a = {"127.0.0.1"}, .aaaa = {"::1"}});
    server.set("four.test", {.a = {"127.0.0.1"}});
    server.set("six.test", {.aaaa = {"::1"}});
    const ResolverOptions options = asking(server);
    CHECK(look_up_once(options, "both.test", 1, family_preference::v4_first) == "127.0.0.1:1 [::1]:1");
    CHECK(look_up_once(options, "both.test", 1, family_preference::v6_first) == "[::1]:1 127.0.0.1:1");
    CHECK(look_up_once(options, "both.test", 1, family_preference::v4_only) == "127.0.0.1:1");
    CHECK(look_up_once(options, "both.test", 1, family_preference::v6_only) == "[::1]:1");
    CHECK(look_up_once(options, "four.test", 1, family_preference::v6_first) == "127.0.0.1:1");
    CHECK(look_up_once(options, "four.test", 1, family_preference::v6_only) ==
          "resolve: four.test: the name has no IPv6 address");
    CHECK(look_up_once(options, "six.test", 1, family_preference::v4_only) ==
          "resolve: six.test: the name has no IPv4 address");
}

TEST_CASE("an alias leads to the addresses of the name behind it") {
    DnsServer server;
    server.set("alias.test", {.cname = "middle.test"});
    server.set("middle.test", {.cname = "end.test"});
    server.set("end.test", {.a = {"127.0.0.9"}});
    CHECK(look_up_once(asking(server), "alias.test") == "127.0.0.9:80");
}

TEST_CASE("a name that does not exist, and one without addresses, are told apart") {
    DnsServer server;
    server.set("empty.test", {});
    CHECK(look_up_once(asking(server), "nosuch.test") == "resolve: nosuch.test: no such name");
    CHECK(look_up_once(asking(server), "empty.test") == "resolve: empty.test: the name has no address");
}

TEST_CASE("that a name does not exist is remembered, that a server failed is not") {
    DnsServer server;
    server.set("broken.test", {.rcode = 2});
    ResolverOptions options = asking(server);
    options.tries = 1;
    with_resolver(options, [&]() -> task<> {
        for (int round = 0; round < 2; ++round) {
            auto nothing = co_await torc::as_result(resolver().resolve("nosuch.test", 80));
            REQUIRE_FALSE(nothing.has_value());
            CHECK(nothing.error().code() == torc::errc::not_found);
            CHECK(nothing.error().peer() == "nosuch.test");
            auto failed = co_await torc::as_result(resolver().resolve("broken.test", 80));
            REQUIRE_FALSE(failed.has_value());
            CHECK(failed.error().code() == torc::errc::resolver_failed);
        }
        CHECK(resolver().statistics().cache_hits == 2);
        CHECK(resolver().statistics().lookups == 6);
    });
    CHECK(server.questions("nosuch.test") == 2);
}

TEST_CASE("what a name server answers instead of an address is said in words") {
    DnsServer server;
    server.set("unclear.test", {.rcode = 1});
    server.set("broken.test", {.rcode = 2});
    server.set("unable.test", {.rcode = 4});
    server.set("refused.test", {.rcode = 5});
    ResolverOptions options = asking(server);
    options.tries = 1;
    CHECK(look_up_once(options, "unclear.test") ==
          "resolve: unclear.test: the name servers did not understand the question");
    CHECK(look_up_once(options, "unable.test") ==
          "resolve: unable.test: the name servers do not answer such questions");
    CHECK(look_up_once(options, "broken.test") ==
          "resolve: broken.test: the name servers could not find out (they answered SERVFAIL)");
    CHECK(look_up_once(options, "refused.test") == "resolve: refused.test: the name servers refused to answer");
}

TEST_CASE("name servers that say nothing are given up after the tries") {
    DnsServer server;
    server.set("silent.test", {.silent = true});
    ResolverOptions options = asking(server);
    options.timeout = 10ms;
    options.tries = 2;
    CHECK(look_up_once(options, "silent.test", 80, family_preference::v4_only) ==
          "resolve: silent.test: the name servers did not answer");
    server.wait_for_questions("silent.test", 2);
    CHECK(server.questions("silent.test") == 2);
}

TEST_CASE("when one name server says nothing the next one is asked") {
    DnsServer silent;
    DnsServer server;
    silent.set("four.test", {.silent = true});
    server.set("four.test", {.a = {"127.0.0.1"}});
    ResolverOptions options = asking(server);
    options.servers = {silent.address(), server.address()};
    options.timeout = 10ms;
    options.tries = 10;  // each twice as long as the one before: enough for a slow machine
    CHECK(look_up_once(options, "four.test") == "127.0.0.1:80");
}

TEST_CASE("a family that has addresses is the answer, whatever becomes of the other") {
    DnsServer server;
    server.set("four.test", {.a = {"127.0.0.1"}, .rcode = 2, .only = DnsRecords::type_aaaa});
    server.set("six.test", {.aaaa = {"::1"}, .rcode = 2, .only = DnsRecords::type_a});
    server.set("silent.test", {.a = {"127.0.0.1"}, .silent = true, .only = DnsRecords::type_aaaa});
    server.set("absent.test", {.rcode = 2, .only = DnsRecords::type_aaaa});
    ResolverOptions options = asking(server);
    options.tries = 1;
    CHECK(look_up_once(options, "four.test") == "127.0.0.1:80");
    CHECK(look_up_once(options, "six.test") == "[::1]:80");
    // That there is none of one family does not say that there is none at all.
    CHECK(look_up_once(options, "absent.test") ==
          "resolve: absent.test: the name servers could not find out (they answered SERVFAIL)");
    options.timeout = 10ms;
    CHECK(look_up_once(options, "silent.test") == "127.0.0.1:80");
}

TEST_CASE("each family is remembered by itself") {
    DnsServer server;
    server.set("four.test", {.a = {"127.0.0.1"}, .rcode = 2, .only = DnsRecords::type_aaaa});
    server.set("both.test", {.a = {"127.0.0.1"}, .aaaa = {"::1"}});
    ResolverOptions options = asking(server);
    options.tries = 1;
    with_resolver(options, [&]() -> task<> {
        co_await expect("127.0.0.1:80", "both.test", 80, family_preference::v4_only);
        co_await expect("127.0.0.1:80 [::1]:80", "both.test", 80, family_preference::v4_first);
        co_await expect("[::1]:80", "both.test", 80, family_preference::v6_only);
        CHECK(resolver().statistics().lookups == 2);
        CHECK(resolver().statistics().cache_hits == 2);
        // A failure is not remembered, so it is asked again; the other answer is there already.
        for (int round = 0; round < 2; ++round) co_await expect("127.0.0.1:80", "four.test");
        CHECK(resolver().statistics().lookups == 5);
        CHECK(resolver().statistics().cache_hits == 3);
    });
    CHECK(server.questions("both.test") == 2);
    CHECK(server.questions("four.test") == 3);
}

TEST_CASE("a resolution has addresses when one answer has come, and all when it is complete") {
    DnsServer server;
    server.set("six.test", {.a = {"127.0.0.1"}, .aaaa = {"::1"}, .held = true, .only = DnsRecords::type_a});
    with_resolver(asking(server), [&]() -> task<> {
        torc::net::Resolution names = resolver().look_up("six.test", 80);
        CHECK(server.questions("six.test") == 0);
        co_await names.usable();
        CHECK(written({names.addresses().begin(), names.addresses().end()}) == "[::1]:80");
        CHECK_FALSE(names.settled());
        REQUIRE(names.missing().size() == 1);
        CHECK(std::string{names.missing().front().what()} ==
              "resolve: six.test: IPv4 addresses: the name servers have not answered yet");
        CHECK(names.next()->to_string() == "[::1]:80");
        CHECK_FALSE(names.next());
        server.release("six.test");
        co_await names.more();
        CHECK(names.settled());
        CHECK(names.missing().empty());
        CHECK(names.next()->to_string() == "127.0.0.1:80");
    });
}

TEST_CASE("a question that only one of two still waits for goes on for that one") {
    DnsServer server;
    server.set("six.test", {.a = {"127.0.0.1"}, .aaaa = {"::1"}, .held = true, .only = DnsRecords::type_a});
    with_resolver(asking(server), [&]() -> task<> {
        torc::net::Resolution stays = resolver().look_up("six.test", 80);
        co_await stays.usable();
        {
            torc::net::Resolution leaves = resolver().look_up("six.test", 443);
            co_await leaves.usable();
            CHECK(leaves.next()->to_string() == "[::1]:443");
        }
        CHECK(resolver().statistics().abandoned == 0);
        server.release("six.test");
        co_await stays.complete();
        CHECK(stays.addresses().size() == 2);
    });
}

TEST_CASE("a name server that is not there is said to be unreachable") {
    ResolverOptions options;
    {
        const DnsServer gone;
        options = asking(gone);
    }
    options.tries = 1;
    options.concurrent_lookups = 1;
    with_resolver(options, []() -> task<> {
        std::vector<task<std::string>> all;
        for (int index = 0; index < 500; ++index) all.push_back(look_up("n" + std::to_string(index) + ".test"));
        const std::vector<std::string> said = co_await torc::gather(std::move(all));
        CHECK(said.front() == "resolve: n0.test: no name server could be reached");
        CHECK(said.back() == "resolve: n499.test: no name server could be reached");
    });
}

TEST_CASE("an answer that is too long for a datagram is fetched over TCP") {
    DnsServer server;
    torc::test::DnsRecords records{.truncated = true};
    for (int index = 1; index <= 200; ++index) records.a.push_back("127.0.1." + std::to_string(index));
    server.set("long.test", records);
    with_resolver(asking(server), [&]() -> task<> {
        const Addresses found = co_await resolver().resolve("long.test", 80);
        CHECK(found.size() == 200);
        co_await disconnected(server);
    });
    CHECK(server.questions_over_tcp("long.test") == 2);
}

TEST_CASE("a connection to a name server that is cancelled leaves nothing") {
    DnsServer server;
    server.set("long.test", {.a = {"127.0.0.1"}, .truncated = true});
    server.set("held.test", {.held = true});
    with_resolver(asking(server), [&]() -> task<> {
        for (int round = 0; round < 50; ++round) {
            // The race is open: it may end before or after the answer, in every state of the connection.
            auto first = co_await torc::race(look_up("long.test"), asked(server, "long.test", 1));
            CHECK(first.index() <= 1);
            resolver().clear_cache();
        }
        co_await disconnected(server);
    });
}

TEST_CASE("bytes that are no answer do not pass for one") {
    DnsServer server;
    server.set("garbage.test", {.garbage = true});
    server.set("forged.test", {.a = {"127.0.0.1"}, .aaaa = {"::1"}, .wrong_question = true});
    ResolverOptions options = asking(server);
    CHECK(look_up_once(options, "forged.test", 80, family_preference::v4_first) == "127.0.0.1:80 [::1]:80");
    options.timeout = 10ms;
    options.tries = 1;
    const std::string said = look_up_once(options, "garbage.test");
    CHECK(said.starts_with("resolve: garbage.test: the name servers"));
}

TEST_CASE("a name is asked for once and then remembered, for every port and order") {
    DnsServer server;
    server.set("both.test", {.a = {"127.0.0.1"}, .aaaa = {"::1"}});
    with_resolver(asking(server), []() -> task<> {
        co_await expect("127.0.0.1:80 [::1]:80", "both.test", 80, family_preference::v4_first);
        co_await expect("[::1]:443 127.0.0.1:443", "BOTH.test", 443, family_preference::v6_first);
        CHECK(resolver().statistics().lookups == 2);
        CHECK(resolver().statistics().cache_hits == 2);
        resolver().clear_cache();
        co_await expect("127.0.0.1:80 [::1]:80", "both.test", 80, family_preference::v4_first);
        CHECK(resolver().statistics().lookups == 4);
    });
    CHECK(server.questions("both.test") == 4);
}

TEST_CASE("an answer that may not be kept is asked for again") {
    DnsServer server;
    server.set("now.test", {.a = {"127.0.0.1"}, .ttl = 0});
    server.set("alias.test", {.cname = "end.test", .cname_ttl = 0});
    server.set("end.test", {.a = {"127.0.0.1"}, .ttl = 60});
    with_resolver(asking(server), []() -> task<> {
        for (int round = 0; round < 2; ++round) {
            co_await expect("127.0.0.1:80", "now.test", 80, family_preference::v4_only);
            co_await expect("127.0.0.1:80", "alias.test", 80, family_preference::v4_only);
        }
        CHECK(resolver().statistics().cache_hits == 0);
        CHECK(resolver().statistics().lookups == 4);
    });
}

TEST_CASE("a hundred who want the same name ask once for each family") {
    DnsServer server;
    server.set("held.test", {.a = {"127.0.0.1"}, .held = true});
    with_resolver(asking(server), [&]() -> task<> {
        const auto release = [](DnsServer& held) -> task<> {
            co_await asked(held, "held.test", 2);
            held.release("held.test");
        };
        std::vector<task<std::string>> all;
        for (std::uint16_t port = 1; port <= 100; ++port) all.push_back(look_up("held.test", port));
        const auto [said, released] = co_await torc::gather(torc::gather(std::move(all)), release(server));
        for (std::size_t index = 0; index < said.size(); ++index) {
            CHECK(said[index] == "127.0.0.1:" + std::to_string(index + 1));
        }
        CHECK(resolver().statistics().lookups == 2);
        CHECK(resolver().statistics().coalesced == 198);
    });
    CHECK(server.questions("held.test") == 2);
}

TEST_CASE("one who is cancelled leaves, and the others get their answer") {
    DnsServer server;
    server.set("held.test", {.a = {"127.0.0.1"}, .held = true});
    with_resolver(asking(server), [&]() -> task<> {
        // The first to ask is the one who leaves.
        const auto leaver = [](DnsServer& held) -> task<> {
            auto first = co_await torc::race(look_up("held.test"), asked(held, "held.test", 2));
            CHECK(first.index() == 1);
            held.release("held.test");
        };
        const auto [left, said] = co_await torc::gather(leaver(server), look_up("held.test"));
        CHECK(said == "127.0.0.1:80");
        CHECK(resolver().statistics().lookups == 2);
        CHECK(resolver().statistics().coalesced == 2);
        CHECK(resolver().statistics().abandoned == 0);
    });
}

TEST_CASE("a question is dropped when nobody waits for it any longer") {
    DnsServer server;
    server.set("held.test", {.a = {"127.0.0.1"}, .held = true});
    server.set("four.test", {.a = {"127.0.0.2"}});
    with_resolver(asking(server), [&]() -> task<> {
        auto first = co_await torc::race(torc::gather(look_up("held.test"), look_up("held.test")),
                                         asked(server, "held.test", 2));
        CHECK(first.index() == 1);
        CHECK(resolver().statistics().abandoned == 2);
        // The late answer goes nowhere, and the resolver works on.
        server.release("held.test");
        co_await expect("127.0.0.2:80", "four.test");
        co_await expect("127.0.0.1:80", "held.test");
        CHECK(resolver().statistics().cache_hits == 0);
    });
}

TEST_CASE("who waits for a name is seen in the dump of tasks") {
    DnsServer server;
    server.set("held.test", {.a = {"127.0.0.1"}, .held = true});
    with_resolver(asking(server), [&]() -> task<> {
        const auto look = [](DnsServer& held) -> task<> {
            co_await asked(held, "held.test", 2);
            CHECK(torc::Executor::here().dump_tasks().find("resolve held.test") != std::string::npos);
            held.release("held.test");
        };
        co_await torc::gather(look_up("held.test"), look(server));
    });
}

TEST_CASE("many names at once take their turns") {
    DnsServer server;
    for (int index = 0; index < 300; ++index) {
        server.set("n" + std::to_string(index) + ".test", {.a = {"127.0.1." + std::to_string(index % 250)}});
    }
    ResolverOptions options = asking(server);
    options.concurrent_lookups = 7;
    with_resolver(options, []() -> task<> {
        std::vector<task<std::string>> all;
        for (int index = 0; index < 300; ++index) all.push_back(look_up("n" + std::to_string(index) + ".test"));
        const std::vector<std::string> said = co_await torc::gather(std::move(all));
        for (std::size_t index = 0; index < said.size(); ++index) {
            CHECK(said[index] == "127.0.1." + std::to_string(index % 250) + ":80");
        }
    });
}

TEST_CASE("a name that waits its turn can be given up, and then never is asked for") {
    DnsServer server;
    server.set("held.test", {.a = {"127.0.0.1"}, .held = true});
    server.set("later.test", {.a = {"127.0.0.2"}});
    server.set("queued.test", {.a = {"127.0.0.3"}});
    ResolverOptions options = asking(server);
    options.concurrent_lookups = 1;
    with_resolver(options, [&]() -> task<> {
        const auto leaver = [](DnsServer& held) -> task<> {
            auto first = co_await torc::race(look_up("queued.test"), asked(held, "held.test", 2));
            CHECK(first.index() == 1);
            held.release("held.test");
        };
        const auto [one, left, other] =
            co_await torc::gather(look_up("held.test"), leaver(server), look_up("later.test"));
        CHECK(one == "127.0.0.1:80");
        CHECK(other == "127.0.0.2:80");
    });
    CHECK(server.questions("queued.test") == 0);
}

TEST_CASE("the cache is bounded: what was not used for the longest time goes") {
    DnsServer server;
    for (const char* name : {"a.test", "b.test", "c.test"}) server.set(name, {.a = {"127.0.0.1"}});
    ResolverOptions options = asking(server);
    options.cache_entries = 2;
    with_resolver(options, []() -> task<> {
        for (const char* name : {"a.test", "b.test", "a.test", "c.test", "a.test", "b.test"}) {
            co_await expect("127.0.0.1:80", name);
        }
        CHECK(resolver().statistics().lookups == 8);
        CHECK(resolver().statistics().cache_hits == 4);
    });
}

TEST_CASE("what is in the cache expires at its time, and a new answer takes the place of an old one") {
    torc::net::dns::DnsCache cache;
    const auto at = [](int second) { return torc::Clock::time_point{std::chrono::seconds{second}}; };
    cache.store("a", Addresses{Address::loopback(1)}, at(10), 2);
    REQUIRE(cache.find("a", at(0)) != nullptr);
    REQUIRE(cache.find("a", at(9)) != nullptr);
    CHECK(cache.find("a", at(10)) == nullptr);
    CHECK(cache.find("a", at(0)) == nullptr);
    cache.store("a", Addresses{Address::loopback(1)}, at(10), 2);
    cache.store("a", Addresses{Address::loopback(2)}, at(20), 2);
    REQUIRE(cache.find("a", at(15)) != nullptr);
    CHECK(cache.find("a", at(15))->value() == Addresses{Address::loopback(2)});
    cache.store("b", Addresses{}, at(20), 2);
    cache.store("c", Addresses{}, at(20), 2);
    CHECK(cache.find("a", at(15)) == nullptr);
    CHECK(cache.find("b", at(15)) != nullptr);
    cache.store("d", Addresses{}, at(20), 0);
    CHECK(cache.find("d", at(15)) == nullptr);
}

TEST_CASE("a cancelled task asks nobody") {
    DnsServer server;
    with_resolver(asking(server), []() -> task<> {
        const auto cancels = []() -> task<> {
            torc::Executor::here().cancel_root();
            bool was_cancelled = false;
            try {
                co_await resolver().resolve("nosuch.test", 80);
            } catch (const torc::cancelled&) {
                was_cancelled = true;
            }
            CHECK(was_cancelled);
            CHECK(resolver().statistics().lookups == 0);
        };
        co_await torc::gather(cancels());
    });
    CHECK(server.questions("nosuch.test") == 0);
}
