#include <doctest/doctest.h>

#include <csignal>

#include "process.hpp"
#include "program.hpp"
#include "site.hpp"

// Many sites: how many are asked at once, what that takes, lists that never end, and being interrupted.

using namespace torc::testing;

namespace {

#if defined(__SANITIZE_ADDRESS__)
constexpr bool sanitized = true;
#elif defined(__has_feature)
constexpr bool sanitized = __has_feature(address_sanitizer);
#else
constexpr bool sanitized = false;
#endif

Site::Plan together(std::size_t count) {
    Site::Plan plan;
    plan.together = count;
    return plan;
}

std::string lines_of(const std::string& url, std::size_t count) {
    std::string lines;
    for (std::size_t line = 0; line < count; ++line) lines += url + "\n";
    return lines;
}

}  // namespace

TEST_SUITE("checker with many sites") {
    TEST_CASE("ten sites are asked at the same time") {
        // None of them answers before all have been asked: one after the other they would all time out.
        const Site site{together(10)};
        const Ended ended = run_checker({"-"}, lines_of(site.url("/together"), 10));
        CHECK(ended.status == 0);
        CHECK(sorted_lines(ended.out).size() == 20);
        CHECK(site.most_at_once() == 10);
    }

    TEST_CASE("no more are asked at once than allowed, and no fewer") {
        const Site site{together(3)};
        const Ended ended = run_checker({"--concurrency", "3", "-"}, lines_of(site.url("/together"), 30));
        CHECK(ended.status == 0);
        CHECK(site.requests() == 30);
        CHECK(site.most_at_once() == 3);
    }

    TEST_CASE("lists have comments, blank lines, Windows line ends and a last line without an end") {
        const Site site;
        const Ended ended =
            run_checker({"-"}, "\xEF\xBB\xBF" + site.url("/a") + "\r\n\r\n# " + site.url("/no") + "\n   \n\t" +
                                   site.url("/b") + "  # the other one\n" + site.url("/c#d"));
        CHECK(ended.status == 0);
        const std::vector<std::string> lines = sorted_lines(ended.out);
        REQUIRE(lines.size() == 6);
        CHECK(lines[0] == site.url("/a") + ": status -> 200");
        CHECK(lines[2] == site.url("/b") + ": status -> 200");
        CHECK(lines[4] == site.url("/c#d") + ": status -> 200");
        CHECK(site.requests() == 3);
    }

    TEST_CASE("a line of a pipe that is no URL is a failed check, however long it is, and the others go on") {
        const Site site;
        const Ended ended = run_checker({"-"}, "nonsense\n" + std::string(1'000'000, 'x') + "\n" + site.url() + "\n");
        CHECK(ended.status == 1);
        CHECK(sorted_lines(ended.out).size() == 2);
        const std::vector<std::string> lines = sorted_lines(ended.err);
        REQUIRE(lines.size() == 2);
        CHECK(lines[0].starts_with("nonsense: error -> check: "));
        CHECK(lines[1].ends_with(": error -> check: the line is too long"));
        CHECK(lines[1].size() < 1000);
    }

    TEST_CASE("as many as one likes run in bounded memory and with few descriptors") {
        const Site site;
        const std::size_t count = sanitized ? 3'000 : 100'000;
        const std::string input = lines_of(site.url(), count);
        const Ended ended =
            run_program({"sh", "-c", "ulimit -n 150 && exec \"$0\" -c 1000 -q -", checker_path()}, input);
        CHECK(ended.status == 0);
        CHECK(ended.out == "");
        CHECK(ended.err.starts_with("torc-check: 150 descriptors are allowed here, so no more than "));
        CHECK(sorted_lines(ended.err).size() == 1);
        CHECK(site.requests() == count);
        if (!sanitized) CHECK(ended.peak_kib < 64 * 1024);
    }

    TEST_CASE("an answer is printed when it arrives, and the list need not have ended") {
        const Site site;
        Process checker({checker_path(), "-"});
        checker.write(site.url("/a") + "\n");
        checker.wait_for("/a: type -> <!doctype html>");
        checker.write(site.url("/b") + "\n");
        checker.wait_for("/b: type -> <!doctype html>");
        checker.close_input();
        CHECK(checker.wait() == 0);
    }

    TEST_CASE("an interrupt ends it after printing what was finished") {
        const Site site;
        for (const bool waiting_for_input : {false, true}) {
            Process checker({checker_path(), site.url(), site.url("/never"), "-"});
            if (!waiting_for_input) checker.close_input();
            checker.wait_for("type -> <!doctype html>");
            checker.signal(SIGINT);
            CHECK(checker.wait() == 130);
            CHECK(checker.output() == site.url() + ": status -> 200\n" + site.url() + ": type -> <!doctype html>\n");
        }
    }
}
