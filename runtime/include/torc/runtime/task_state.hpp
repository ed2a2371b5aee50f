#pragma once

#include <coroutine>
#include <cstdint>
#include <exception>
#include <source_location>
#include <string>
#include <type_traits>

#include <torc/runtime/assert.hpp>
#include <torc/runtime/driver.hpp>
#include <torc/runtime/error.hpp>
#include <torc/runtime/frame_pool.hpp>

/// The await tree: which task waits for what.
///
/// A suspended task points at what it waits for: another task, a group of tasks, or a leaf (an operation, a timer, a
/// place in a queue). That one pointer is all the book-keeping there is. Cancelling a scope walks it down to the
/// leaves, the task dump prints it, an error's trace follows the parents up. It is set before a child first runs, so a
/// child that cancels from inside finds its relatives, and cleared when the task is made ready, so a cancel that comes
/// after the result finds nothing to undo.
namespace torc {

class Executor;

namespace detail {

class child_group;
class task_state;

/// Something a suspended task can wait for. Lives in a coroutine frame; never owned through this type.
class awaited {
   public:
    enum class kind : std::uint8_t { task, group, leaf };

    explicit awaited(kind what) noexcept : kind_(what) {}
    awaited& operator=(const awaited&) = delete;

    [[nodiscard]] kind what() const noexcept { return kind_; }

    /// For the task dump: "receive", "mutex", "gather", ...
    [[nodiscard]] virtual std::string describe() const = 0;

   protected:
    awaited(const awaited&) noexcept = default;
    ~awaited() = default;

   private:
    kind kind_;
};

/// Stands for an awaiter that lives elsewhere in the awaiting frame.
template <class Awaiter>
struct awaiter_reference {
    Awaiter& awaiter;

    bool await_ready() { return awaiter.await_ready(); }
    template <class Promise>
    auto await_suspend(std::coroutine_handle<Promise> self) {
        return awaiter.await_suspend(self);
    }
    decltype(auto) await_resume() { return awaiter.await_resume(); }
};

enum class outcome : std::uint8_t { pending, value, error, cancelled };

/// The part of a task's promise that does not depend on its result type.
///
/// Who may destroy the frame and when: the task's owner (the `task` object that was awaited, or the group that started
/// it), before it ran or after `finished` became true, which is after its last operation, its last child and the last
/// close of a resource that lived in it.
class task_state : public awaited {
   public:
    task_state() noexcept : awaited(kind::task) {}

    static void* operator new(std::size_t size_bytes) { return allocate_frame(size_bytes); }
    static void operator delete(void* frame, std::size_t size_bytes) noexcept { free_frame(frame, size_bytes); }

    // Small ones first: there is room behind the base for them, and every suspended task holds all of this.
    outcome ended = outcome::pending;
    bool started : 1 = false;
    bool left_body : 1 = false;  ///< at its final suspension, perhaps waiting for `open_closes`
    bool finished : 1 = false;
    std::uint32_t open_closes = 0;  ///< resources that lived in this frame and are still closing
    std::coroutine_handle<> handle;
    Executor* executor = nullptr;
    task_state* parent = nullptr;    ///< the task that is resumed, or whose group is told, when this one finishes
    child_group* group = nullptr;    ///< told of the end; null when `parent` awaits this task directly
    child_group* scope = nullptr;    ///< cancels this task
    awaited* waiting_for = nullptr;  ///< null while running or ready
    task_state* next_ready = nullptr;
    task_state* next_sibling = nullptr;
    task_state* previous_sibling = nullptr;
    std::source_location created;   ///< names the coroutine
    std::source_location awaiting;  ///< its present or last co_await
    Clock::time_point suspended_at{};
    std::exception_ptr error;

    [[nodiscard]] std::string describe() const override;

    std::suspend_always initial_suspend() noexcept { return {}; }

    struct final_awaiter {
        bool await_ready() const noexcept { return false; }
        template <class Promise>
        void await_suspend(std::coroutine_handle<Promise> self) const noexcept {
            task_state& state = self.promise();
            TORC_ASSERT(state.ended != outcome::pending, "a task came to its end without the co_return of a value");
            state.left_body = true;
            state.finished = state.open_closes == 0;
        }
        void await_resume() const noexcept {}
    };
    /// Nothing happens here but marks: whoever called `resume` sees `finished` and tells the parent, outside this
    /// frame.
    final_awaiter final_suspend() noexcept { return {}; }

    void unhandled_exception() noexcept;

    /// Notes the place of every co_await. What it returns is small and passed by value: GCC 12 would otherwise move the
    /// awaitable itself into the frame once more.
    template <class Awaitable>
    auto await_transform(Awaitable&& awaitable, std::source_location where = std::source_location::current()) noexcept {
        awaiting = where;
        if constexpr (requires { static_cast<Awaitable&&>(awaitable).operator co_await(); }) {
            return static_cast<Awaitable&&>(awaitable).operator co_await();
        } else {
            return awaiter_reference<std::remove_reference_t<Awaitable>>{awaitable};
        }
    }

   protected:
    ~task_state() {
        TORC_ASSERT(!started || finished,
                    "a coroutine frame was destroyed while its task was suspended: a task must be awaited to its end");
    }
};

/// What every promise notes as its task is made, and the handle to make it with.
template <class Promise>
std::coroutine_handle<Promise> introduce(Promise& promise, std::source_location where) noexcept {
    promise.created = promise.awaiting = where;
    const auto handle = std::coroutine_handle<Promise>::from_promise(promise);
    promise.handle = handle;
    return handle;
}

/// "app::fetch (main.cpp:12)"
std::string describe_coroutine(const std::source_location& created, std::uint_least32_t line);

/// The chain of co_awaits that leads to `from`, innermost first, a line each.
std::string trace_of(const task_state* from);

/// Throws `error` with the trace of `from` filled in.
[[noreturn]] void throw_error(Error error, const task_state* from);

}  // namespace detail
}  // namespace torc
