#pragma once

#include <torc/runtime/wait_queue.hpp>

namespace torc {

/// Something that happens, and then has happened until `reset`. Tasks wait for it together.
/// Lifetime: must outlive everybody who waits; dies with a sentence otherwise.
/// Requires: the executor's thread; one executor.
class event {
   public:
    class [[nodiscard("co_await it")]] wait_awaitable final : public detail::waiter {
       public:
        explicit wait_awaitable(event& which) noexcept : event_(which) {}
        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
            return wait_in(event_.waiting_, self.promise(), [this] { return event_.set_; });
        }
        void await_resume() const { throw_if_cancelled(); }
        [[nodiscard]] std::string describe() const override { return "event"; }

       private:
        event& event_;
    };

    explicit event(bool is_set = false) noexcept : set_(is_set) {}
    event(const event&) = delete;
    event& operator=(const event&) = delete;
    ~event() { TORC_ASSERT(waiting_.empty(), "an event was destroyed while a task waited for it"); }

    /// Lets everybody go who waits now, in the order in which they came, and whoever waits before `reset`.
    void set() noexcept {
        set_ = true;
        waiting_.wake_all();
    }
    /// Makes later waits wait again. Those whom `set` let go have gone.
    void reset() noexcept { set_ = false; }
    [[nodiscard]] bool is_set() const noexcept { return set_; }

    /// Waits until it is set; does not give way if it is set already.
    /// Errors: `cancelled` unwinds.
    wait_awaitable wait() noexcept { return wait_awaitable{*this}; }

   private:
    detail::wait_queue waiting_;
    bool set_;
};

}  // namespace torc
