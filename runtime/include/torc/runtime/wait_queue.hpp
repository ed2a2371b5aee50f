#pragma once

#include <torc/runtime/leaf.hpp>

/// Places in a queue: what tasks that wait for one another stand in, first come, first served.
///
/// A place lies in the awaitable and so in the frame of the waiting task: queueing allocates nothing and can not fail.
/// Who leaves the queue how: `wake` hands the waiter what it came for and makes its task ready; from then on a cancel
/// finds nothing to undo, and what was handed over is delivered. A cancel that comes before takes the waiter out.
namespace torc::detail {

class wait_queue;

class waiter : public leaf {
   public:
    void cancel() noexcept override;

    // For the queue.
    void wake() noexcept {
        TORC_ASSERT(task_->executor == Executor::current(),
                    "a task was woken from outside its executor: what tasks share belongs to one executor");
        ready();
    }
    waiter* next = nullptr;
    waiter* previous = nullptr;

   protected:
    waiter() = default;
    /// Only before it is awaited.
    waiter(waiter&&) noexcept : waiter() {}
    ~waiter() = default;

    /// Enters, and joins the end of `queue` unless `take` finds what the task came for. False if there is no wait.
    template <class Take>
    [[nodiscard]] bool wait_in(wait_queue& queue, task_state& task, Take take) noexcept;

   private:
    wait_queue* queue_ = nullptr;
};

class wait_queue {
   public:
    wait_queue() = default;
    wait_queue(const wait_queue&) = delete;
    wait_queue& operator=(const wait_queue&) = delete;

    [[nodiscard]] bool empty() const noexcept { return first_ == nullptr; }

    /// The waiter that has waited longest, as what whoever owns the queue put there. Requires: not empty.
    template <class Waiter>
    [[nodiscard]] Waiter& first() const noexcept {
        return static_cast<Waiter&>(*first_);
    }

    /// Takes the first waiter out and makes its task ready.
    void wake_first() noexcept {
        waiter& woken = *first_;
        remove(woken);
        woken.wake();
    }
    /// Those who are waiting now; who joins later waits.
    void wake_all() noexcept {
        while (!empty()) wake_first();
    }

    void append(waiter& one) noexcept {
        one.next = nullptr;
        one.previous = last_;
        (last_ != nullptr ? last_->next : first_) = &one;
        last_ = &one;
    }
    void remove(waiter& one) noexcept {
        (one.previous != nullptr ? one.previous->next : first_) = one.next;
        (one.next != nullptr ? one.next->previous : last_) = one.previous;
    }

   private:
    waiter* first_ = nullptr;
    waiter* last_ = nullptr;
};

template <class Take>
bool waiter::wait_in(wait_queue& queue, task_state& task, Take take) noexcept {
    if (!enter(task)) return false;
    if (take()) {
        leave();
        return false;
    }
    queue_ = &queue;
    queue.append(*this);
    return true;
}

inline void waiter::cancel() noexcept {
    queue_->remove(*this);
    end_cancelled();
}

}  // namespace torc::detail
