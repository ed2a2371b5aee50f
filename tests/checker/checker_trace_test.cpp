#include <doctest/doctest.h>

#include <sys/wait.h>

#include <cstdlib>
#include <fstream>
#include <sstream>

#include "process.hpp"
#include "program.hpp"
#include "site.hpp"

// What the checker asks of the kernel, as strace sees it: with io_uring the loop enters the kernel once a turn, and
// that is all there is to it. Sockets are opened, connected, written, read and closed by the ring.

using namespace torc::testing;

namespace {

bool can_trace() {
    const char* const driver = std::getenv("TORC_DRIVER");
    if (driver != nullptr && std::string_view{driver} == "epoll") {
        MESSAGE("skipped: this is about the ring");
        return false;
    }
    if (!has_program("strace") || run_program({"strace", "-o", "/dev/null", "true"}).status != 0) {
        MESSAGE("skipped: strace is missing, or may not trace");
        return false;
    }
    return true;
}

struct Trace {
    std::vector<std::string> calls;
    Ended ended;

    [[nodiscard]] std::size_t count(std::string_view part) const {
        std::size_t found = 0;
        for (const std::string& call : calls) found += call.find(part) != std::string::npos ? 1 : 0;
        return found;
    }
    /// The first of `parts` that no call has behind the calls that have those before it; "" if all are there, in order.
    [[nodiscard]] std::string first_missing(const std::vector<std::string>& parts) const {
        auto part = parts.begin();
        for (const std::string& call : calls) {
            if (part != parts.end() && call.find(*part) != std::string::npos) ++part;
        }
        return part == parts.end() ? "" : *part;
    }
};

Trace trace(std::vector<std::string> arguments) {
    const TemporaryDirectory directory;
    const std::string log = directory.file("trace", "");
    // Built with AddressSanitizer the checker can not look for leaks while it is traced.
    std::vector<std::string> all{"strace", "-f", "-y",           "-E",          "ASAN_OPTIONS=detect_leaks=0",
                                 "-o",     log,  checker_path(), "--statistics"};
    all.insert(all.end(), arguments.begin(), arguments.end());
    Trace seen;
    seen.ended = run_program(std::move(all));
    std::ifstream file{log};
    for (std::string line; std::getline(file, line);) seen.calls.push_back(line);
    return seen;
}

std::size_t turns_of(const Ended& ended) {
    const std::size_t at = ended.err.find("torc-check: ");
    REQUIRE(at != std::string::npos);
    return std::stoul(ended.err.substr(at + std::string_view{"torc-check: "}.size()));
}

/// Whatever sockets there are, nothing but the ring connects them, speaks through them, or closes them.
void check_ring_has_sockets(const Trace& seen) {
    for (const std::string& call : seen.calls) {
        const bool closes_socket =
            call.find(" close(") != std::string::npos && call.find("socket:") != std::string::npos;
        CHECK_MESSAGE(!closes_socket, call);
    }
    for (const char* call : {" connect(", " accept(", " accept4(", " sendto(", " sendmsg(", " recvfrom(", " recvmsg(",
                             " shutdown(", " epoll_wait(", " poll("}) {
        CHECK_MESSAGE(seen.count(call) == 0, call);
    }
}

void check_one_enter_a_turn(const Trace& seen) {
    // The statistics were taken when they were written; what comes behind are the last closes.
    std::size_t enters = 0;
    for (const std::string& call : seen.calls) {
        if (call.find(" write(2") != std::string::npos) break;
        enters += call.find(" io_uring_enter(") != std::string::npos ? 1 : 0;
    }
    const std::size_t turns = turns_of(seen.ended);
    constexpr std::size_t most_probes = 3;  // what the ring is asked once, when it is set up
    CHECK(turns >= 4);
    CHECK(enters >= turns);
    CHECK(enters <= turns + most_probes);
}

}  // namespace

TEST_SUITE("checker and the kernel") {
    TEST_CASE("no socket is closed by a system call, and the kernel is entered once a turn") {
        if (!can_trace()) return;
        const Site site;
        std::vector<std::string> urls;
        urls.reserve(50);
        for (int number = 0; number < 50; ++number) urls.push_back(site.url("/" + std::to_string(number)));
        const Trace checks = trace(urls);
        CHECK(checks.ended.status == 0);
        CHECK(sorted_lines(checks.ended.out).size() == 100);

        CHECK(checks.count("close(") > 0);
        CHECK(checks.count(" socket(") == 0);  // not even opened, and so on
        check_ring_has_sockets(checks);
        check_one_enter_a_turn(checks);
    }

    TEST_CASE("over TLS as well, on both sides of the connection") {
        if (!can_trace()) return;
        const Trace demo = trace({});
        CHECK(demo.ended.status == 0);
        CHECK(sorted_lines(demo.ended.out).size() == 4);
        CHECK(demo.first_missing({
                  " io_uring_setup(",
                  " listen(",  // two sites of its own, which system calls open
                  " listen(",
                  " io_uring_enter(",
                  "TCP_NODELAY, [1]",  // both have accepted a connection
                  "TCP_NODELAY, [1]",
                  " io_uring_enter(",
                  R"(, "https://)",  // an answer is written
                  " io_uring_enter(",
                  R"(, "torc-check: )",  // the statistics
                  " exit_group(0)",
              }) == "");
        CHECK(demo.count(" socket(") == 2);
        check_ring_has_sockets(demo);
        check_one_enter_a_turn(demo);
    }
}
