#pragma once

#include <chrono>
#include <expected>
#include <string>
#include <system_error>
#include <utility>

#include <torc/runtime/close.hpp>
#include <torc/runtime/io.hpp>
#include <torc/runtime/task.hpp>
#include <torc/runtime/time.hpp>

/// Small tasks and a resource that tests put combinators together from. Nothing here waits for the clock: a wait is a
/// number of turns, of the tasks or of the driver, or has no end.
namespace torc::test {

/// How often it got to its marks.
struct journal {
    int begun = 0;
    int unwound = 0;   ///< ended by `cancelled`
    int finished = 0;  ///< came to its end undisturbed
};

/// Lets everything else that is ready run, so often. Several of these may pass between two turns of the driver.
inline task<> turns(int count) {
    for (int turn = 0; turn < count; ++turn) co_await torc::yield();
}

/// An operation that does nothing; it ends in the next turn of the driver.
struct nothing : detail::io_awaitable<nothing> {
    nothing() noexcept : io_awaitable(op_kind::nop, nullptr) {}
    [[nodiscard]] torc::result<void> take() const {
        const int ended = outcome();
        if (ended < 0) return std::unexpected{error_from_result(ended)};
        return {};
    }
};

/// Lets the driver have so many turns: what was submitted before has been seen by the kernel then, and what the kernel
/// had to say meanwhile was heard.
inline task<> driver_turns(int count) {
    for (int turn = 0; turn < count; ++turn) co_await nothing{};
}

inline task<> forever() { co_await torc::sleep_for(std::chrono::hours{24}); }

/// Waits without end and notes how it ended.
inline task<> forever(journal& notes) {
    ++notes.begun;
    try {
        co_await forever();
    } catch (const cancelled&) {
        ++notes.unwound;
        throw;
    }
    ++notes.finished;
}

template <class T>
task<T> value_after(int count, T value) {
    co_await turns(count);
    co_return value;
}

template <class T = void>
task<T> fail_after(int count, std::string what, errc code = errc::not_found) {
    co_await turns(count);
    throw Error{code, phase::none, "", what};
}

/// Waits without end, and when it is cancelled gives a value all the same.
template <class T>
task<T> stubborn(T value) {
    try {
        co_await forever();
    } catch (const cancelled&) {
    }
    co_return value;
}

/// A resource whose close takes turns of the driver, as a socket's does.
class Resource {
   public:
    struct Counts {
        int open = 0;
        int closed = 0;
    };

    explicit Resource(Counts& counts, int turns = 3, std::error_code outcome = {})
        : record_(new Record{counts, turns, outcome}) {}
    Resource(Resource&& other) noexcept : record_(std::exchange(other.record_, nullptr)) {}
    Resource& operator=(Resource&& other) noexcept {
        std::swap(record_, other.record_);
        return *this;
    }
    ~Resource() {
        if (record_ != nullptr) close_record::abandon(record_);
    }
    [[nodiscard]] close_awaitable close() noexcept { return close_awaitable{record_}; }

   private:
    struct Record final : close_record {
        Record(Counts& all, int turns, std::error_code outcome)
            : close_record(Executor::here()), counts(all), turns_left(turns), how(outcome) {
            ++counts.open;
            step.owner = this;
        }
        void start_close() noexcept override { go_on(); }
        void go_on() noexcept {
            if (turns_left-- > 0) {
                executor().driver().submit(step);
                return;
            }
            --counts.open;
            ++counts.closed;
            close_done(how);
        }
        struct Step : operation {
            using operation::operation;
            Record* owner = nullptr;
        };
        Counts& counts;
        int turns_left;
        std::error_code how;
        Step step{op_kind::nop, nullptr, [](operation& op) noexcept { static_cast<Step&>(op).owner->go_on(); }};
    };
    Record* record_;
};

}  // namespace torc::test
