#include <torc/runtime/timer.hpp>

#include <algorithm>
#include <utility>

#include <torc/runtime/assert.hpp>

// Theory of operation. Nearly every timer is a limit that is not reached: it is disarmed long before its deadline. So a
// timer goes into an unsorted list first, of which only the first deadline is kept, or an earlier one that was disarmed
// since. When that has come all that are still in the list are put into the heap, once each, and the heap says which
// are due.

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
    timer.armed_ = true;
    timer.sorted_ = false;
    timer.previous_ = nullptr;
    timer.sibling_ = recent_;
    if (recent_ != nullptr) recent_->previous_ = &timer;
    recent_ = &timer;
    recent_until_ = std::min(recent_until_, deadline);
    ++size_;
}

void TimerQueue::disarm(Timer& timer) noexcept {
    if (!timer.armed_) return;
    timer.armed_ = false;
    --size_;
    if (!timer.sorted_) {
        (timer.previous_ != nullptr ? timer.previous_->sibling_ : recent_) = timer.sibling_;
        if (timer.sibling_ != nullptr) timer.sibling_->previous_ = timer.previous_;
        if (recent_ == nullptr) recent_until_ = Clock::never;
        return;
    }
    if (&timer == root_) {
        root_ = meld_siblings(timer.child_);
        return;
    }
    (timer.previous_->child_ == &timer ? timer.previous_->child_ : timer.previous_->sibling_) = timer.sibling_;
    if (timer.sibling_ != nullptr) timer.sibling_->previous_ = timer.previous_;
    root_ = meld(root_, meld_siblings(timer.child_));
}

void TimerQueue::sort_recent() noexcept {
    while (recent_ != nullptr) {
        Timer& timer = *std::exchange(recent_, recent_->sibling_);
        timer.child_ = timer.sibling_ = timer.previous_ = nullptr;
        timer.sorted_ = true;
        root_ = meld(root_, &timer);
    }
    recent_until_ = Clock::never;
}

void TimerQueue::fire(Clock::time_point now) noexcept {
    if (recent_until_ <= now) sort_recent();
    while (root_ != nullptr && root_->deadline_ <= now) {
        Timer& due = *root_;
        disarm(due);
        due.fired_(due);
    }
}

}  // namespace torc::detail
