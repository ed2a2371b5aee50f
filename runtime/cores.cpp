#include <torc/runtime/cores.hpp>

#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <mutex>
#include <string>
#include <system_error>
#include <thread>
#include <vector>

#include "uncaught.hpp"

// Theory of operation. Core 0 runs under `torc::run`, which has the signals. Whichever core ends otherwise than by
// returning cancels all others, by posting to their executors; an executor is on the list, under a lock, for as long as
// it may be posted to. One that comes onto the list after the cancelling began is cancelled as it starts.

namespace torc {
namespace {

class Cores {
   public:
    /// Puts an executor on the list for as long as it lives.
    class Member {
       public:
        Member(Cores& all, Executor& executor) : all_(all), executor_(executor) {
            const std::lock_guard lock{all_.mutex_};
            all_.members_.push_back(&executor_);
            if (all_.ending_) cancel(executor_);
        }
        Member(const Member&) = delete;
        Member& operator=(const Member&) = delete;
        ~Member() {
            const std::lock_guard lock{all_.mutex_};
            std::erase(all_.members_, &executor_);
        }

       private:
        Cores& all_;
        Executor& executor_;
    };

    void cancel_all() {
        const std::lock_guard lock{mutex_};
        ending_ = true;
        for (Executor* each : members_) cancel(*each);
    }
    void failed() noexcept { failed_ = true; }
    [[nodiscard]] bool any_failed() const noexcept { return failed_; }

   private:
    static void cancel(Executor& executor) {
        executor.post([&executor] { executor.cancel_root(); });
    }

    std::mutex mutex_;
    std::vector<Executor*> members_;
    bool ending_ = false;
    std::atomic<bool> failed_ = false;
};

/// Passes an end by exception on to the other cores.
task<> guarded(Cores& all, const std::function<task<>(unsigned)>& root, unsigned core) {
    const Cores::Member member{all, Executor::here()};
    struct CancelUnlessGood {
        Cores& all;
        bool good = false;
        ~CancelUnlessGood() {
            if (!good) all.cancel_all();
        }
    } end{all};
    task<> mine = root(core);
    co_await std::move(mine);
    end.good = true;
}

void run_core(Cores& all, const std::function<task<>(unsigned)>& root, unsigned core, const ExecutorOptions& options) {
    std::string what;
    try {
        Executor executor{options};
        try {
            executor.run(guarded(all, root, core));
            return;
        } catch (const cancelled&) {
            return;
        } catch (...) {
            const detail::Uncaught told = detail::uncaught(std::current_exception(), &executor);
            what = told.what + "\n" + told.trace;
        }
    } catch (const std::exception& error) {
        what = std::string{error.what()} + "\n";
        all.cancel_all();
    }
    all.failed();
    std::fprintf(stderr, "torc: uncaught error on core %u: %s", core, what.c_str());
}

unsigned usable_cores() noexcept {
    cpu_set_t set;
    CPU_ZERO(&set);
    if (::sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    return static_cast<unsigned>(std::max(CPU_COUNT(&set), 1));
}

}  // namespace

int run_on_cores(unsigned cores, const std::function<task<>(unsigned core)>& root, const ExecutorOptions& options) {
    if (cores == 0) cores = usable_cores();
    Cores all;
    std::vector<std::thread> threads;
    threads.reserve(cores - 1);
    int status = 1;
    try {
        for (unsigned core = 1; core < cores; ++core) {
            threads.emplace_back([&all, &root, core, &options] { run_core(all, root, core, options); });
        }
        status = run(guarded(all, root, 0), options);
    } catch (const std::system_error& error) {
        std::fprintf(stderr, "torc: there can be no thread for core %zu: %s\n", threads.size() + 1, error.what());
    }
    if (status != 0) all.cancel_all();
    for (std::thread& thread : threads) thread.join();
    return status == 0 && all.any_failed() ? 1 : status;
}

}  // namespace torc
