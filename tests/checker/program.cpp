#include "program.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>
#include <sstream>
#include <stdexcept>

extern char** environ;

// Theory of operation. Three pipes, served by one poll: input is written as the program takes it, output is read as it
// comes, so that neither side can wait for the other in vain. The ends of both outputs stand for the program's end.

namespace torc::testing {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::seconds limit{300};  // generous: sanitizers, and machines shared with others

struct Pipe {
    Pipe() {
        if (::pipe2(ends.data(), O_CLOEXEC) != 0)
            throw std::runtime_error(std::string("pipe: ") + std::strerror(errno));
    }
    ~Pipe() {
        close(0);
        close(1);
    }
    Pipe(const Pipe&) = delete;
    Pipe& operator=(const Pipe&) = delete;
    void close(std::size_t end) {
        if (ends[end] >= 0) ::close(ends[end]);
        ends[end] = -1;
    }
    std::array<int, 2> ends{};
};

pid_t start(std::vector<std::string>& arguments, const Pipe& in, const Pipe& out, const Pipe& err) {
    std::vector<char*> words;
    words.reserve(arguments.size() + 1);
    for (std::string& argument : arguments) words.push_back(argument.data());
    words.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, in.ends[0], STDIN_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, out.ends[1], STDOUT_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, err.ends[1], STDERR_FILENO);
    pid_t pid = -1;
    const int error = ::posix_spawnp(&pid, words[0], &actions, nullptr, words.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    if (error != 0) throw std::runtime_error(arguments[0] + ": " + std::strerror(error));
    return pid;
}

/// Reads once; closes the pipe at its end.
void read_from(Pipe& pipe, std::string& text) {
    std::array<char, 65536> piece;
    const ssize_t count = ::read(pipe.ends[0], piece.data(), piece.size());
    if (count > 0) {
        text.append(piece.data(), static_cast<std::size_t>(count));
    } else {
        pipe.close(0);
    }
}

}  // namespace

Ended run_program(std::vector<std::string> arguments, std::string_view input) {
    ::signal(SIGPIPE, SIG_IGN);
    Pipe in;
    Pipe out;
    Pipe err;
    Ended ended;
    const pid_t pid = start(arguments, in, out, err);
    in.close(0);
    out.close(1);
    err.close(1);
    ::fcntl(in.ends[1], F_SETFL, O_NONBLOCK);
    const Clock::time_point deadline = Clock::now() + limit;
    while (out.ends[0] >= 0 || err.ends[0] >= 0) {
        if (input.empty()) in.close(1);
        pollfd waits[] = {{in.ends[1], POLLOUT, 0}, {out.ends[0], POLLIN, 0}, {err.ends[0], POLLIN, 0}};
        ::poll(waits, 3, 1000);
        if (Clock::now() > deadline) {
            ::kill(pid, SIGKILL);
            ::waitpid(pid, nullptr, 0);
            throw std::runtime_error(arguments[0] + " did not end in time; it said:\n" + ended.out + ended.err);
        }
        if (waits[0].revents != 0) {
            const ssize_t count = ::write(in.ends[1], input.data(), input.size());
            if (count > 0) input.remove_prefix(static_cast<std::size_t>(count));
            if (count < 0 && errno == EPIPE) input = {};
        }
        if (waits[1].revents != 0) read_from(out, ended.out);
        if (waits[2].revents != 0) read_from(err, ended.err);
    }
    int status = 0;
    rusage used{};
    ::wait4(pid, &status, 0, &used);
    ended.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    ended.peak_kib = used.ru_maxrss;
    return ended;
}

std::string checker_path() { return TORC_CHECK_PROGRAM; }

Ended run_checker(std::vector<std::string> arguments, std::string_view input) {
    arguments.insert(arguments.begin(), checker_path());
    return run_program(std::move(arguments), input);
}

std::vector<std::string> sorted_lines(const std::string& text) {
    std::vector<std::string> lines;
    std::istringstream stream{text};
    for (std::string line; std::getline(stream, line);) lines.push_back(line);
    std::sort(lines.begin(), lines.end());
    return lines;
}

}  // namespace torc::testing
