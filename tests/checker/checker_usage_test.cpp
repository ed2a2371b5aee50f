#include <doctest/doctest.h>

#include <sstream>

#include "process.hpp"
#include "program.hpp"
#include "site.hpp"

// What the checker refuses: each with one sentence, status 2, and not a word to any site.

using namespace torc::testing;

namespace {

/// Runs the checker with `arguments` behind the URL of a site, and sees that the site was not asked. Gives the
/// sentence.
std::string refused(std::vector<std::string> arguments, std::string_view input = {}) {
    const Site site;
    arguments.insert(arguments.begin(), site.url());
    const Ended ended = run_checker(std::move(arguments), input);
    CHECK(ended.status == 2);
    CHECK(ended.out == "");
    CHECK(site.requests() == 0);
    CHECK(sorted_lines(ended.err).size() == 1);
    CHECK(ended.err.starts_with("torc-check: "));
    CHECK(ended.err.ends_with('\n'));
    return ended.err;
}

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_SUITE("checker usage") {
    TEST_CASE("a URL that can not be parsed or has another scheme is refused before anything is asked") {
        CHECK(has(refused({"ftp://example.com/"}), "ftp"));
        CHECK(has(refused({"ws://example.com/"}), "ws"));
        CHECK(has(refused({"example.com"}), "https://example.com"));
        CHECK(has(refused({"https://exa mple.com/"}), "exa mple.com"));
        CHECK(has(refused({"http://[::1/"}), "http://[::1/"));
        CHECK(has(refused({"http://x:99999/"}), "99999"));
        CHECK(has(refused({""}), "''"));
    }

    TEST_CASE("numbers and words that options can not mean are refused") {
        CHECK(has(refused({"--concurrency", "many"}), "--concurrency takes a whole number"));
        CHECK(has(refused({"--concurrency", "0"}), "not '0'"));
        CHECK(has(refused({"--concurrency", "64x"}), "not '64x'"));
        CHECK(has(refused({"--concurrency", "99999999999999999999999"}), "--concurrency"));
        CHECK(has(refused({"--timeout", "soon"}), "--timeout takes seconds"));
        CHECK(has(refused({"--timeout", "nan"}), "nan"));
        CHECK(has(refused({"--timeout", "-1"}), "-1"));
        CHECK(has(refused({"--max-redirects", "1.5"}), "--max-redirects"));
        CHECK(has(refused({"--method", "GET /"}), "--method"));
        CHECK(has(refused({"--header", "no colon"}), "--header"));
        CHECK(has(refused({"--header", "A: b\r\nC: d"}), "line break"));
        CHECK(has(refused({"--resolve", "host:port:addr"}), "--resolve"));
        CHECK(has(refused({"--concurrency"}), "--concurrency needs a value"));
        CHECK(has(refused({"--json=yes"}), "--json takes no value"));
        CHECK(has(refused({"--frobnicate"}), "--frobnicate"));
    }

    TEST_CASE("files that are missing or are none are refused") {
        const TemporaryDirectory directory;
        CHECK(has(refused({"--file", "/no/such/list"}), "/no/such/list can not be read: No such file"));
        CHECK(has(refused({"--file", directory.path()}), "Is a directory"));
        CHECK(has(refused({"--cacert", "/no/such/ca.pem"}), "/no/such/ca.pem"));
        CHECK(has(refused({"--cacert", directory.file("ca.pem", "nothing of use\n")}), "ca.pem"));
        CHECK(has(refused({"-", "--file", "-"}), "only once"));
    }

    TEST_CASE("a list that is a file is read through before anything is checked") {
        const TemporaryDirectory directory;
        const std::string list =
            directory.file("sites", "# ours\nhttp://127.0.0.1:1/\n\nhttps://good.example/\nnot one\n");
        CHECK(has(refused({"--file", list}), "sites, line 5: 'not one' can not be checked"));

        const Ended redirected = run_program({"sh", "-c", "exec \"$0\" - <\"$1\"", checker_path(), list});
        CHECK(redirected.status == 2);
        CHECK(has(redirected.err, "standard input, line 5"));
    }

    TEST_CASE("help and version are answers, not mistakes") {
        const Ended help = run_checker({"--help"});
        CHECK(help.status == 0);
        CHECK(help.err == "");
        for (const char* option :
             {"--concurrency", "--timeout", "--cacert", "--resolve", "--max-redirects", "--method", "--header",
              "--file", "--json", "--quiet", "--statistics", "--version", "Exit status"}) {
            CHECK_MESSAGE(has(help.out, option), option);
        }
        // What each option does stands on its line, and all of them in one column.
        std::istringstream lines{help.out};
        int options = 0;
        for (std::string line; std::getline(lines, line);) {
            CHECK_MESSAGE(line.size() <= 120, line);
            if (!line.starts_with("  -")) continue;
            ++options;
            constexpr std::size_t column = 34;
            const bool aligned = line.size() > column && line[column] != ' ' && line.substr(column - 3, 3) == "   ";
            CHECK_MESSAGE(aligned, line);
        }
        CHECK(options == 13);
        const Ended version = run_checker({"--version"});
        CHECK(version.status == 0);
        CHECK(version.out.starts_with("torc-check "));
    }
}
