#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include <torc/runtime/sim.hpp>

namespace torc::sim {

/// What is going to happen in a simulated run, and what has happened: the virtual clock, the events to come in the
/// order of their time (equal ones in the order the seed gives them), and the trace of those that were.
class Agenda {
   public:
    using Work = std::move_only_function<void()>;

    explicit Agenda(std::uint64_t seed) noexcept : random(seed) {}

    [[nodiscard]] Clock::time_point now() const noexcept { return now_; }
    void advance(Clock::time_point to) noexcept { now_ = std::max(now_, to); }

    /// When `work` is to be done; it may be in the past, which means as soon as possible.
    void at(Clock::time_point when, Work work) {
        events_.push_back({when, random(), std::move(work)});
        std::ranges::push_heap(events_, later);
    }
    void after(Clock::duration delay, Work work) { at(now_ + delay, std::move(work)); }
    [[nodiscard]] Clock::time_point next() const noexcept {
        return events_.empty() ? Clock::never : events_.front().at;
    }
    /// Does the next event. Requires: there is one.
    void step() {
        std::ranges::pop_heap(events_, later);
        Event event = std::move(events_.back());
        events_.pop_back();
        advance(event.at);
        event.work();
    }

    /// Adds to the trace. `what` must be a literal.
    void note(const char* what, std::int64_t subject = 0, std::int64_t value = 0) noexcept;
    /// The same for what would only fill the list: it counts, but is not told.
    void count(std::uint64_t value) noexcept;
    [[nodiscard]] std::uint64_t hash() const noexcept { return hash_; }
    [[nodiscard]] std::uint64_t noted() const noexcept { return noted_; }
    /// The last entries, a line each.
    [[nodiscard]] std::string last() const;

    Random random;

   private:
    struct Event {
        Clock::time_point at;
        std::uint64_t order;
        Work work;
    };
    struct Entry {
        Clock::time_point at;
        const char* what;
        std::int64_t subject;
        std::int64_t value;
    };
    static bool later(const Event& a, const Event& b) noexcept {
        return a.at != b.at ? a.at > b.at : a.order > b.order;
    }

    Clock::time_point now_{std::chrono::seconds{1}};
    std::vector<Event> events_;  // a heap
    std::array<Entry, 64> entries_{};
    std::uint64_t noted_ = 0;
    std::uint64_t hash_ = 0xcbf29ce484222325U;
};

}  // namespace torc::sim
