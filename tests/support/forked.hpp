#pragma once

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <functional>
#include <stdexcept>
#include <string>
#include <string_view>

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

/// Writes down which lines this process ran, if that is counted (./dev coverage); `_exit` does not.
extern "C" [[gnu::weak]] void __gcov_dump();

/// A part of a test that runs in a process of its own, because it ends the process or changes it for good.
namespace torc::test {

class Forked {
   public:
    /// Forks; the child calls `body` and exits with what it returns. What it prints is collected here.
    /// Requires: no other thread runs. A child that takes longer than `limit_seconds` is ended by SIGALRM.
    explicit Forked(const std::function<int()>& body, unsigned limit_seconds = 20) {
        int ends[2];
        if (::pipe2(ends, O_CLOEXEC) != 0) throw std::runtime_error("no pipe");
        std::fflush(nullptr);
        pid_ = ::fork();
        if (pid_ == 0) {
            for (const int number : {SIGABRT, SIGINT, SIGTERM, SIGSEGV, SIGUSR1, SIGALRM}) std::signal(number, SIG_DFL);
            ::alarm(limit_seconds);
            ::dup2(ends[1], STDOUT_FILENO);
            ::dup2(ends[1], STDERR_FILENO);
            int status = 99;
            try {
                status = body();
            } catch (const std::exception& error) {
                std::fprintf(stderr, "uncaught: %s\n", error.what());
            }
            std::fflush(nullptr);
            if (__gcov_dump != nullptr) __gcov_dump();
            ::_exit(status);
        }
        ::close(ends[1]);
        from_ = ends[0];
    }
    Forked(const Forked&) = delete;
    Forked& operator=(const Forked&) = delete;
    ~Forked() {
        if (pid_ > 0) {
            ::kill(pid_, SIGKILL);
            ::waitpid(pid_, nullptr, 0);
        }
        ::close(from_);
    }

    /// Blocks until it has printed `text`; false if it ended without.
    bool wait_for(std::string_view text) {
        while (output_.find(text) == std::string::npos) {
            if (!read()) return false;
        }
        return true;
    }
    /// Sends it a signal, as soon as it waits in the kernel or has ended: ThreadSanitizer keeps a signal that comes
    /// just before a call it does not know, such as epoll_pwait2, until that call returns.
    void signal(int number) const {
        for (char state = 'R'; state == 'R' || state == 'D';) {
            std::ifstream file{"/proc/" + std::to_string(pid_) + "/stat"};
            std::string before;
            if (!std::getline(file, before, ')') || !(file >> state)) break;
        }
        ::kill(pid_, number);
    }

    /// Waits for its end. Gives the exit status, or minus the signal that ended it.
    int wait() {
        while (read()) {
        }
        int status = 0;
        ::waitpid(pid_, &status, 0);
        pid_ = -1;
        return WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status);
    }
    [[nodiscard]] const std::string& output() const noexcept { return output_; }

   private:
    bool read() {
        char buffer[4096];
        const ssize_t count = ::read(from_, buffer, sizeof buffer);
        if (count > 0) output_.append(buffer, static_cast<std::size_t>(count));
        return count > 0;
    }

    pid_t pid_ = -1;
    int from_ = -1;
    std::string output_;
};

}  // namespace torc::test
