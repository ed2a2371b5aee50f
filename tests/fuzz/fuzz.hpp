#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

/// What every fuzz target is made of. A target is one function that takes any bytes, does something with them, and
/// requires of the outcome what must hold whatever they were. It keeps nothing from one call to the next, so that an
/// input that failed once fails again.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace torc::fuzz {

/// A property that does not hold. No exception that a handler of ordinary errors would take.
struct Violation {};

inline void require(bool holds, std::string_view sentence, std::string_view particulars = {}) {
    if (holds) return;
    const std::string text = "does not hold: " + std::string{sentence} + "\n" + std::string{particulars} + "\n";
    std::fwrite(text.data(), 1, text.size(), stderr);
    throw Violation{};
}

inline void require_same(std::string_view one, std::string_view other, std::string_view sentence) {
    if (one == other) return;
    require(false, sentence, "one:\n" + std::string{one} + "\nother:\n" + std::string{other});
}

inline bool is_printable(std::string_view text) {
    return std::ranges::none_of(text, [](unsigned char c) { return c < 0x20 || c == 0x7f; });
}

/// The bytes that a target was given, taken from their beginning. Behind their end there are zeros.
class Input {
   public:
    Input(const std::uint8_t* data, std::size_t size) : left_(data, size) {}

    [[nodiscard]] bool empty() const { return left_.empty(); }

    std::uint8_t byte() {
        if (left_.empty()) return 0;
        const std::uint8_t first = left_.front();
        left_ = left_.subspan(1);
        return first;
    }

    std::string_view text(std::size_t size) {
        const auto taken = left_.first(std::min(size, left_.size()));
        left_ = left_.subspan(taken.size());
        return taken.empty() ? std::string_view{}
                             : std::string_view{reinterpret_cast<const char*>(taken.data()), taken.size()};
    }

    std::string_view rest() { return text(left_.size()); }

    /// Up to a line feed, which is dropped.
    std::string_view line() {
        const auto end = static_cast<std::size_t>(std::ranges::find(left_, '\n') - left_.begin());
        const std::string_view taken = text(end);
        byte();
        return taken;
    }

   private:
    std::span<const std::uint8_t> left_;
};

/// Each byte as a place in something of `size` bytes, its end included: a fraction of the whole, so that a small change
/// to the input moves the place a little.
inline std::vector<std::size_t> places_in(std::size_t size, std::string_view bytes) {
    std::vector<std::size_t> places;
    for (const char byte : bytes) places.push_back((static_cast<std::uint8_t>(byte) * (size + 1)) >> 8);
    return places;
}

/// A text in pieces, each in memory of its own, so that the address sanitizer sees who looks beyond one.
class Pieces {
   public:
    static Pieces cut(std::string_view text, std::vector<std::size_t> places) {
        std::ranges::sort(places);
        Pieces made;
        std::size_t begin = 0;
        for (const std::size_t end : places) {
            made.add(text.substr(begin, end - begin));
            begin = end;
        }
        made.add(text.substr(begin));
        return made;
    }

    static Pieces of_size(std::string_view text, std::size_t size) {
        Pieces made;
        for (std::size_t at = 0; at < text.size(); at += size) made.add(text.substr(at, size));
        return made;
    }

    [[nodiscard]] const std::vector<std::string_view>& views() const { return views_; }

   private:
    void add(std::string_view piece) {
        owned_.push_back(std::make_unique<char[]>(piece.size()));
        std::ranges::copy(piece, owned_.back().get());
        views_.emplace_back(owned_.back().get(), piece.size());
    }

    std::vector<std::unique_ptr<char[]>> owned_;
    std::vector<std::string_view> views_;
};

}  // namespace torc::fuzz
