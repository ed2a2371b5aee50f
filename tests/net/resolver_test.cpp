// The resolver against a name server on loopback that says what each test tells it to. Where a test needs something to
// have happened it waits for the server to have been asked; only the tests of silence wait for time to pass.

#include <torc/net/resolver.hpp>

#include <cstdio>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include <unistd.h>

#include <doctest/doctest.h>
#include <torc/runtime/as_result.hpp>
#include <torc/runtime/gather.hpp>
#include <torc/runtime/gather_settled.hpp>
#include <torc/runtime/offload.hpp>
#include <torc/runtime/race.hpp>
#include <torc/runtime/time.hpp>

#include "../../net/resolver_cache.hpp"
#include "dns_server.hpp"
#include "leak_check.hpp"

using namespace std::chrono_literals;
using torc::task;
using torc::net::Address;
using torc::net::family_preference;
using torc::net::Resolver;
using torc::net::ResolverOptions;
using torc::net::StaticEntry;
using torc::test::DnsServer;
using torc::test::run_clean;
using Addresses = std::vector<Address>;

namespace {

ResolverOptions asking(const DnsServer& server) {
    ResolverOptions options;
    options.servers = {server.address()};
    options.hosts_file = "/nonexistent/hosts";
    // Long enough for a slow machine: no test waits for it unless it means to.
    options.timeout = 20s;
    return options;
}

/// The resolver of the running executor.
Resolver& resolver() { return Resolver::of(torc::Executor::here()); }

std::string written(const Addresses& addresses) {
    std::string text;
    for (const Address& address : addresses) text += (text.empty() ? "" : " ") + address.to_string();
    return text;
}

/// The addresses in words, or the error in words.
task<std::string> look_up(std::string host, std::uint16_t port = 80,
                          family_preference family = family_preference::any) {
    try {
        const Addresses found = co_await resolver().resolve(std::move(host), port, family);
        co_return written(found);
    } catch (const torc::Error& error) {
        CHECK(error.where() == torc::phase::resolve);
        co_return std::string{error.what()};
    }
}

task<> expect(std::string expected, std::string host, std::uint16_t port = 80,
              family_preference family = family_preference::any) {
    CAPTURE(host);
    const std::string said = co_await look_up(std::move(host), port, family);
    CHECK(said == expected);
}

/// Runs `body` in a task whose executor asks as `options` say.
void with_resolver(const ResolverOptions& options, const std::function<task<>()>& body) {
    run_clean([&]() -> task<> {
        const auto configured = [](const ResolverOptions& given, const std::function<task<>()>& inner) -> task<> {
            resolver().configure(given);
            co_await inner();
        };
        return configured(options, body);
    });
}

std::string look_up_once(const ResolverOptions& options, const std::string& host, std::uint16_t port = 80,
                         family_preference family = family_preference::any) {
    std::string said;
    with_resolver(options, [&]() -> task<> { said = co_await look_up(host, port, family); });
    return said;
}

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

/// A file of the test's own, gone at its end.
struct TemporaryFile {
    std::string path = "torc-resolver-test-" + std::to_string(getpid());
    explicit TemporaryFile(const std::string& text) { write(text); }
    ~TemporaryFile() { std::remove(path.c_str()); }
    void write(const std::string& text) const { std::ofstream{path} << text; }
};

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
        CHECK(resolver().statistics().cache_hits == 1);
        CHECK(resolver().statistics().lookups == 3);
    });
    CHECK(server.questions("nosuch.test") == 2);
}

TEST_CASE("what a name server answers instead of an address is said in words") {
    DnsServer server;
    server.set("broken.test", {.rcode = 2});
    server.set("refused.test", {.rcode = 5});
    ResolverOptions options = asking(server);
    options.tries = 1;
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
        CHECK(resolver().statistics().lookups == 1);
        CHECK(resolver().statistics().cache_hits == 1);
        resolver().clear_cache();
        co_await expect("127.0.0.1:80 [::1]:80", "both.test", 80, family_preference::v4_first);
        CHECK(resolver().statistics().lookups == 2);
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
            co_await expect("127.0.0.1:80", "now.test");
            co_await expect("127.0.0.1:80", "alias.test");
        }
        CHECK(resolver().statistics().cache_hits == 0);
        CHECK(resolver().statistics().lookups == 4);
    });
}

TEST_CASE("a hundred who want the same name make one question") {
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
        CHECK(resolver().statistics().lookups == 1);
        CHECK(resolver().statistics().coalesced == 99);
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
        CHECK(resolver().statistics().lookups == 1);
        CHECK(resolver().statistics().coalesced == 1);
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
        CHECK(resolver().statistics().abandoned == 1);
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
        CHECK(resolver().statistics().lookups == 4);
        CHECK(resolver().statistics().cache_hits == 2);
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

TEST_CASE("an address is its own answer") {
    ResolverOptions options;
    options.servers = {Address::loopback(1)};
    CHECK(look_up_once(options, "127.0.0.1", 8080) == "127.0.0.1:8080");
    CHECK(look_up_once(options, "::1", 8080) == "[::1]:8080");
    CHECK(look_up_once(options, "[::1]", 8080) == "[::1]:8080");
    CHECK(look_up_once(options, "::1", 1, family_preference::v4_only) ==
          "resolve: ::1: this is an IPv6 address, and IPv4 alone is wanted");
    CHECK(look_up_once(options, "127.0.0.1", 1, family_preference::v6_only) ==
          "resolve: 127.0.0.1: this is an IPv4 address, and IPv6 alone is wanted");
    CHECK(look_up_once(options, "fe80::1%nosuchif") ==
          "resolve: fe80::1%nosuchif: there is no network interface \"nosuchif\"");
}

TEST_CASE("localhost is this machine, whatever the name servers say") {
    DnsServer server;
    server.set("localhost", {.a = {"192.0.2.1"}});
    CHECK(look_up_once(asking(server), "localhost") == "[::1]:80 127.0.0.1:80");
    CHECK(look_up_once(asking(server), "LocalHost.") == "[::1]:80 127.0.0.1:80");
    CHECK(look_up_once(asking(server), "app.localhost") == "[::1]:80 127.0.0.1:80");
    CHECK(look_up_once(asking(server), "localhost", 80, family_preference::v4_only) == "127.0.0.1:80");
    CHECK(server.questions("localhost") == 0);
}

TEST_CASE("the hosts file comes before the name servers, and is read again when it changed") {
    DnsServer server;
    server.set("listed.test", {.a = {"192.0.2.1"}, .aaaa = {"2001:db8::1"}});
    const TemporaryFile hosts{
        "# comment\n"
        "127.0.0.5 listed.test other.test # and a comment\n"
        "\t::5   LISTED.test\r\n"
        "not-an-address listed.test\n"
        "127.0.0.6\n"
        "127.0.0.7 localhost\n"
        "127.0.0.8 last.test"};
    ResolverOptions options = asking(server);
    options.hosts_file = hosts.path;
    with_resolver(options, [&]() -> task<> {
        co_await expect("127.0.0.5:80 [::5]:80", "listed.test");
        co_await expect("127.0.0.5:80", "other.test");
        co_await expect("127.0.0.7:80", "localhost");
        co_await expect("127.0.0.8:80", "last.test.");
        // It has no IPv6 address for this one; the name servers know that there is none.
        co_await expect("resolve: other.test: no such name", "other.test", 80, family_preference::v6_only);
        CHECK(server.questions("listed.test") == 0);
        hosts.write("127.0.0.99 other.test\n");
        co_await expect("127.0.0.99:80", "other.test");
        co_await expect("192.0.2.1:80", "listed.test", 80, family_preference::v4_only);
    });
}

TEST_CASE("entries given by hand come before everything") {
    DnsServer server;
    server.set("four.test", {.a = {"192.0.2.1"}});
    ResolverOptions options = asking(server);
    options.entries = {StaticEntry::parse("Four.test:443:127.0.0.1,[::1]").value(),
                       StaticEntry::parse("192.0.2.7:80:127.0.0.2").value(),
                       {.host = "any.test", .port = 0, .addresses = {Address::loopback(1)}}};
    CHECK(look_up_once(options, "four.test", 443) == "127.0.0.1:443 [::1]:443");
    CHECK(look_up_once(options, "four.test", 80) == "192.0.2.1:80");
    CHECK(look_up_once(options, "192.0.2.7", 80) == "127.0.0.2:80");
    CHECK(look_up_once(options, "any.test", 77) == "127.0.0.1:77");
    CHECK(look_up_once(options, "any.test", 77, family_preference::v6_only) ==
          "resolve: any.test: the entry given for this name has no address of the wanted family");
}

TEST_CASE("an entry is read from HOST:PORT:ADDRESS, and refused with what is wrong with it") {
    const StaticEntry one = StaticEntry::parse("example.com:443:::1,10.0.0.1,[2001:db8::1]").value();
    CHECK(one.host == "example.com");
    CHECK(one.port == 443);
    CHECK(written(one.addresses) == "[::1]:443 10.0.0.1:443 [2001:db8::1]:443");
    CHECK(StaticEntry::parse("[::1]:80:10.0.0.1")->host == "::1");
    const auto complaint = [](std::string_view text) {
        const auto parsed = StaticEntry::parse(text);
        REQUIRE_FALSE(parsed.has_value());
        return std::string{parsed.error().message()};
    };
    CHECK(complaint("") == "\"\" is not HOST:PORT:ADDRESS: there is no colon after the host");
    CHECK(complaint("a:80") == "\"a:80\" is not HOST:PORT:ADDRESS: there is no address after the port");
    CHECK(complaint(":80:1.2.3.4") == "\":80:1.2.3.4\" is not HOST:PORT:ADDRESS: the host is empty");
    CHECK(complaint("a:x:1.2.3.4") ==
          "\"a:x:1.2.3.4\" is not HOST:PORT:ADDRESS: the port has to be a number between 1 and 65535");
    CHECK(complaint("a:80:b") == "\"a:80:b\" is not HOST:PORT:ADDRESS: \"b\" is not an IP address");
    CHECK(complaint("a:80:1.2.3.4,") == "\"a:80:1.2.3.4,\" is not HOST:PORT:ADDRESS: \"\" is not an IP address");
    CHECK(complaint("[::1:80:1.2.3.4") == "\"[::1:80:1.2.3.4\" is not HOST:PORT:ADDRESS: a bracket is not closed");
    CHECK_FALSE(StaticEntry::parse("a:0:1.2.3.4").has_value());
    CHECK_FALSE(StaticEntry::parse("a:65536:1.2.3.4").has_value());
    CHECK_FALSE(StaticEntry::parse("[::1]x:80:1.2.3.4").has_value());
}

TEST_CASE("text that can not be a name is refused before anybody is asked") {
    DnsServer server;
    const auto said = [&](const std::string& host) {
        std::string text = look_up_once(asking(server), host);
        return text.substr(text.rfind(": ") + 2);
    };
    CHECK(said("") == "the name of the host is empty");
    CHECK(said("a..b") == "the name of the host has an empty part between its dots");
    CHECK(said(".a") == "the name of the host has an empty part between its dots");
    CHECK(said(".") == "the name of the host has an empty part between its dots");
    CHECK(said(std::string(64, 'a') + ".test") == "a part of the host's name is longer than 63 bytes");
    std::string longest = "a";
    while (longest.size() < 254) longest += ".a";
    CHECK(said(longest) == "the name of the host is longer than 253 bytes");
    CHECK(said("b\xc3\xbc"
               "cher.test") == "the name of a host has to be in its ASCII form (xn--...) here");
    for (const std::string& host :
         {std::string{"a b"}, std::string{"a/b"}, std::string{"a\0b", 3}, std::string{"a\n"}}) {
        CHECK(said(host) == "this can not be the name of a host");
    }
}

TEST_CASE("the name servers of resolv.conf are used, and those of a changed file after it changed") {
    const TemporaryFile conf{"nameserver 127.0.0.153\noptions attempts:1\n"};
    ResolverOptions options;
    options.hosts_file = "/nonexistent/hosts";
    options.resolv_conf = conf.path;
    options.tries = 1;
    options.timeout = 10ms;
    // Nobody serves names there; that it is asked at all, and that nothing is left, is what can be seen.
    with_resolver(options, [&]() -> task<> {
        const std::string refused = co_await look_up("four.test");
        CHECK(refused.starts_with("resolve: four.test: "));
        conf.write("nameserver 127.0.0.154\noptions attempts:1 \n");
        const std::string again = co_await look_up("four.test");
        CHECK(again.starts_with("resolve: four.test: "));
        CHECK(resolver().statistics().lookups == 2);
    });
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
        };
        co_await torc::gather(cancels());
    });
    CHECK(server.questions("nosuch.test") == 0);
}
