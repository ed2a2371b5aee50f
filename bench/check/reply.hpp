#pragma once

#include <strings.h>

#include <array>
#include <charconv>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace bench {

/// An answer on its way in, read by hand: the status has to be 200, and the body as long as Content-Length says.
/// Shape: receive into `room`, tell with `received` how much it was, as long as that says `more`.
class Reply {
   public:
    enum class state { more, complete, bad };

    void begin() noexcept {
        used_ = 0;
        in_body_ = false;
    }

    [[nodiscard]] std::span<char> room() noexcept { return std::span{buffer_}.subspan(used_); }
    [[nodiscard]] std::uint64_t body_bytes() const noexcept { return body_bytes_; }

    /// `size` 0 is the end of the stream.
    state received(std::size_t size) noexcept {
        if (size == 0) return state::bad;
        if (in_body_) return took(size);
        used_ += size;
        const std::string_view text{buffer_.data(), used_};
        const std::size_t end = text.find("\r\n\r\n");
        if (end == text.npos) return used_ < buffer_.size() ? state::more : state::bad;
        if (!read_head(text.substr(0, end + 2))) return state::bad;
        in_body_ = true;
        used_ = 0;
        return took(text.size() - end - 4);
    }

   private:
    state took(std::size_t size) noexcept {
        if (size > missing_bytes_) return state::bad;
        missing_bytes_ -= size;
        return missing_bytes_ == 0 ? state::complete : state::more;
    }

    /// `head` is whole lines, each with its end.
    bool read_head(std::string_view head) noexcept {
        static constexpr std::string_view name = "Content-Length:";
        if (!head.starts_with("HTTP/1.1 200 ")) return false;
        for (;;) {
            head.remove_prefix(head.find("\r\n") + 2);
            if (head.empty()) return false;
            if (head.size() < name.size() || ::strncasecmp(head.data(), name.data(), name.size()) != 0) continue;
            const char* from = head.data() + name.size();
            while (*from == ' ') ++from;
            const auto [end, error] = std::from_chars(from, head.data() + head.size(), body_bytes_);
            missing_bytes_ = body_bytes_;
            return error == std::errc{} && *end == '\r';
        }
    }

    std::uint64_t body_bytes_ = 0;
    std::uint64_t missing_bytes_ = 0;
    std::size_t used_ = 0;  // of the head, as long as it is not complete
    bool in_body_ = false;
    std::array<char, 8192> buffer_;
};

}  // namespace bench
