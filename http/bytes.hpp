#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <initializer_list>
#include <string>
#include <string_view>

#include <torc/http/error.hpp>

// The alphabets of HTTP/1.1 and of URLs as tables, and small helpers on bytes. Private to the library.
namespace torc::http {

/// A set of bytes, built at compile time.
struct ByteSet {
    std::array<bool, 256> has{};

    constexpr ByteSet() = default;
    constexpr ByteSet& range(int first, int last) {
        for (int c = first; c <= last; ++c) has[static_cast<std::size_t>(c)] = true;
        return *this;
    }
    constexpr ByteSet& these(std::string_view bytes) {
        for (const char c : bytes) has[static_cast<std::uint8_t>(c)] = true;
        return *this;
    }
    constexpr bool operator()(char c) const noexcept { return has[static_cast<std::uint8_t>(c)]; }
};

constexpr bool is_digit(char c) noexcept { return c >= '0' && c <= '9'; }
constexpr bool is_alpha(char c) noexcept { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
constexpr char to_lower(char c) noexcept { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

constexpr int hex_value(char c) noexcept {
    if (is_digit(c)) return c - '0';
    const char lower = to_lower(c);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

inline constexpr ByteSet token_chars =
    ByteSet{}.range('0', '9').range('a', 'z').range('A', 'Z').these("!#$%&'*+-.^_`|~");
constexpr bool is_token_char(char c) noexcept { return token_chars(c); }

/// Field values and reason phrases (RFC 9110, 5.5): visible characters, space, tab and obs-text; no control bytes.
inline constexpr ByteSet text_chars = ByteSet{}.range(0x20, 0x7e).range(0x80, 0xff).these("\t");

/// The first byte from `at` on that may not stand in a line, or `end`. Looks at eight bytes at a time.
inline const char* end_of_text(const char* at, const char* end) noexcept {
    constexpr std::uint64_t ones = 0x0101010101010101;
    std::uint64_t eight = 0;
    while (end - at >= std::ptrdiff_t{sizeof eight}) {
        std::memcpy(&eight, at, sizeof eight);
        if constexpr (std::endian::native == std::endian::big) eight = __builtin_bswap64(eight);
        const std::uint64_t rubouts = eight ^ (ones * 0x7f);  // zero where one is
        std::uint64_t found = ((eight - ones * 0x20) & ~eight) | ((rubouts - ones) & ~rubouts);
        found &= ones << 7;  // the lowest bit is that of a control byte; behind it, a borrow may have set others
        if (found == 0) {
            at += sizeof eight;
            continue;
        }
        at += std::countr_zero(found) / 8;
        if (!text_chars(*at)) return at;
        ++at;  // a tab
    }
    while (at != end && text_chars(*at)) ++at;
    return at;
}

inline bool is_text(std::string_view text) noexcept {
    const char* const end = text.data() + text.size();
    return end_of_text(text.data(), end) == end;
}

/// Request targets: visible ASCII only.
inline constexpr ByteSet target_chars = ByteSet{}.range(0x21, 0x7e);

inline bool equals_ignoring_case(std::string_view a, std::string_view b) noexcept {
    if (a.size() != b.size()) return false;
    for (std::size_t at = 0; at < a.size(); ++at) {
        if (a[at] != b[at] && to_lower(a[at]) != to_lower(b[at])) return false;
    }
    return true;
}

inline bool is_one_of(std::string_view name, std::initializer_list<std::string_view> names) noexcept {
    return std::ranges::any_of(names, [&](std::string_view each) { return equals_ignoring_case(name, each); });
}

constexpr bool is_space(char c) noexcept { return c == ' ' || c == '\t'; }
constexpr std::string_view trim_spaces(std::string_view text) noexcept {
    while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
    while (!text.empty() && is_space(text.back())) text.remove_suffix(1);
    return text;
}

/// Appends all the parts, having made room for them once.
template <class String, class... Parts>
[[gnu::always_inline]] inline void append_all(String& out, const Parts&... parts) {
    const std::size_t before = out.size();
    const std::size_t size = (before + ... + std::string_view{parts}.size());
    out.resize_and_overwrite(size, [&](char* text, std::size_t) {  // libstdc++ 12 may say more
        char* end = text + before;
        const auto append = [&](std::string_view part) {
            std::char_traits<char>::copy(end, part.data(), part.size());  // an empty part may have no address
            end += part.size();
        };
        (append(parts), ...);
        return size;
    });
}

/// Text of a peer as it may stand in an error's sentence: no control bytes, no more than a line of it.
inline std::string in_quotes(std::string_view text, std::size_t max_chars = 60) {
    constexpr std::string_view digits = "0123456789abcdef";
    std::string shown = "\"";
    for (const char c : text.substr(0, max_chars)) {
        const auto byte = static_cast<std::uint8_t>(c);
        if (byte < 0x20 || byte == 0x7f) {
            shown += "\\x";
            shown += digits[byte >> 4];
            shown += digits[byte & 15];
        } else {
            shown += c;
        }
    }
    if (text.size() > max_chars) shown += "...";
    return shown + '"';
}

inline std::unexpected<Error> fail(errc code, phase where, std::string words) {
    return std::unexpected<Error>{Error{make_error_code(code), where, {}, std::move(words)}};
}

}  // namespace torc::http
