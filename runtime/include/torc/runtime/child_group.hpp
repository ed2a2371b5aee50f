#pragma once

#include <vector>

#include <torc/runtime/executor.hpp>

/// A scope: the children of one await, cancelled together and awaited together.
///
/// Everything that starts more than one task, or puts a task under a deadline, is a child_group inside an awaitable in
/// its owner's frame: gather, race, with_scope, with_timeout, shield. The order of things:
///
///     open -> start (any number, children may start more) -> wait -> the owner resumes when none is running
///
/// `cancelled` is a level: set once, by `cancel` or by an enclosing scope, and then seen by every suspension point
/// inside until the scope is left. A shielded group does not take it over from outside; it is told, and may set a
/// limit.
namespace torc::detail {

class child_group : public awaited {
   public:
    explicit child_group(const char* name, bool shielded = false) noexcept
        : awaited(kind::group), name_(name), shielded_(shielded) {}

    /// Cancels the children, not the owner. Idempotent. Requires: opened.
    void cancel() noexcept;

    [[nodiscard]] bool cancelled() const noexcept { return cancelled_; }
    /// Whether whoever owns this group is itself under cancellation.
    [[nodiscard]] bool outer_cancelled() const noexcept { return outer_ != nullptr && outer_->cancelled_; }
    [[nodiscard]] std::size_t running() const noexcept { return running_; }
    [[nodiscard]] Clock::time_point deadline() const noexcept { return deadline_; }
    [[nodiscard]] Executor& executor() const noexcept { return *executor_; }
    [[nodiscard]] task_state* owner() const noexcept { return owner_; }
    [[nodiscard]] task_state* first_child() const noexcept { return first_; }
    [[nodiscard]] std::string describe() const override { return name_; }

    /// Called by the executor once `child` has finished, outside the child's frame.
    void finished(task_state& child) noexcept;

   protected:
    /// Only a group that was not opened may move.
    child_group(child_group&& other) noexcept : child_group(other.name_, other.shielded_) {
        TORC_ASSERT(other.executor_ == nullptr, "a combinator was moved after it was awaited");
    }
    ~child_group() { TORC_ASSERT(running_ == 0, "a scope was left while its children were running"); }

    /// Whether a cancellation from outside stops here.
    [[nodiscard]] bool shielded() const noexcept { return shielded_; }
    /// Enters the await tree under `owner`, or under nothing for the root of an executor.
    void open(Executor& executor, task_state* owner) noexcept;
    void start(task_state& child) noexcept;
    /// True if the owner has to suspend; it is made ready when the last child has finished.
    [[nodiscard]] bool wait() noexcept;
    void set_deadline(Clock::time_point deadline) noexcept {
        if (deadline < deadline_) deadline_ = deadline;
    }

    /// What a child's end means to this kind of group. May start children, cancel, destroy the child's frame.
    virtual void child_finished(task_state& child) noexcept = 0;
    /// A shielded group hears here that its surroundings were cancelled.
    virtual void outer_was_cancelled() noexcept {}

   private:
    const char* name_;
    Executor* executor_ = nullptr;
    task_state* owner_ = nullptr;
    child_group* outer_ = nullptr;
    child_group* next_to_cancel_ = nullptr;
    task_state* first_ = nullptr;
    task_state* last_ = nullptr;
    std::size_t running_ = 0;
    Clock::time_point deadline_ = Clock::never;
    bool shielded_;
    bool cancelled_ = false;
    bool owner_waits_ = false;
};

/// A group whose first failure cancels the rest and is what its owner gets, with the later ones attached to it.
class fail_fast_group : public child_group {
   protected:
    using child_group::child_group;
    fail_fast_group(fail_fast_group&&) noexcept = default;
    ~fail_fast_group() = default;
    void child_finished(task_state& child) noexcept override;
    /// Throws the first error; or `cancelled` if a child ended so and `absorb` does not say that this was asked for.
    void throw_if_failed(bool absorb = false);

   private:
    std::exception_ptr first_;
    std::vector<std::exception_ptr> others_;
    bool child_cancelled_ = false;
};

}  // namespace torc::detail
