#include "input.hpp"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "ready.hpp"
#include "text.hpp"

// Theory of operation. What can be read twice, a regular file, also as standard input, is read through before anything
// is checked, so that a mistake in its last line is found while it costs nothing. A pipe is read as places become free:
// what is not read yet stays with whoever writes it. In both cases one buffer and one line is all that is held.

namespace checker {
namespace {

constexpr std::size_t read_bytes = 64 * 1024;
constexpr std::size_t longest_line_bytes = 64 * 1024;
constexpr std::string_view byte_order_mark = "\xEF\xBB\xBF";

[[noreturn]] void throw_usage(const std::string& name, int error) {
    throw UsageError{fmt::format("{} can not be read: {}", name, std::strerror(error))};
}

/// Where a comment begins: at a '#' that is the first of its line, or stands behind a space.
std::size_t comment_in(std::string_view line) noexcept {
    const std::size_t first = line.find_first_not_of(spaces);
    for (std::size_t at = line.find('#'); at != line.npos; at = line.find('#', at + 1)) {
        if (at == first || line[at - 1] == ' ' || line[at - 1] == '\t') return at;
    }
    return line.npos;
}

torc::result<torc::http::Url> parse_line(std::string_view line) {
    if (line.size() < longest_line_bytes) return parse_url(line);
    return std::unexpected{torc::Error{torc::http::errc::bad_url, torc::phase::none, {}, "the line is too long"}};
}

/// What a line asks for. One that is no URL is named by its beginning.
Target target_of(std::string_view line) {
    constexpr std::size_t longest_shown = 200;
    auto url = parse_line(line);
    return {one_line(line, url ? line.npos : longest_shown), std::move(url)};
}

}  // namespace

LineReader::LineReader(std::string name, int file_descriptor)
    : name_(std::move(name)), file_descriptor_(file_descriptor) {
    struct stat status{};
    if (::fstat(file_descriptor, &status) == 0 && S_ISREG(status.st_mode)) {
        begin_ = ::lseek(file_descriptor, 0, SEEK_CUR);
    }
}

LineReader::~LineReader() {
    if (file_descriptor_ != STDIN_FILENO) ::close(file_descriptor_);
}

void LineReader::rewind() {
    if (::lseek(file_descriptor_, begin_, SEEK_SET) < 0) throw_usage(name_, errno);
    buffer_.clear();
    taken_bytes_ = 0;
    line_number_ = 0;
    skipping_ = ended_ = false;
}

std::optional<std::string_view> LineReader::take() {
    for (;;) {
        const std::string_view left = std::string_view{buffer_}.substr(taken_bytes_);
        const std::size_t line_feed = left.find('\n');
        const bool ends_here = line_feed != left.npos;
        if (skipping_) {
            taken_bytes_ += ends_here ? line_feed + 1 : left.size();
            skipping_ = !ends_here;
            if (skipping_) return std::nullopt;
            continue;
        }
        const std::size_t mark_bytes =
            line_number_ == 0 && left.starts_with(byte_order_mark) ? byte_order_mark.size() : 0;
        const std::size_t size_bytes = (ends_here ? line_feed : left.size()) - mark_bytes;
        // Where a line that is too long is cut does not depend on how much of it was read at once.
        skipping_ = size_bytes >= longest_line_bytes;
        if (left.empty() || (!ends_here && !ended_ && !skipping_)) return std::nullopt;
        ++line_number_;
        const std::string_view line = left.substr(mark_bytes, std::min(size_bytes, longest_line_bytes));
        taken_bytes_ += mark_bytes + line.size() + (ends_here && !skipping_ ? 1 : 0);
        const std::size_t comment = comment_in(line);
        if (skipping_ && comment == line.npos) return line;
        if (const std::string_view text = trimmed(line.substr(0, comment)); !text.empty()) return text;
    }
}

bool LineReader::fill() {
    buffer_.erase(0, std::exchange(taken_bytes_, 0));
    const std::size_t held_bytes = buffer_.size();
    buffer_.resize(held_bytes + read_bytes);
    ssize_t count = 0;
    do {
        count = ::read(file_descriptor_, buffer_.data() + held_bytes, read_bytes);
    } while (count < 0 && errno == EINTR);
    const int error = errno;
    buffer_.resize(held_bytes + static_cast<std::size_t>(std::max<ssize_t>(count, 0)));
    if (count < 0 && error == EAGAIN) return true;  // somebody else read it, or it does not block: wait again
    if (count < 0) {
        throw torc::Error{std::error_code{error, std::generic_category()}, torc::phase::none, "read",
                          fmt::format("{}: {}", name_, std::strerror(error))};
    }
    ended_ = count == 0;
    return !ended_;
}

Input::Input(const Options& options) {
    for (const std::string& url : options.urls) {
        if (url == "-") {
            add(url);
        } else {
            urls_.push_back(url);
        }
    }
    for (const std::string& path : options.files) add(path);
    known_ = urls_.size();
    for (LineReader& lines : lists_) {
        if (lines.repeatable()) {
            known_ += examine(lines);
        } else {
            countable_ = false;
        }
    }
}

void Input::add(const std::string& path) {
    if (path == "-") {
        for (const LineReader& lines : lists_) {
            if (lines.file_descriptor() == STDIN_FILENO) throw UsageError{"standard input can be read only once"};
        }
        if (::fcntl(STDIN_FILENO, F_GETFD) < 0) throw UsageError{"standard input is not open"};
        lists_.emplace_back("standard input", STDIN_FILENO);
        return;
    }
    const int file_descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (file_descriptor < 0) throw_usage(path, errno);
    lists_.emplace_back(path, file_descriptor);
    struct stat status{};
    if (::fstat(file_descriptor, &status) == 0 && S_ISDIR(status.st_mode)) throw_usage(path, EISDIR);
}

std::uint64_t Input::examine(LineReader& lines) {
    std::uint64_t count = 0;
    for (bool more = true; more;) {
        try {
            more = lines.fill();
        } catch (const torc::Error& error) {
            throw_usage(lines.name(), error.code().value());
        }
        while (const auto line = lines.take()) {
            ++count;
            if (const Target target = target_of(*line); !target.url) {
                throw UsageError{fmt::format("{}, line {}: '{}' can not be checked: {}", lines.name(),
                                             lines.line_number(), target.name, target.url.error().message())};
            }
        }
    }
    lines.rewind();
    return count;
}

torc::task<std::optional<Target>> Input::next() {
    if (next_url_ < urls_.size()) {
        ++given_;
        co_return target_of(urls_[next_url_++]);
    }
    while (!lists_.empty()) {
        LineReader& lines = lists_.front();
        if (const auto line = lines.take()) {
            ++given_;
            co_return target_of(*line);
        }
        if (!lines.repeatable()) co_await ready(lines.file_descriptor(), POLLIN);
        const bool more = lines.fill();
        if (more) continue;
        if (const auto last = lines.take()) {
            ++given_;
            co_return target_of(*last);
        }
        lists_.pop_front();
    }
    countable_ = true;
    known_ = given_;
    co_return std::nullopt;
}

std::optional<std::uint64_t> Input::total() const noexcept {
    if (!countable_) return std::nullopt;
    return known_;
}

}  // namespace checker
