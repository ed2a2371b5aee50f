#pragma once

#include <poll.h>

#include <torc/runtime/io.hpp>

namespace checker {

/// Waits until a descriptor of the process, such as standard input, can be read (POLLIN) or written (POLLOUT) without
/// blocking, or has come to its end.
/// Lifetime: the descriptor must stay open until this completes.
/// Errors:   what the kernel says; `cancelled` unwinds.
class [[nodiscard]] ready final : public torc::detail::io_awaitable<ready> {
   public:
    ready(int file_descriptor, short events) noexcept
        : io_awaitable(torc::op_kind::poll, nullptr), watched_{file_descriptor, false} {
        file = &watched_;
        flags = events;
    }
    /// Only before it is awaited, when all there is to it is what it was made with.
    ready(ready&& other) noexcept : ready(other.watched_.value, static_cast<short>(other.flags)) {}

    torc::result<void> take() const {
        const int events = outcome();
        if (events < 0) return std::unexpected{torc::error_from_result(events, torc::phase::none, "poll")};
        return {};
    }

   private:
    torc::descriptor watched_;
};

}  // namespace checker
