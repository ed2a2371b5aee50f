#include <torc/runtime/timer.hpp>

#include <utility>

#include <torc/runtime/assert.hpp>

namespace torc::detail {

bool TimerQueue::before(const Timer& a, const Timer& b) noexcept {
    return a.deadline_ != b.deadline_ ? a.deadline_ < b.deadline_ : a.order_ < b.order_;
}

Timer* TimerQueue::meld(Timer* a, Timer* b) noexcept {
    if (a == nullptr) return b;
    if (b == nullptr) return a;
    if (before(*b, *a)) std::swap(a, b);
    b->previous_ = a;
    b->sibling_ = a->child_;
    if (a->child_ != nullptr) a->child_->previous_ = b;
    a->child_ = b;
    return a;
}

// The two passes of a pairing heap, without recursion: pairs from the left, then one after the other from the right.
Timer* TimerQueue::meld_siblings(Timer* first) noexcept {
    Timer* pairs = nullptr;
    while (first != nullptr) {
        Timer* const a = first;
        Timer* const b = a->sibling_;
        first = b != nullptr ? b->sibling_ : nullptr;
        a->sibling_ = a->previous_ = nullptr;
        if (b != nullptr) b->sibling_ = b->previous_ = nullptr;
        Timer* const pair = meld(a, b);
        pair->sibling_ = pairs;
        pairs = pair;
    }
    Timer* heap = nullptr;
    while (pairs != nullptr) {
        Timer* const pair = std::exchange(pairs, pairs->sibling_);
        pair->sibling_ = nullptr;
        heap = meld(heap, pair);
    }
    return heap;
}

void TimerQueue::arm(Timer& timer, Clock::time_point deadline) noexcept {
    TORC_ASSERT(!timer.armed_, "a timer was armed twice");
    timer.deadline_ = deadline;
    timer.order_ = order_++;
    timer.child_ = timer.sibling_ = timer.previous_ = nullptr;
    timer.armed_ = true;
    root_ = meld(root_, &timer);
    ++size_;
}

void TimerQueue::disarm(Timer& timer) noexcept {
    if (!timer.armed_) return;
    timer.armed_ = false;
    --size_;
    if (&timer == root_) {
        root_ = meld_siblings(timer.child_);
        return;
    }
    (timer.previous_->child_ == &timer ? timer.previous_->child_ : timer.previous_->sibling_) = timer.sibling_;
    if (timer.sibling_ != nullptr) timer.sibling_->previous_ = timer.previous_;
    root_ = meld(root_, meld_siblings(timer.child_));
}

void TimerQueue::fire(Clock::time_point now) noexcept {
    const std::uint64_t first_of_next_call = order_;
    while (root_ != nullptr && root_->deadline_ <= now && root_->order_ < first_of_next_call) {
        Timer& due = *root_;
        disarm(due);
        due.fired_(due);
    }
}

}  // namespace torc::detail
