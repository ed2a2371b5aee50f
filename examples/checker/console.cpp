#include "console.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "ready.hpp"

// Theory of operation. What is said collects in `waiting_` while the batch before it is written: under load batches
// grow by themselves, without it every line leaves at once. A pipe that says it can be written takes at least 4096
// bytes without blocking, so no more than that is written at a time. The status line is part of the batches: erased
// before what is said, drawn again behind it. The batch being written is a member, so that a cancelled writer loses
// nothing: `finish` goes on where it stopped.

namespace checker {
namespace {

constexpr std::size_t piece_bytes = 4096;  // PIPE_BUF of Linux
constexpr std::size_t most_waiting_bytes = 1024 * 1024;
constexpr std::string_view erase_line = "\r\x1b[K";

bool is_set(const char* name) {
    const char* const value = std::getenv(name);
    return value != nullptr && *value != '\0';
}

bool is_dumb_terminal() { return !is_set("TERM") || std::strcmp(std::getenv("TERM"), "dumb") == 0; }

/// The number of bytes written, or a negative errno.
ssize_t write_some(int file_descriptor, std::string_view text) noexcept {
    ssize_t count = 0;
    do {
        count = ::write(file_descriptor, text.data(), std::min(text.size(), piece_bytes));
    } while (count < 0 && errno == EINTR);
    return count < 0 ? -errno : count;
}

}  // namespace

Console::Console()
    : has_status_(::isatty(STDERR_FILENO) != 0 && !is_dumb_terminal()),
      has_colour_(has_status_ && !is_set("NO_COLOR")) {}

void Console::say(int file_descriptor, std::string_view text) {
    if (waiting_.empty() || waiting_.back().file_descriptor != file_descriptor) {
        waiting_.push_back({file_descriptor, {}});
    }
    waiting_.back().text += text;
    waiting_bytes_ += text.size();
    if (waiting_bytes_ > most_waiting_bytes) room_.reset();
    work_.set();
}

void Console::status(std::string line) {
    if (!has_status_ || line == status_) return;
    status_ = std::move(line);
    work_.set();
}

torc::task<> Console::room() { co_await room_.wait(); }

void Console::end() noexcept {
    ended_ = true;
    work_.set();
}

/// Makes the next batch of what is waiting, with the status line around it.
void Console::draw_batch() {
    writing_.clear();
    written_pieces_ = written_bytes_ = 0;
    if (!shown_status_.empty()) writing_.push_back({STDERR_FILENO, std::string{erase_line}});
    for (Piece& piece : waiting_) writing_.push_back(std::move(piece));
    waiting_.clear();
    waiting_bytes_ = 0;
    room_.set();
    if (!status_.empty()) writing_.push_back({STDERR_FILENO, status_});
    shown_status_ = status_;
}

torc::task<> Console::serve() {
    for (;;) {
        co_await work_.wait();
        work_.reset();
        if (waiting_.empty() && status_ == shown_status_) {
            if (ended_) co_return;
            continue;
        }
        draw_batch();
        for (; written_pieces_ < writing_.size(); ++written_pieces_, written_bytes_ = 0) {
            const Piece& piece = writing_[written_pieces_];
            while (written_bytes_ < piece.text.size()) {
                co_await ready(piece.file_descriptor, POLLOUT);
                const ssize_t count =
                    write_some(piece.file_descriptor, std::string_view{piece.text}.substr(written_bytes_));
                if (count >= 0) {
                    written_bytes_ += static_cast<std::size_t>(count);
                } else if (count != -EAGAIN && piece.file_descriptor == STDERR_FILENO) {
                    break;  // with nobody left to complain to
                } else if (count != -EAGAIN) {
                    const auto error = static_cast<int>(-count);
                    writing_.clear();
                    throw torc::Error{std::error_code{error, std::generic_category()}, torc::phase::none, "write",
                                      fmt::format("standard output: {}", std::strerror(error))};
                }
            }
        }
        if (ended_) work_.set();
    }
}

void Console::finish() noexcept {
    status_.clear();
    const auto write_rest = [this] {
        for (; written_pieces_ < writing_.size(); ++written_pieces_, written_bytes_ = 0) {
            const Piece& piece = writing_[written_pieces_];
            while (written_bytes_ < piece.text.size()) {
                const ssize_t count =
                    write_some(piece.file_descriptor, std::string_view{piece.text}.substr(written_bytes_));
                if (count == -EAGAIN) {
                    pollfd until{piece.file_descriptor, POLLOUT, 0};
                    ::poll(&until, 1, -1);
                } else if (count < 0) {
                    break;
                } else {
                    written_bytes_ += static_cast<std::size_t>(count);
                }
            }
        }
    };
    write_rest();
    draw_batch();
    write_rest();
}

}  // namespace checker
