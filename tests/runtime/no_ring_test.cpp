#include <doctest/doctest.h>

#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <forked.hpp>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <steps.hpp>
#include <string>
#include <vector>

#include <torc/runtime/run.hpp>

// Goal: where io_uring can not be had, a program says why, in one line that tells what to change, and goes on with
// epoll, unless it was told to insist. Method: children that are hindered in each of the ways there are, by a filter of
// system calls, by a limit, or by what they are shown of /proc; the machine itself is left as it is.

namespace {

using torc::task;
using namespace torc::test;

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool sanitized = true;
#elif defined(__has_feature)
constexpr bool sanitized = __has_feature(address_sanitizer) || __has_feature(thread_sanitizer);
#else
constexpr bool sanitized = false;
#endif

constexpr int can_not = 77;
struct unable : std::exception {};

/// From here on `number` fails with `error` in this process; with `first`, only where that is the second argument.
void refuse(unsigned number, int error, int second = -1) {
    const auto skip = static_cast<std::uint8_t>(second < 0 ? 1 : 3);
    std::vector<sock_filter> filter{
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, number, 0, skip),
    };
    if (second >= 0) {
        filter.push_back(BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(seccomp_data, args[1])));
        filter.push_back(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, static_cast<unsigned>(second), 0, 1));
    }
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | static_cast<unsigned>(error)));
    filter.push_back(BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW));
    const sock_fprog program{.len = static_cast<unsigned short>(filter.size()), .filter = filter.data()};
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || ::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
        throw std::runtime_error("no filter");
    }
}

/// This process sees the sysctl with that value, and is refused what it then would be.
void switch_off(int value) {
    const char* const sysctl = "/proc/sys/kernel/io_uring_disabled";
    std::string shown = (std::filesystem::temp_directory_path() / "torc-no-ring-XXXXXX").string();
    const int fd = ::mkstemp(shown.data());
    if (fd < 0) throw std::runtime_error("no file");
    ::close(fd);
    std::ofstream{shown} << value << '\n';
    const bool done = ::unshare(CLONE_NEWNS) == 0 && ::mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                      ::mount(shown.c_str(), sysctl, nullptr, MS_BIND, nullptr) == 0;
    ::unlink(shown.c_str());
    if (!done) throw unable{};
    refuse(SYS_io_uring_setup, EPERM);
}

void leave_descriptors(unsigned count) {
    const int next = ::dup(0);
    ::close(next);
    const rlimit few{.rlim_cur = static_cast<rlim_t>(next) + count, .rlim_max = static_cast<rlim_t>(next) + count};
    ::setrlimit(RLIMIT_NOFILE, &few);
}

task<> say_driver() {
    std::fprintf(stderr, "driver %s\n", std::string{torc::Executor::here().driver().name()}.c_str());
    co_await driver_turns(1);
}

struct Said {
    int status = 0;
    std::string text;
};

/// What a hindered program says that runs twice, on the driver of this name or on its own choice.
Said hindered(const std::function<void()>& hinder, const char* driver) {
    Forked child{[&] {
        driver != nullptr ? ::setenv("TORC_DRIVER", driver, 1) : ::unsetenv("TORC_DRIVER");
        try {
            hinder();
        } catch (const unable&) {
            return can_not;
        }
        return std::max(torc::run(say_driver()), torc::run(say_driver()));
    }};
    const int status = child.wait();
    return {status, child.output()};
}

struct Hindrance {
    std::string name;
    std::function<void()> hinder;
    std::string why;
};

std::vector<Hindrance> hindrances() {
    const std::string memory =
        "there is no memory for it, or too little that may be locked (raise that: ulimit -l, or LimitMEMLOCK=)";
    const std::string seccomp =
        "it is forbidden here, probably by a seccomp filter such as a container's default profile; allow "
        "io_uring_setup, io_uring_enter and io_uring_register";
    const std::string old = "this kernel is too old for it; Linux 5.19 or later is needed";
    return {
        {"a filter", [] { refuse(SYS_io_uring_setup, EPERM); }, seccomp},
        {"a filter in other words", [] { refuse(SYS_io_uring_setup, EACCES); }, seccomp},
        {"a filter of the other calls", [] { refuse(SYS_io_uring_register, EPERM); }, seccomp},
        {"a kernel without it, or a filter that says so", [] { refuse(SYS_io_uring_setup, ENOSYS); },
         "this kernel has no io_uring; Linux 5.19 or later is needed"},
        {"too little memory that may be locked", [] { refuse(SYS_io_uring_setup, ENOMEM); }, memory},
        {"too little memory for the buffers", [] { refuse(SYS_io_uring_register, ENOMEM, IORING_REGISTER_PBUF_RING); },
         memory},
        {"a kernel that has no rings of buffers",
         [] { refuse(SYS_io_uring_register, EINVAL, IORING_REGISTER_PBUF_RING); }, old},
        {"a kernel that can not be probed", [] { refuse(SYS_io_uring_register, EINVAL, IORING_REGISTER_PROBE); }, old},
        {"a kernel that knows none of our flags", [] { refuse(SYS_io_uring_setup, EINVAL); }, old},
        {"a sysctl that leaves it to some", [] { switch_off(1); },
         "it is switched off here but for root and the group that sysctl kernel.io_uring_group names "
         "(sysctl kernel.io_uring_disabled=0 allows it)"},
        {"a sysctl that leaves it to nobody", [] { switch_off(2); },
         "it is switched off here (sysctl kernel.io_uring_disabled=0 allows it)"},
    };
}

}  // namespace

TEST_SUITE("no ring") {
    TEST_CASE("a program says in one line why there is no io_uring, and runs on epoll") {
        for (const auto& [name, hinder, why] : hindrances()) {
            CAPTURE(name);
            const Said said = hindered(hinder, nullptr);
            if (said.status == can_not) {
                MESSAGE("skipped: only root can show a process another /proc");
                return;
            }
            CHECK(said.status == 0);
            CHECK(said.text == "torc: running on epoll, because io_uring can not be used: " + why +
                                   "\ndriver epoll\ndriver epoll\n");
        }
    }

    TEST_CASE("a program that insists on io_uring ends and says what to change") {
        for (const auto& [name, hinder, why] : hindrances()) {
            CAPTURE(name);
            const Said said = hindered(hinder, "uring");
            if (said.status == can_not) {
                MESSAGE("skipped: only root can show a process another /proc");
                return;
            }
            const std::string line = "torc: io_uring was asked for but can not be used: " + why + "\n";
            CHECK(said.status == 1);
            CHECK(said.text == line + line);
        }
    }

    TEST_CASE("a program that has no descriptor left for it says so") {
        if (sanitized) {
            MESSAGE("skipped: a sanitizer needs descriptors of its own to look at memory");
            return;
        }
        CHECK(hindered([] { leave_descriptors(0); }, "uring")
                  .text.starts_with("torc: io_uring was asked for but can not be used: Too many open files\n"));
        CHECK(
            hindered([] { leave_descriptors(1); }, "uring")
                .text.starts_with("torc: io_uring was asked for but can not be used: no descriptor is left for it\n"));
        CHECK(hindered([] { leave_descriptors(2); }, "uring").text == "driver uring\ndriver uring\n");
    }

    TEST_CASE("what can be done without is no reason to say anything") {
        const auto no_table = [] { refuse(SYS_io_uring_register, EPERM, IORING_REGISTER_FILES2); };
        CHECK(hindered(no_table, "uring").text == "driver uring\ndriver uring\n");
        CHECK(hindered(no_table, nullptr).text == "driver uring\ndriver uring\n");
    }

    TEST_CASE("what hinders io_uring is nothing to a program on epoll") {
        const auto forbidden = [] { refuse(SYS_io_uring_setup, EPERM); };
        CHECK(hindered(forbidden, "epoll").text == "driver epoll\ndriver epoll\n");
    }
}
