#pragma once

#include <coroutine>

#include <torc/runtime/child_group.hpp>

/// Leaves of the await tree: waits that no other task of ours performs, such as operations, timers, places in a queue.
namespace torc::detail {

/// One wait of one task. Lies in the awaiting frame, so it needs no allocation and can not go away meanwhile.
///
///     enter -> (suspended) -> ready | end_cancelled -> await_resume, which begins with `throw_if_cancelled`
///
/// `enter` refuses when the scope is already cancelled: every await is a point of cancellation, also one that would
/// not have to wait. A result that was ready before the cancel came is delivered; the next await meets the level.
class leaf : public awaited {
   public:
    leaf() noexcept : awaited(kind::leaf) {}

    /// Asks the wait to end soon. Called while the task is suspended here, at most once for each scope around it; the
    /// task is made ready now or later, never resumed from here.
    virtual void cancel() noexcept = 0;

    /// Whether there is something to wait for is seen in `enter`.
    bool await_ready() const noexcept { return false; }

    /// Makes `enter` refuse as in a cancelled scope. Requires: not awaited yet.
    void cancel_unbegun() noexcept { cancelled_ = true; }

   protected:
    // An awaitable moves only before `enter`, when there is nothing here to take along: movable ones start a new leaf.
    ~leaf() = default;

    /// False if there is nothing to suspend for: the scope is cancelled.
    [[nodiscard]] bool enter(task_state& task) noexcept {
        task_ = &task;
        cancelled_ = cancelled_ || task.scope->cancelled();
        if (cancelled_) return false;
        task.executor->suspend(task, *this);
        return true;
    }
    /// The same without looking at the scope, for what must run its course.
    void enter_shielded(task_state& task) noexcept {
        task_ = &task;
        task.executor->suspend(task, *this);
    }
    /// The wait needs no suspension after all.
    void leave() noexcept { task_->waiting_for = nullptr; }
    void ready() noexcept { task_->executor->make_ready(*task_); }
    void end_cancelled() noexcept {
        cancelled_ = true;
        ready();
    }
    void throw_if_cancelled() const {
        if (cancelled_) throw torc::cancelled{};
    }

   private:
    bool cancelled_ = false;

   protected:
    task_state* task_ = nullptr;
};

}  // namespace torc::detail
