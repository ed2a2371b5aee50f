#pragma once

#include <string>
#include <string_view>

namespace bench {

/// Requests by hand: one is whole when its empty line was seen, and of its head only the target is looked at.
class Requests {
   public:
    /// Calls `answer` with the target of each request that is complete, as long as it says true.
    /// False if these are no requests.
    template <class Answer>
    bool take(std::string_view bytes, Answer answer) {
        if (!unread_.empty()) bytes = unread_.append(bytes);
        for (std::size_t end = bytes.find("\r\n\r\n"); end != bytes.npos; end = bytes.find("\r\n\r\n")) {
            const std::string_view line = bytes.substr(0, bytes.find('\r'));
            if (!line.starts_with("GET ")) return false;
            const std::string_view target = line.substr(4, line.find(' ', 4) - 4);
            bytes.remove_prefix(end + 4);
            if (!answer(target)) break;
        }
        unread_ = std::string{bytes};
        return true;
    }

   private:
    std::string unread_;  // a part of a request
};

}  // namespace bench
