#include <doctest/doctest.h>

#include <torc/net/tls_selfsigned.hpp>

#include "process.hpp"
#include "program.hpp"
#include "site.hpp"

// The checker as people use it: its lines, its exit status, its options. Sites run on a thread of the test; what they
// are asked is what the checker really sends.

using namespace torc;
using namespace torc::testing;

namespace {

/// What `expression`, in Python, says of the lines of JSON as `o`, a list of objects.
std::string ask_json(const std::string& lines, const std::string& expression) {
    return run_program({"python3", "-c",
                        "import json,sys\no=[json.loads(l) for l in sys.stdin]\nprint(" + expression + ",end='')"},
                       lines)
        .out;
}

Site::Plan with_body(std::string body) {
    Site::Plan plan;
    plan.body = std::move(body);
    return plan;
}

}  // namespace

TEST_SUITE("checker") {
    TEST_CASE("an answer is two lines, and all is good") {
        const Site site;
        const Ended ended = run_checker({site.url()});
        CHECK(ended.out == site.url() + ": status -> 200\n" + site.url() + ": type -> <!doctype html>\n");
        CHECK(ended.err == "");
        CHECK(ended.status == 0);
    }

    TEST_CASE("without a URL two sites of its own are checked over TLS") {
        const Ended ended = run_checker({});
        CHECK(ended.status == 0);
        CHECK(ended.err == "");
        const std::vector<std::string> lines = sorted_lines(ended.out);
        REQUIRE(lines.size() == 4);
        CHECK(lines[0].starts_with("https://one.torc.test:"));
        CHECK(lines[0].ends_with(": status -> 200"));
        CHECK(lines[1].ends_with(": type -> <!doctype html>"));
        CHECK(lines[2].starts_with("https://two.torc.test:"));
        CHECK(lines[2].ends_with(": status -> 200"));
        CHECK(lines[3].ends_with(": type -> <!doctype html>"));

        const Ended json = run_checker({"--json"});
        CHECK(ask_json(json.out, "[(x['tls']['version'], x['tls']['certificate_issuer'], x['error']) for x in o]") ==
              "[('TLS 1.3', 'CN=torc throw-away root', None), ('TLS 1.3', 'CN=torc throw-away root', None)]");
    }

    TEST_CASE("a site that fails is a line on standard error, and the others go on") {
        const Site site;
        const Ended ended = run_checker({"http://127.0.0.1:1/", site.url(), "http://no-such-host.invalid/"});
        CHECK(ended.out == site.url() + ": status -> 200\n" + site.url() + ": type -> <!doctype html>\n");
        const std::vector<std::string> lines = sorted_lines(ended.err);
        REQUIRE(lines.size() == 2);
        CHECK(lines[0] == "http://127.0.0.1:1/: error -> connect: 127.0.0.1:1: connection refused");
        CHECK(lines[1].starts_with("http://no-such-host.invalid/: error -> resolve: no-such-host.invalid: "));
        CHECK(ended.status == 1);
    }

    TEST_CASE("2xx and 3xx are good, everything else is a failed check") {
        const Site site;
        CHECK(run_checker({site.url("/status/204")}).status == 0);
        CHECK(run_checker({"--max-redirects", "0", site.url("/redirect/1")}).status == 0);
        const Ended missing = run_checker({site.url("/status/404"), site.url("/status/503"), site.url()});
        CHECK(missing.status == 1);
        CHECK(missing.err == "");
        CHECK(missing.out.find(site.url("/status/404") + ": status -> 404\n" + site.url("/status/404") +
                               ": type -> It is so.\n") != std::string::npos);
    }

    TEST_CASE("redirects are followed up to the limit, and not at all with a limit of none") {
        const Site site;
        CHECK(run_checker({site.url("/redirect/10")}).status == 0);
        const Ended far = run_checker({"--max-redirects", "2", site.url("/redirect/3")});
        CHECK(far.status == 1);
        CHECK(far.out == "");
        CHECK(far.err.find("redirects") != std::string::npos);
        const std::string here = site.url("/redirect/1");
        CHECK(run_checker({"--max-redirects", "0", here}).out ==
              here + ": status -> 302\n" + here + ": type -> elsewhere\n");
    }

    TEST_CASE("a site that takes too long is told so with the phase it was in") {
        const Site site;
        const Ended ended = run_checker({"--timeout", "0.2", site.url("/never")});
        CHECK(ended.status == 1);
        CHECK(ended.err.starts_with(site.url("/never") + ": error -> head: "));
        CHECK(ended.err.find("timed out") != std::string::npos);
    }

    TEST_CASE("method and headers are sent as given, and HEAD has no line about a type") {
        const Site site;
        const Ended json =
            run_checker({"--method", "OPTIONS", "-H", "X-One: 1", "--header", "X-Two:  2 ", site.url("/echo")});
        CHECK(json.out.find(": type -> OPTIONS ") != std::string::npos);
        const std::string first = site.url("/echo");
        CHECK(run_checker({"--method", "HEAD", first}).out == first + ": status -> 200\n");
        CHECK(ask_json(run_checker({"--json", "-H", "X-One: 1", first}).out, "o[0]['bytes'] > 30") == "True");
    }

    TEST_CASE("what a page begins with can not disturb the terminal, and is cut by characters") {
        const auto type_of = [](const std::string& body) {
            const Site site{with_body(body)};
            const std::string url = site.url("/body");
            const Ended ended = run_checker({url});
            const std::string before = url + ": status -> 200\n" + url + ": type -> ";
            REQUIRE(ended.out.starts_with(before));
            return ended.out.substr(before.size());
        };
        CHECK(type_of("") == "\n");
        CHECK(type_of("<html>\n<head>\n<title>") == "<html> <head> <ti\n");
        CHECK(type_of("\x1b[2J\x07red\xc2\x9bm") == "[2J red m\n");
        CHECK(type_of("ääääääääääääääääääää") == "äääääääääääääääää\n");
        CHECK(type_of("\xff\xc3(\xed\xa0\x80x") == "\xEF\xBF\xBD\xEF\xBF\xBD(\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBDx\n");
    }

    TEST_CASE("JSON gives one object a line, for good and bad alike") {
        const Site site{with_body(std::string(100'000, '"'))};
        const Ended ended = run_checker({"--json", site.url("/body"), "http://127.0.0.1:1/", site.url("/redirect/2")});
        CHECK(ended.err == "");
        CHECK(ended.status == 1);
        CHECK(sorted_lines(ended.out).size() == 3);
        const auto ask = [&](const std::string& about) {
            return ask_json(ended.out, "{x['url'].split('/')[3]: x for x in o}" + about);
        };
        CHECK(ask("['body']['bytes']") == "100000");
        CHECK(ask("['body']['status']") == "200");
        CHECK(ask("['body']['error']") == "None");
        CHECK(ask("['body']['tls']") == "None");
        CHECK(ask("['body']['address']") == "127.0.0.1:" + std::to_string(site.port()));
        CHECK(ask("['body']['milliseconds'].keys()") ==
              "dict_keys(['resolve', 'connect', 'tls', 'send', 'wait', 'body', 'total'])");
        CHECK(ask("['redirect']['final_url']") == site.url());
        CHECK(ask("['']['status']") == "None");
        CHECK(ask("['']['error']") ==
              "{'phase': 'connect', 'kind': 'connection_refused', 'message': '127.0.0.1:1: connection refused'}");
    }

    TEST_CASE("quietly, only what failed is printed") {
        const Site site;
        const Ended ended = run_checker({"--quiet", site.url(), site.url("/status/404"), "http://127.0.0.1:1/"});
        CHECK(sorted_lines(ended.out).size() == 2);
        CHECK(ended.out.find("404") != std::string::npos);
        CHECK(sorted_lines(ended.err).size() == 1);
        CHECK(run_checker({"-q", site.url()}).out == "");
    }

    TEST_CASE("a name can be given an address, and an authority can be trusted") {
        const net::ThrowawayAuthority authority;
        net::TlsServerOptions tls;
        tls.identities.push_back(authority.issue({.common_name = "shop", .names = {"shop.example"}}));
        Site::Plan plan;
        plan.tls = net::TlsContext::server(tls);
        const Site site{std::move(plan)};
        const TemporaryDirectory directory;
        const std::string ca = directory.file("ca.pem", authority.certificate_pem());
        const std::string port = std::to_string(site.port());
        const std::string url = "https://shop.example:" + port + "/";
        const std::string resolve = "shop.example:" + port + ":127.0.0.1";

        const Ended good = run_checker({"--json", "--cacert", ca, "--resolve", resolve, url});
        CHECK(good.status == 0);
        CHECK(ask_json(good.out, "(o[0]['tls']['version'], o[0]['tls']['certificate_subject'])") ==
              "('TLS 1.3', 'CN=shop')");
        CHECK(ask_json(good.out, "len(o[0]['tls']['certificate_expires'])") == "20");

        const Ended untrusted = run_checker({"--resolve", resolve, url});
        CHECK(untrusted.status == 1);
        CHECK(untrusted.err.starts_with(url + ": error -> tls: "));
        const Ended other = run_checker({"--json", "--cacert", ca, "https://127.0.0.1:" + port + "/"});
        CHECK(ask_json(other.out, "(o[0]['error']['phase'], o[0]['error']['kind'])") == "('tls', 'wrong_host')");
    }

    TEST_CASE("a reader that is gone ends it, and a full disk is said so") {
        const Site site;
        if (!has_program("sh")) {
            MESSAGE("skipped: there is no sh");
            return;
        }
        const Ended full = run_program({"sh", "-c", "exec \"$0\" \"$1\" >/dev/full", checker_path(), site.url()});
        CHECK(full.status == 1);
        CHECK(full.err == "torc-check: write: standard output: No space left on device\n");
    }
}
