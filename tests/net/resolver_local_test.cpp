// What the resolver knows without asking: addresses, this machine, what its owner wrote into its files and gave by
// hand; and which names it asks for.

#include "resolving.hpp"

#include <unistd.h>

#include <cstdlib>
#include <optional>
#include <system_error>

#include "../../net/resolver_channel.hpp"

using namespace torc::test;
using torc::task;

namespace {

/// One of four loopback addresses that no other process takes: resolv.conf knows no ports, and this program may run
/// several times at once.
std::string own_address(unsigned which) {
    const auto process = static_cast<unsigned>(::getpid());
    const auto part = [](unsigned value) { return "." + std::to_string(value); };
    return "127" + part(64 + (process >> 14) % 64) + part((process >> 6) % 256) + part(process % 64 * 4 + which);
}

}  // namespace

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

TEST_CASE("an address is told from a name without a look-up, as long as no entry may say otherwise") {
    torc::Executor executor;
    Resolver& resolver = Resolver::of(executor);
    CHECK(resolver.literal("127.0.0.1", 8080) == Address::loopback(8080));
    CHECK(resolver.literal("::1", 8080) == Address::loopback_v6(8080));
    CHECK_FALSE(resolver.literal("localhost", 80).has_value());
    CHECK_FALSE(resolver.literal("127.1", 80).has_value());
    CHECK(resolver.statistics().answered_locally == 2);
    ResolverOptions options;
    options.entries = {StaticEntry::parse("127.0.0.1:80:127.0.0.2").value()};
    resolver.configure(options);
    CHECK_FALSE(resolver.literal("127.0.0.1", 80).has_value());
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
    const TemporaryFile conf{"nameserver " + own_address(0) + "\noptions attempts:1\n"};
    ResolverOptions options;
    options.hosts_file = "/nonexistent/hosts";
    options.resolv_conf = conf.path;
    options.tries = 1;
    options.timeout = 10ms;
    // Nobody serves names there; that it is asked at all, and that nothing is left, is what can be seen.
    with_resolver(options, [&]() -> task<> {
        const std::string refused = co_await look_up("four.test");
        CHECK(refused.starts_with("resolve: four.test: "));
        conf.write("nameserver " + own_address(1) + "\noptions attempts:1 \n");
        const std::string again = co_await look_up("four.test");
        CHECK(again.starts_with("resolve: four.test: "));
        CHECK(resolver().statistics().lookups == 4);
    });
}

TEST_CASE("names are completed as resolv.conf says, and both families with the same domain") {
    const torc::net::dns::SearchList list{{"one.test", "two.test"}, 2};
    using Names = std::vector<std::string>;
    CHECK(list.candidates("web") == Names{"web.one.test", "web.two.test", "web"});
    CHECK(list.candidates("web.site") == Names{"web.site.one.test", "web.site.two.test", "web.site"});
    CHECK(list.candidates("www.web.site") == Names{"www.web.site", "www.web.site.one.test", "www.web.site.two.test"});
    CHECK(list.candidates("web.") == Names{"web"});
    CHECK(list.candidates(std::string(250, 'a')) == Names{std::string(250, 'a')});

    const auto read = [](const std::string& text) {
        const TemporaryFile conf{text};
        ResolverOptions options;
        options.resolv_conf = conf.path;
        return torc::net::dns::SearchList::read(options);
    };
    const auto domains = [&](const std::string& text) { return read(text).domains; };
    CHECK(domains("nameserver 127.0.0.1\nsearch One.test two.test.\noptions ndots:2\n") ==
          Names{"one.test", "two.test"});
    CHECK(domains("search one.test\ndomain two.test\n") == Names{"two.test"});
    CHECK(domains("domain two.test\n  search\tone.test  # and no more\n") == Names{"one.test"});
    CHECK(domains("search one.test\n#search two.test\n;search two.test\nsearching two.test") == Names{"one.test"});
    CHECK(domains("search\n").empty());
    CHECK(domains("search .\n").empty());
    const auto dots = [&](const std::string& text) { return read(text).dots; };
    CHECK(dots("options ndots:2\n") == 2);
    CHECK(dots("options timeout:1 ndots:0 rotate\n") == 0);
    CHECK(dots("options ndots:99\n") == 15);
    CHECK(dots("options ndots:-1 ndots:2x ndots:\noptions\n") == 1);
    CHECK(dots("") == 1);
    ::setenv("LOCALDOMAIN", "own.test other.test", 1);
    ::setenv("RES_OPTIONS", "ndots:3", 1);
    CHECK(domains("search one.test\n") == Names{"own.test", "other.test"});
    CHECK(dots("options ndots:2\n") == 3);
    ::unsetenv("LOCALDOMAIN");
    ::unsetenv("RES_OPTIONS");
}

TEST_CASE("addresses of two machines that share the beginning of a name are not mixed") {
    std::optional<DnsServer> server;
    try {
        server.emplace(Address::parse(own_address(2) + ":53").value());
    } catch (const std::system_error&) {
        MESSAGE("skipped: resolv.conf knows no ports, and port 53 is not ours to listen on");
        return;
    }
    server->set("web.one.test", {.a = {"192.0.2.1"}});
    server->set("web.two.test", {.a = {"192.0.2.2"}, .aaaa = {"2001:db8::2"}});
    server->set("broken.one.test", {.rcode = 2});
    server->set("broken.two.test", {.a = {"192.0.2.2"}});
    server->set("far.two.test", {.aaaa = {"2001:db8::2"}});
    server->set("whole.site", {.a = {"192.0.2.3"}});
    server->set("whole.site.one.test", {.aaaa = {"2001:db8::1"}});
    const TemporaryFile conf{"nameserver " + own_address(2) + "\nsearch one.test two.test\n"};
    ResolverOptions options;
    options.hosts_file = "/nonexistent/hosts";
    options.resolv_conf = conf.path;
    options.tries = 1;
    CHECK(look_up_once(options, "web") == "192.0.2.1:80");
    CHECK(look_up_once(options, "far") == "[2001:db8::2]:80");
    CHECK(look_up_once(options, "whole.site") == "192.0.2.3:80");
    // What could not be found out in one domain is not made up for with another's machine.
    CHECK(look_up_once(options, "broken") ==
          "resolve: broken: the name servers could not find out (they answered SERVFAIL)");
    CHECK(look_up_once(options, "nowhere") == "resolve: nowhere: no such name");
    CHECK(server->questions("nowhere") == 2);
}
