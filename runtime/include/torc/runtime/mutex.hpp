#pragma once

#include <optional>
#include <utility>

#include <torc/runtime/wait_queue.hpp>

namespace torc {

/// Lets one task at a time into a passage that contains awaits. (One without needs no lock: an executor is one thread.)
///
///     auto guard = co_await mutex.lock();   // until the guard goes out of scope
///
/// The lock is handed from its holder to the task that has waited longest; nobody overtakes.
/// Lifetime: must outlive its guards and everybody who waits; dies with a sentence otherwise.
/// Requires: the executor's thread; one executor.
class mutex {
   public:
    /// The lock, held until destroyed or `unlock`. Not bound to a task: it may be handed on.
    class [[nodiscard("a guard that is thrown away unlocks at once")]] guard {
       public:
        guard() = default;
        guard(guard&& other) noexcept : held_(std::exchange(other.held_, nullptr)) {}
        guard& operator=(guard&& other) noexcept {
            if (this != &other) {
                unlock();
                held_ = std::exchange(other.held_, nullptr);
            }
            return *this;
        }
        ~guard() { unlock(); }

        [[nodiscard]] bool owns_lock() const noexcept { return held_ != nullptr; }
        void unlock() noexcept {
            if (held_ != nullptr) std::exchange(held_, nullptr)->unlock();
        }

       private:
        friend class mutex;
        explicit guard(mutex& locked) noexcept : held_(&locked) {}
        mutex* held_ = nullptr;
    };

    class [[nodiscard("co_await it")]] lock_awaitable final : public detail::waiter {
       public:
        explicit lock_awaitable(mutex& wanted) noexcept : mutex_(wanted) {}
        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
            return wait_in(mutex_.waiting_, self.promise(), [this] { return !std::exchange(mutex_.locked_, true); });
        }
        guard await_resume() const {
            throw_if_cancelled();
            return guard{mutex_};
        }
        [[nodiscard]] std::string describe() const override { return "mutex"; }

       private:
        mutex& mutex_;
    };

    mutex() = default;
    mutex(const mutex&) = delete;
    mutex& operator=(const mutex&) = delete;
    ~mutex() {
        TORC_ASSERT(waiting_.empty(), "a mutex was destroyed while a task waited for it");
        TORC_ASSERT(!locked_, "a mutex was destroyed while it was locked");
    }

    /// Waits for the lock and gives its guard.
    /// Errors: `cancelled` unwinds, without the lock. A cancel that comes after the lock was handed over is too late:
    ///         the guard is returned.
    lock_awaitable lock() noexcept { return lock_awaitable{*this}; }

    /// The guard if nobody holds the lock.
    [[nodiscard]] std::optional<guard> try_lock() noexcept {
        if (std::exchange(locked_, true)) return std::nullopt;
        return guard{*this};
    }
    [[nodiscard]] bool locked() const noexcept { return locked_; }

   private:
    void unlock() noexcept {
        if (waiting_.empty()) {
            locked_ = false;
        } else {
            waiting_.wake_first();  // stays locked: it is the other's from now on
        }
    }

    detail::wait_queue waiting_;
    bool locked_ = false;
};

}  // namespace torc
