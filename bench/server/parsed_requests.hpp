#pragma once

#include <cstddef>
#include <span>
#include <string_view>

#include <torc/http/parser.hpp>

namespace bench {

/// Requests read by torc's parser. Shape: as the `Requests` by hand.
class Requests {
   public:
    template <class Answer>
    bool take(std::string_view bytes, Answer answer) {
        std::span<const std::byte> rest = std::as_bytes(std::span{bytes});
        for (;;) {
            const auto step = parser_.feed(rest);
            if (!step) return false;
            rest = rest.subspan(step->consumed_bytes);
            if (step->what == torc::http::Parser::event::need_more) return true;
            const bool heard = step->what != torc::http::Parser::event::head || answer(parser_.request().target);
            if (parser_.done()) parser_.next_message();
            if (!heard) return true;
        }
    }

   private:
    torc::http::Parser parser_{torc::http::Parser::role::request};
};

}  // namespace bench
