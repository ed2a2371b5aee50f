#pragma once

#include <cstddef>
#include <string>
#include <string_view>

/// Text from elsewhere, made fit for a terminal and for lines.
namespace checker {

/// Takes the first character off `text`, which is not empty.
/// Shape: its bytes; empty if `text` begins with a byte that is not UTF-8, which is then taken off.
std::string_view take_character(std::string_view& text) noexcept;

/// At most the first `count` characters of `text`, in one line: spaces around them are dropped, and what is not UTF-8
/// becomes U+FFFD. Control characters become spaces, so that nobody's web page can speak to the terminal.
std::string one_line(std::string_view text, std::size_t count = std::string_view::npos);

/// White space.
inline constexpr std::string_view spaces = " \t\r\n\f\v";

/// `text` without the white space around it.
std::string_view trimmed(std::string_view text) noexcept;

}  // namespace checker
