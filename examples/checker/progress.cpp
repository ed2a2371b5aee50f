#include "progress.hpp"

#include <fmt/format.h>

namespace checker {

std::string Progress::line(torc::Clock::time_point now, std::optional<std::uint64_t> total, bool colour) const {
    std::string line = total ? fmt::format("{}/{} checked", done_, *total) : fmt::format("{} checked", done_);
    const bool red = colour && failed_ > 0;
    line += fmt::format(", {}{} failed{}", red ? "\x1b[31m" : "", failed_, red ? "\x1b[0m" : "");
    const double seconds = std::chrono::duration<double>(now - began_).count();
    if (seconds > 0) line += fmt::format(", {:.0f}/s", static_cast<double>(done_) / seconds);
    return line;
}

}  // namespace checker
