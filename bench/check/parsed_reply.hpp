#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

#include <torc/http/parser.hpp>

namespace bench {

/// An answer on its way in, read by torc's parser, which looks at every byte of the head twice and keeps it: what a
/// program by hand takes that reads HTTP as carefully as a session does, and does nothing else of what that does.
/// Shape: as the `Reply` by hand.
class Reply {
   public:
    enum class state { more, complete, bad };

    void begin() {
        parser_.emplace(torc::http::Parser::role::response);
        body_bytes_ = 0;
    }

    [[nodiscard]] std::span<char> room() noexcept { return buffer_; }
    [[nodiscard]] std::uint64_t body_bytes() const noexcept { return body_bytes_; }

    /// `size` 0 is the end of the stream.
    state received(std::size_t size) {
        if (size == 0) return state::bad;  // nginx gives the length of what it sends
        std::span<const std::byte> rest = std::as_bytes(std::span{buffer_}).first(size);
        for (;;) {
            const auto step = parser_->feed(rest);
            if (!step) return state::bad;
            rest = rest.subspan(step->consumed_bytes);
            switch (step->what) {
                case torc::http::Parser::event::need_more: return state::more;
                case torc::http::Parser::event::interim: break;
                case torc::http::Parser::event::head:
                    if (parser_->response().status != 200) return state::bad;
                    break;
                case torc::http::Parser::event::body: body_bytes_ += step->body.size(); break;
                case torc::http::Parser::event::end: parser_.reset(); return state::complete;
            }
        }
    }

   private:
    std::optional<torc::http::Parser> parser_;
    std::uint64_t body_bytes_ = 0;
    std::array<char, 8192> buffer_;
};

}  // namespace bench
