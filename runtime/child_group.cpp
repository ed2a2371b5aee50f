#include <torc/runtime/child_group.hpp>

#include <new>

#include <torc/runtime/leaf.hpp>

// Theory of operation. A group lies in the frame of its owner and lists its running children. Cancelling walks from
// there down the await tree with a list of groups still to visit, threaded through the groups themselves: no recursion,
// however deep the program nests, and no allocation, so that it can not fail. Cancelling a leaf never resumes anything;
// it only makes tasks ready, so the tree does not change under the walk.

namespace torc::detail {

void child_group::open(Executor& executor, task_state* owner) noexcept {
    executor_ = &executor;
    owner_ = owner;
    if (owner == nullptr) return;
    outer_ = owner->scope;
    executor.suspend(*owner, *this);
    if (shielded_) {
        if (outer_cancelled()) outer_was_cancelled();
        return;
    }
    deadline_ = std::min(deadline_, outer_->deadline_);
    cancelled_ = cancelled_ || outer_->cancelled_;
}

void child_group::start(task_state& child) noexcept {
    TORC_ASSERT(!child.started, "a task was awaited twice, or after it was moved from");
    child.executor = executor_;
    child.parent = owner_;
    child.group = this;
    child.scope = this;
    child.previous_sibling = last_;
    (last_ != nullptr ? last_->next_sibling : first_) = &child;
    last_ = &child;
    ++running_;
    executor_->start(child);
    if (child.finished) finished(child);
}

void child_group::finished(task_state& child) noexcept {
    (child.previous_sibling != nullptr ? child.previous_sibling->next_sibling : first_) = child.next_sibling;
    (child.next_sibling != nullptr ? child.next_sibling->previous_sibling : last_) = child.previous_sibling;
    child_finished(child);  // may start others
    if (--running_ == 0 && owner_waits_) {
        owner_waits_ = false;
        executor_->make_ready(*owner_);
    }
}

bool child_group::wait() noexcept {
    owner_waits_ = running_ != 0;
    if (!owner_waits_) owner_->waiting_for = nullptr;
    return owner_waits_;
}

void child_group::cancel() noexcept {
    if (cancelled_) return;
    cancelled_ = true;
    next_to_cancel_ = nullptr;
    for (child_group* next = this; next != nullptr;) {
        child_group& group = *next;
        next = group.next_to_cancel_;
        for (task_state* child = group.first_; child != nullptr; child = child->next_sibling) {
            awaited* at = child;
            while (at != nullptr && at->what() == kind::task) at = static_cast<task_state*>(at)->waiting_for;
            if (at == nullptr) continue;  // running or ready: it meets the level at its next suspension
            if (at->what() == kind::leaf) {
                static_cast<leaf*>(at)->cancel();
                continue;
            }
            auto& inner = static_cast<child_group&>(*at);
            if (inner.shielded_) {
                inner.outer_was_cancelled();
            } else if (!inner.cancelled_) {
                inner.cancelled_ = true;
                inner.next_to_cancel_ = next;
                next = &inner;
            }
        }
    }
}

void fail_fast_group::child_finished(task_state& child) noexcept {
    if (child.ended == outcome::value) return;
    if (child.ended == outcome::cancelled) {
        child_cancelled_ = true;
    } else if (first_ == nullptr) {
        first_ = child.error;
    } else {
        try {
            others_.push_back(child.error);
        } catch (const std::bad_alloc&) {
            // The first error is told without this one.
        }
    }
    cancel();
}

void fail_fast_group::throw_if_failed(bool absorb) {
    if (first_ != nullptr && others_.empty()) std::rethrow_exception(first_);
    if (first_ != nullptr) {
        try {
            std::rethrow_exception(first_);
        } catch (Error& thrown) {  // what it is of the user's stays
            if (thrown.trace().empty()) thrown.with_trace(executor().error_trace(first_));
            for (const std::exception_ptr& other : others_) thrown.attach(other);
            throw;
        }
    }
    if (child_cancelled_ && (!absorb || outer_cancelled())) throw torc::cancelled{};
}

}  // namespace torc::detail
