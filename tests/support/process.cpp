#include "process.hpp"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <stdexcept>
#include <utility>

extern char** environ;

// Theory of operation. Both ends of the pipes are close-on-exec, so that no other child keeps them open; the child gets
// its copies through the spawn's file actions. The end of the output stands for the end of the program, which makes
// waiting for either a matter of one poll with a deadline.

namespace torc::testing {

namespace {

using Clock = std::chrono::steady_clock;

std::array<int, 2> make_pipe() {
    std::array<int, 2> ends{};
    if (::pipe2(ends.data(), O_CLOEXEC) != 0) throw std::runtime_error(std::string("pipe: ") + std::strerror(errno));
    return ends;
}

}  // namespace

bool has_program(std::string_view name) {
    const char* path = std::getenv("PATH");
    std::istringstream directories{path != nullptr ? path : ""};
    for (std::string directory; std::getline(directories, directory, ':');) {
        const std::string candidate = directory + "/" + std::string(name);
        if (::access(candidate.c_str(), X_OK) == 0) return true;
    }
    return false;
}

Process::Process(const std::vector<std::string>& arguments, int pipe_bytes) : name_(arguments.at(0)) {
    const auto [child_input, input] = make_pipe();
    const auto [from, child_output] = make_pipe();
    input_ = input;
    from_ = from;
    if (pipe_bytes > 0) ::fcntl(from_, F_SETPIPE_SZ, pipe_bytes);
    std::vector<char*> words;
    for (const std::string& argument : arguments) words.push_back(const_cast<char*>(argument.c_str()));
    words.push_back(nullptr);
    posix_spawn_file_actions_t actions;
    ::posix_spawn_file_actions_init(&actions);
    ::posix_spawn_file_actions_adddup2(&actions, child_input, STDIN_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, child_output, STDOUT_FILENO);
    ::posix_spawn_file_actions_adddup2(&actions, child_output, STDERR_FILENO);
    const int failed = ::posix_spawnp(&pid_, words[0], &actions, nullptr, words.data(), environ);
    ::posix_spawn_file_actions_destroy(&actions);
    ::close(child_input);
    ::close(child_output);
    if (failed != 0) {
        pid_ = -1;
        close_input();
        ::close(from_);
        throw std::runtime_error("starting " + name_ + ": " + std::strerror(failed));
    }
}

Process::~Process() {
    close_input();
    ::close(from_);
    if (pid_ < 0) return;
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, nullptr, 0);
}

void Process::fail(const std::string& what) const {
    throw std::runtime_error(name_ + ": " + what + "; it has printed:\n" + output_);
}

bool Process::read_until(Clock::time_point deadline) {
    for (;;) {
        const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now()).count();
        pollfd waiting{from_, POLLIN, 0};
        const int ready = ::poll(&waiting, 1, static_cast<int>(left > 0 ? left : 0));
        if (ready < 0 && errno == EINTR) continue;
        if (ready == 0) fail("nothing more came in time");
        std::array<char, 4096> buffer;
        const ssize_t got = ::read(from_, buffer.data(), buffer.size());
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        output_.append(buffer.data(), static_cast<std::size_t>(got));
        return true;
    }
}

std::string Process::wait_for(std::string_view text, std::chrono::seconds limit) {
    const auto deadline = Clock::now() + limit;
    for (;;) {
        const std::size_t at = output_.find(text);
        const std::size_t end = at == std::string::npos ? at : output_.find('\n', at);
        if (end != std::string::npos) return output_.substr(at + text.size(), end - at - text.size());
        if (!read_until(deadline)) fail("it ended without a line with \"" + std::string(text) + "\"");
    }
}

bool Process::wait_for_lines(std::size_t count, std::chrono::seconds limit) {
    const auto deadline = Clock::now() + limit;
    while (static_cast<std::size_t>(std::count(output_.begin(), output_.end(), '\n')) < count) {
        if (!read_until(deadline)) return false;
    }
    return true;
}

int Process::wait(std::chrono::seconds limit) {
    const auto deadline = Clock::now() + limit;
    while (read_until(deadline)) {
    }
    int status = 0;
    while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
    }
    pid_ = -1;
    ended_by_ = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void Process::write(std::string_view text) {
    while (!text.empty()) {
        const ssize_t n = ::write(input_, text.data(), text.size());
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail(std::string("writing to it: ") + std::strerror(errno));
        text.remove_prefix(static_cast<std::size_t>(n));
    }
}

void Process::close_input() noexcept {
    if (input_ >= 0) ::close(std::exchange(input_, -1));
}

void Process::signal(int number) noexcept {
    if (pid_ > 0) ::kill(pid_, number);
}

TemporaryDirectory::TemporaryDirectory()
    : path_((std::filesystem::temp_directory_path() / "torc-test-XXXXXX").string()) {
    if (::mkdtemp(path_.data()) == nullptr) {
        throw std::runtime_error("making a temporary directory: " + std::string(std::strerror(errno)));
    }
}

TemporaryDirectory::~TemporaryDirectory() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
}

std::string TemporaryDirectory::file(std::string_view name, std::string_view content) const {
    std::string path = path_ + "/" + std::string(name);
    std::ofstream out{path, std::ios::binary};
    out << content;
    if (!out.flush()) throw std::runtime_error("writing " + path);
    return path;
}

}  // namespace torc::testing
