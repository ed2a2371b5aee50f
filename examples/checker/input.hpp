#pragma once

#include <cstdint>
#include <deque>
#include <optional>
#include <string>
#include <vector>

#include <torc/http/url.hpp>
#include <torc/runtime/task.hpp>

#include "options.hpp"

/// Where the URLs come from.
namespace checker {

/// Something to check: its name as the person wrote it, and the URL it means, or why it means none.
struct Target {
    std::string name;
    torc::result<torc::http::Url> url;
};

/// The lines of a file or a pipe, one buffer at a time.
class LineReader {
   public:
    /// Takes the descriptor over, unless it is standard input.
    LineReader(std::string name, int file_descriptor);
    LineReader(const LineReader&) = delete;
    LineReader& operator=(const LineReader&) = delete;
    ~LineReader();

    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] int file_descriptor() const noexcept { return file_descriptor_; }
    /// Reading never waits, and can be repeated from the beginning.
    [[nodiscard]] bool repeatable() const noexcept { return begin_ >= 0; }
    void rewind();

    /// The next line that was read already, stripped of comments and spaces; empty lines are skipped. Of a line that is
    /// too long to be a URL comes its beginning, which is too long as well, unless a comment begins in it.
    /// Lifetime: until the next call.
    std::optional<std::string_view> take();
    [[nodiscard]] std::uint64_t line_number() const noexcept { return line_number_; }
    /// Reads on; false at the end.
    /// Errors: `Error`.
    bool fill();

   private:
    std::string name_;
    int file_descriptor_;
    std::int64_t begin_ = -1;
    std::string buffer_;
    std::size_t taken_bytes_ = 0;
    std::uint64_t line_number_ = 0;
    bool skipping_ = false;  // the rest of a line that was too long
    bool ended_ = false;
};

/// All that is to be checked: URLs of the command line, lines of files and of standard input. Holds no more of them
/// than a buffer takes, however many there are.
class Input {
   public:
    /// Opens every file, and reads those through that can be read again.
    /// Errors: UsageError for a file that is missing or has a line that is not a URL.
    explicit Input(const Options& options);

    /// The next one; nothing at the end.
    /// Errors: `Error` when reading fails; `cancelled` unwinds.
    [[nodiscard]] torc::task<std::optional<Target>> next();

    /// How many there are, if that is known by now.
    [[nodiscard]] std::optional<std::uint64_t> total() const noexcept;

   private:
    void add(const std::string& path);
    std::uint64_t examine(LineReader& lines);

    std::vector<std::string> urls_;
    std::size_t next_url_ = 0;
    std::deque<LineReader> lists_;
    std::uint64_t known_ = 0;
    std::uint64_t given_ = 0;
    bool countable_ = true;
};

}  // namespace checker
