#include <doctest/doctest.h>

#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <forked.hpp>
#include <steps.hpp>
#include <string>
#include <string_view>

#include <torc/runtime.hpp>

#include "streams.hpp"

// Goal: where a process may have no further thread (a limit of its user's, or of its container), streams still end
// their sending. The kernel gives some operations of a ring to worker threads of the process, and calls those
// "canceled" that nobody will do. Method: children that give up root and then the right to a second thread.

namespace {

using namespace torc;
using namespace torc::test;

constexpr int can_not = 77;

bool leave_no_threads() {
    constexpr uid_t nobody = 65534;
    if (::geteuid() == 0 && ::setresuid(nobody, nobody, 0) != 0) return false;
    const rlimit none{.rlim_cur = 0, .rlim_max = 0};
    return ::setrlimit(RLIMIT_NPROC, &none) == 0;
}

/// What `work` prints when there is no thread to be had.
template <class Work>
std::string said_by(Work work) {
    Forked child{[&] {
        if (!leave_no_threads()) return can_not;
        const int status = run(work());
        // Otherwise what counts the lines that ran may not write them down.
        [[maybe_unused]] const int root_again = ::seteuid(0);
        return status;
    }};
    const int status = child.wait();
    CHECK(status == 0);
    return child.output();
}

}  // namespace

TEST_SUITE("no worker threads") {
    TEST_CASE("an accepted stream ends its sending all the same") {
        const std::string said = said_by([]() -> task<> {
            StreamPair pair = co_await connected_streams();
            co_await gather(pair.server.send("the last words"), pair.server.shutdown_write());
            std::printf("%s\n", (co_await read_slices(pair.client, 100)).c_str());
        });
        CHECK(said == "the last words\n");
    }

    TEST_CASE("a stream that connected does, or says what is short") {
        const std::string said = said_by([]() -> task<> {
            StreamPair pair = co_await connected_streams();
            co_await pair.client.send("the last words");
            const auto ended = co_await as_result(pair.client.shutdown_write());
            if (!ended) {
                std::printf("%s\n", ended.error().what());
                co_await pair.client.close();
            }
            std::printf("%s\n", (co_await read_slices(pair.server, 100)).c_str());
        });
        const std::string all = "the last words\n";
        const bool direct = said != all;  // the ring's own descriptor: nobody but the kernel's worker could do it
        CHECK((!direct || std::string_view{std::getenv("TORC_DRIVER")} == "uring"));
        CHECK((!direct || said == "send: shut down: resource temporarily unavailable\n" + all));
    }

    TEST_CASE("a program for several cores ends with a sentence") {
        Forked child{[] {
            if (!leave_no_threads()) return can_not;
            const int status = run_on_cores(3, [](unsigned) -> task<> {
                std::puts("it ran");
                co_return;
            });
            [[maybe_unused]] const int root_again = ::seteuid(0);
            return status;
        }};
        CHECK(child.wait() == 1);
        CHECK(child.output().starts_with("torc: there can be no thread for core 1: "));
        CHECK(child.output().find("it ran") == std::string::npos);
    }
}
