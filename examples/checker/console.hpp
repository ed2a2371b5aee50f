#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include <torc/runtime/event.hpp>
#include <torc/runtime/task.hpp>

namespace checker {

/// Standard output and standard error, written by one task in the order in which it was said, a batch at a time, so
/// that lines do not mix and nobody waits for a slow reader; and on a terminal a status line below them.
class Console {
   public:
    Console();
    Console(const Console&) = delete;
    Console& operator=(const Console&) = delete;

    void out(std::string_view lines) { say(1, lines); }
    void error(std::string_view lines) { say(2, lines); }

    /// Whether standard error is a terminal that can show a status line, and whether in colour.
    [[nodiscard]] bool has_status() const noexcept { return has_status_; }
    [[nodiscard]] bool has_colour() const noexcept { return has_colour_; }
    /// Replaces the status line; an empty one takes it away.
    void status(std::string line);

    /// Waits while more is waiting to be written than memory should hold.
    [[nodiscard]] torc::task<> room();

    /// Writes what is said, as it is said, until `end` and everything is written.
    /// Errors: `Error` when standard output can not be written. `cancelled` unwinds; the rest is left to `finish`.
    [[nodiscard]] torc::task<> serve();
    void end() noexcept;

    /// Writes what is left, blocking, and takes the status line away. What fails now is lost.
    void finish() noexcept;

   private:
    struct Piece {
        int file_descriptor;
        std::string text;
    };

    void say(int file_descriptor, std::string_view text);
    void draw_batch();

    std::vector<Piece> waiting_;
    std::vector<Piece> writing_;
    std::size_t written_pieces_ = 0;  // of `writing_`
    std::size_t written_bytes_ = 0;   // of the piece after those
    std::size_t waiting_bytes_ = 0;
    torc::event work_;
    torc::event room_{true};
    std::string status_;
    std::string shown_status_;
    bool has_status_;
    bool has_colour_;
    bool ended_ = false;
};

}  // namespace checker
