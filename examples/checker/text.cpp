#include "text.hpp"

// Theory of operation. UTF-8 as RFC 3629 defines it: the shortest form of what is not a surrogate, up to U+10FFFF. A
// sequence that breaks off or breaks the rules counts byte by byte, as each of its bytes is not a character.

namespace checker {
namespace {

constexpr std::string_view replacement = "\xEF\xBF\xBD";

constexpr bool is_within(unsigned char byte, int low, int high) { return byte >= low && byte <= high; }

/// How many bytes the character takes that begins `text`; 0 if it is none.
std::size_t character_bytes(std::string_view text) noexcept {
    const auto at = [text](std::size_t index) { return static_cast<unsigned char>(text[index]); };
    const unsigned char first = at(0);
    if (first < 0x80) return 1;
    const std::size_t size = is_within(first, 0xC2, 0xDF)   ? 2
                             : is_within(first, 0xE0, 0xEF) ? 3
                             : is_within(first, 0xF0, 0xF4) ? 4
                                                            : 0;
    if (size == 0 || text.size() < size) return 0;
    const int low = first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
    const int high = first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
    if (!is_within(at(1), low, high)) return 0;
    for (std::size_t index = 2; index < size; ++index) {
        if (!is_within(at(index), 0x80, 0xBF)) return 0;
    }
    return size;
}

/// C0, DEL, and C1, which terminals obey as well.
bool is_control(std::string_view character) noexcept {
    const auto first = static_cast<unsigned char>(character[0]);
    return first < 0x20 || first == 0x7F || (first == 0xC2 && static_cast<unsigned char>(character[1]) < 0xA0);
}

}  // namespace

std::string_view take_character(std::string_view& text) noexcept {
    const std::size_t size_bytes = character_bytes(text);
    const std::string_view character = text.substr(0, size_bytes);
    text.remove_prefix(size_bytes == 0 ? 1 : size_bytes);
    return character;
}

std::string_view trimmed(std::string_view text) noexcept {
    const std::size_t first = text.find_first_not_of(spaces);
    if (first == text.npos) return {};
    return text.substr(first, text.find_last_not_of(spaces) - first + 1);
}

std::string one_line(std::string_view text, std::size_t count) {
    std::string line;
    for (; !text.empty() && count > 0; --count) {
        const std::string_view character = take_character(text);
        line += character.empty() ? replacement : is_control(character) ? std::string_view{" "} : character;
    }
    return std::string{trimmed(line)};
}

}  // namespace checker
