#include <doctest/doctest.h>

#include <csignal>

#include "process.hpp"
#include "program.hpp"

// The example programs do what they say. They need no network but for `hello`, whose two sites are out there: with a
// network it prints what the guide says it prints, without one it says why not and who was waiting for that.

using namespace torc::testing;

namespace {

std::string program(const std::string& name) { return std::string{TORC_EXAMPLES} + "/example-" + name; }

bool has(const std::string& text, std::string_view part) { return text.find(part) != std::string::npos; }

}  // namespace

TEST_SUITE("examples") {
    TEST_CASE("hello checks its two sites, or says what is in the way and who awaited it") {
        const Ended ended = run_program({program("hello")});
        if (ended.status == 0) {
            const std::vector<std::string> lines = sorted_lines(ended.out);
            REQUIRE(lines.size() == 4);
            CHECK(lines[0].starts_with("https://pycoders.com: status -> "));
            CHECK(lines[1].starts_with("https://pycoders.com: type -> "));
            CHECK(lines[2].starts_with("https://realpython.com: status -> "));
            CHECK(lines[3].starts_with("https://realpython.com: type -> "));
            CHECK(ended.err == "");
        } else {
            CHECK(ended.status == 1);
            CHECK(ended.err.starts_with("torc: uncaught error: "));
            CHECK((has(ended.err, "realpython.com") || has(ended.err, "pycoders.com")));
            CHECK(has(ended.err, "check_both (hello.cpp:"));
        }
    }

    TEST_CASE("hello without any network says so at once") {
        const std::vector<std::string> alone{"unshare", "--map-root-user", "--net"};
        if (!has_program("unshare") || run_program({alone[0], alone[1], alone[2], "true"}).status != 0) {
            MESSAGE("skipped: no network name space can be made here");
            return;
        }
        const Ended ended = run_program({alone[0], alone[1], alone[2], program("hello")});
        CHECK(ended.status == 1);
        CHECK(ended.out == "");
        CHECK(ended.err.starts_with("torc: uncaught error: resolve: "));
        CHECK(has(ended.err, "check_both (hello.cpp:"));
    }

    TEST_CASE("echo_server echoes to three clients of its own") {
        const Ended ended = run_program({program("echo_server")});
        CHECK(ended.out == "first come\nfirst served\n1000000 bytes\n");
        CHECK(ended.err == "");
        CHECK(ended.status == 0);
    }

    TEST_CASE("echo_server serves on a port until it is interrupted, and refuses what is no port") {
        CHECK(run_program({program("echo_server"), "70000"}).status == 2);
        CHECK(run_program({program("echo_server"), "echo"}).status == 2);
        Process server({program("echo_server"), "0"});
        const std::string at = server.wait_for("echoing on 127.0.0.1:");
        const std::string client =
            "import socket\ns=socket.create_connection(('127.0.0.1'," + at +
            "))\ns.sendall(b'hello')\ns.shutdown(socket.SHUT_WR)\nprint(s.recv(99), s.recv(99), end='')";
        if (has_program("python3")) CHECK(run_program({"python3", "-c", client}).out == "b'hello' b''");
        server.signal(SIGINT);
        CHECK(server.wait() == 130);
    }

    TEST_CASE("timeout_and_race: the faster mirror wins, the silent one times out, both are closed") {
        const Ended ended = run_program({program("timeout_and_race")});
        CHECK(ended.out ==
              "mirror 1 says 42\n"
              "the silent mirror timed out\n"
              "descriptors still open: the 2 listeners\n");
        CHECK(ended.err == "");
        CHECK(ended.status == 0);
    }

    TEST_CASE("scope: one failure ends the crawl, and nothing is left running") {
        const Ended ended = run_program({program("scope")});
        CHECK(has(ended.out, "stopped: no page is called checkout\n"));
        CHECK(has(ended.out, "home: read\n"));
        CHECK(has(ended.out, "checkout: not read\n"));
        CHECK(has(ended.out, "1 abandoned, 0 tasks left\n"));
        CHECK(ended.err == "");
        CHECK(ended.status == 0);
    }

    TEST_CASE("blocking_session asks its own site twice, and any other by URL") {
        const Ended ended = run_program({program("blocking_session")});
        CHECK(ended.out == "200 text/plain\nHello.\n200 text/plain\nThank you for: a fine day\n");
        CHECK(ended.err == "");
        CHECK(ended.status == 0);

        const Ended refused = run_program({program("blocking_session"), "http://127.0.0.1:1/"});
        CHECK(refused.status == 1);
        CHECK(refused.err == "connect: 127.0.0.1:1: connection refused\n");
    }

    TEST_CASE("http_server answers its own client and stops") {
        const Ended ended = run_program({program("http_server")});
        CHECK(has(ended.out, "\r\n\r\nHello, ring!\n"));
        CHECK(has(ended.out, "\r\n0\r\n\r\n"));
        CHECK(ended.out.ends_with("\r\n\r\n5 bytes\n"));
        CHECK(ended.err == "");
        CHECK(ended.status == 0);
    }
}
