#pragma once

#include <string>
#include <string_view>

namespace torc {

/// The text without the white space around it: spaces, tabs, line ends.
[[nodiscard]] inline std::string trim(std::string_view text) {
    constexpr std::string_view white = " \t\r\n\f\v";
    const std::size_t first = text.find_first_not_of(white);
    if (first == text.npos) return {};
    return std::string{text.substr(first, text.find_last_not_of(white) - first + 1)};
}

}  // namespace torc
