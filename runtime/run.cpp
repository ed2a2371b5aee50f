#include <torc/runtime/run.hpp>

#include <fmt/format.h>

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdio>
#include <optional>
#include <thread>

#include "uncaught.hpp"

// Theory of operation. A signal handler may do next to nothing, so ours counts and wakes the executor through a posted
// record, which is a lock-free push and one write to an eventfd (of the simulation, one sem_post): all allowed there.
// The record is pushed only when it is not on its way already. A handler may run on any thread of the process; the
// executor is not let go of while one does.

namespace torc {
namespace {

struct SignalWork : posted {
    std::atomic<Executor*> executor = nullptr;
    std::atomic<int> handlers = 0;  // that run now, on any thread
    std::atomic<bool> on_its_way = false;
    std::atomic<int> ending = 0;  // the signal that asked for the end
    std::atomic<bool> dump = false;
};
SignalWork signal_work;

void say(const std::string& text) noexcept { std::fputs(text.c_str(), stderr); }

void act(posted&) noexcept {
    signal_work.on_its_way = false;
    Executor& executor = Executor::here();
    if (signal_work.dump.exchange(false)) say(executor.dump_tasks());
    if (signal_work.ending != 0) executor.cancel_root();
}

void on_signal(int number) {
    if (number == SIGUSR1) {
        signal_work.dump = true;
    } else if (signal_work.ending.exchange(number) != 0) {
        // Asked twice: the default action, which ends the process.
        std::signal(number, SIG_DFL);
        std::raise(number);
        return;
    }
    const int interrupted = errno;
    ++signal_work.handlers;
    Executor* const executor = signal_work.executor;
    if (executor != nullptr && !signal_work.on_its_way.exchange(true)) executor->post(signal_work);
    --signal_work.handlers;
    errno = interrupted;
}

/// Takes the signals over for as long as it lives.
class Signals {
   public:
    explicit Signals(Executor& executor) {
        TORC_ASSERT(signal_work.executor == nullptr, "torc::run was called while another one is running");
        signal_work.executor = &executor;
        signal_work.run = act;
        signal_work.ending = 0;
        struct sigaction action{};
        action.sa_handler = on_signal;
        action.sa_flags = SA_RESTART;
        for (Saved& each : saved_) ::sigaction(each.number, &action, &each.before);
    }
    ~Signals() {
        for (const Saved& each : saved_) ::sigaction(each.number, &each.before, nullptr);
        signal_work.executor = nullptr;
        while (signal_work.handlers != 0) std::this_thread::yield();  // on other threads, which will be through at once
        signal_work.on_its_way = false;
    }

   private:
    struct Saved {
        int number;
        struct sigaction before{};
    };
    Saved saved_[3] = {{SIGINT, {}}, {SIGTERM, {}}, {SIGUSR1, {}}};
};

template <class T>
int run_program(task<T> root, const ExecutorOptions& options) {
    std::optional<Executor> executor;
    try {
        executor.emplace(options);
        const Signals signals{*executor};
        if constexpr (std::is_void_v<T>) {
            executor->run(std::move(root));
            return 0;
        } else {
            return executor->run(std::move(root));
        }
    } catch (const cancelled&) {
        const int number = signal_work.ending;
        return number != 0 ? 128 + number : 1;
    } catch (...) {
        const auto [what, trace] = detail::uncaught(std::current_exception(), executor ? &*executor : nullptr);
        say(fmt::format("torc: {}{}\n{}", executor ? "uncaught error: " : "", what, trace));
    }
    return 1;
}

}  // namespace

int run(task<> root, const ExecutorOptions& options) { return run_program(std::move(root), options); }
int run(task<int> root, const ExecutorOptions& options) { return run_program(std::move(root), options); }

}  // namespace torc
