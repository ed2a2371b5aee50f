#pragma once

#include <chrono>
#include <string>
#include <string_view>
#include <vector>

#include <sys/types.h>

/// Programs that tests run beside themselves: real peers such as openssl, curl, nginx.
namespace torc::testing {

/// Whether a program of this name is in PATH.
bool has_program(std::string_view name);

/// A child process whose standard output and standard error are collected together.
/// Lifetime: killed and reaped by the destructor, if it has not ended by then.
/// Requires: one thread at a time. The waits block the thread: inside tasks call them through `offload`.
/// Errors:   std::runtime_error, with what the program has printed so far, when it can not be started or a wait takes
///           longer than its limit.
class Process {
   public:
    /// With `pipe_bytes` the pipe of its output holds no more than that (a page at least): it has to wait to be read.
    explicit Process(const std::vector<std::string>& arguments, int pipe_bytes = 0);
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;
    ~Process();

    /// Waits until the output contains `text`, and returns the rest of that line.
    std::string wait_for(std::string_view text, std::chrono::seconds limit = std::chrono::seconds{20});
    /// Waits until it has printed so many lines; false if it ended before.
    bool wait_for_lines(std::size_t count, std::chrono::seconds limit = std::chrono::seconds{20});
    /// Waits for its end, and returns its exit status, or 128 and the signal that ended it.
    int wait(std::chrono::seconds limit = std::chrono::seconds{20});

    /// Writes to its standard input.
    void write(std::string_view text);
    /// Ends its standard input.
    void close_input() noexcept;
    void signal(int number) noexcept;

    [[nodiscard]] const std::string& output() const noexcept { return output_; }
    [[nodiscard]] pid_t pid() const noexcept { return pid_; }
    /// The signal that ended it; 0 if it ended by itself. Requires: `wait` has returned.
    [[nodiscard]] int ended_by() const noexcept { return ended_by_; }

   private:
    /// Reads once. False at the end of the output.
    bool read_until(std::chrono::steady_clock::time_point deadline);
    [[noreturn]] void fail(const std::string& what) const;

    std::string name_;
    std::string output_;
    pid_t pid_ = -1;
    int input_ = -1;
    int from_ = -1;
    int ended_by_ = 0;
};

/// A directory for files that a peer has to read; removed with all that is in it.
class TemporaryDirectory {
   public:
    TemporaryDirectory();
    TemporaryDirectory(const TemporaryDirectory&) = delete;
    TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;
    ~TemporaryDirectory();

    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    /// Writes a file and returns its path.
    [[nodiscard]] std::string file(std::string_view name, std::string_view content) const;

   private:
    std::string path_;
};

}  // namespace torc::testing
