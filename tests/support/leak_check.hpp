#pragma once

#include <doctest/doctest.h>

#include <cstddef>
#include <filesystem>
#include <functional>
#include <optional>
#include <string>
#include <type_traits>
#include <utility>

#include <torc/runtime/executor.hpp>
#include <torc/runtime/frame_pool.hpp>
#include <torc/runtime/task.hpp>

/// Runs a root task on an executor of its own and checks that it left nothing behind: no operation in flight, no
/// descriptor, close, timer or buffer, no coroutine frame. Everything that runs tasks in these tests goes through here.
namespace torc::test {

/// The process's open descriptors, a line each, and their number.
struct open_files {
    std::string list;
    std::size_t count = 0;

    static open_files now() {
        open_files found;
        std::error_code ignored;
        for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
            found.list += entry.path().filename().string() + " -> ";
            found.list += std::filesystem::read_symlink(entry.path(), ignored).string() + '\n';
            ++found.count;
        }
        return found;
    }
};

/// Notes what is open when it is made, and checks at its end that all is as it was.
/// Requires: the executor is made after it and destroyed before it.
class leak_check {
   public:
    explicit leak_check(std::ptrdiff_t frames_expected = detail::live_frames())
        : frames_expected_(frames_expected), files_(open_files::now()) {}
    leak_check(const leak_check&) = delete;
    leak_check& operator=(const leak_check&) = delete;
    ~leak_check() {
        const open_files files = open_files::now();
        INFO("open before:\n", files_.list, "open after:\n", files.list);
        CHECK_MESSAGE(files.count == files_.count, "descriptors of the process are back to what they were");
        CHECK_MESSAGE(detail::live_frames() == frames_expected_, "coroutine frames are back to what they were");
    }

    /// What an executor has to say after `run`.
    static void check(const Statistics& after) {
        CHECK_MESSAGE(after.in_flight == 0, "no operation is in flight");
        CHECK_MESSAGE(after.open_descriptors == 0, "no descriptor is open");
        CHECK_MESSAGE(after.open_closes == 0, "no close is under way");
        CHECK_MESSAGE(after.timers == 0, "no timer is armed");
        CHECK_MESSAGE(after.buffers_lent == 0, "no buffer is lent");
        CHECK_MESSAGE(after.waiting_for_buffer == 0, "nothing waits for a buffer");
    }

   private:
    std::ptrdiff_t frames_expected_;
    open_files files_;
};

namespace leak_check_detail {

template <class Make>
auto run_checked(std::ptrdiff_t frames_expected, const ExecutorOptions& options, Make&& make) {
    const leak_check leaks{frames_expected};
    Executor executor{options};
    struct check_at_end {
        Executor& executor;
        ~check_at_end() { leak_check::check(executor.statistics()); }
    } const check{executor};
    return executor.run(make());
}

}  // namespace leak_check_detail

/// Calls `make`, which returns a task (a lambda may capture: it outlives the task), runs that and returns its result.
/// The checks are made when it throws as well. The executor's driver is what TORC_DRIVER says.
template <class Make>
    requires std::is_invocable_v<Make&>
auto run_clean(Make&& make, const ExecutorOptions& options = {}) {
    return leak_check_detail::run_checked(detail::live_frames(), options, [&make] { return make(); });
}

/// The same for a task that exists already. Requires: no coroutine frame but those it owns are alive on this thread.
template <class T>
T run_clean(task<T> root, const ExecutorOptions& options = {}) {
    return leak_check_detail::run_checked(0, options, [&root] { return std::move(root); });
}

}  // namespace torc::test
