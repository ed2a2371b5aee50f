#pragma once

#include <cstddef>
#include <optional>
#include <utility>

#include <torc/runtime/wait_queue.hpp>

namespace torc {

/// A number of permits, of which each task takes as many as it needs.
///
///     auto permit = co_await connections.acquire();   // given back when the permit goes out of scope
///
/// First come, first served: who asks for many is not overtaken by those who ask for few.
/// Lifetime: must outlive its permits and everybody who waits; dies with a sentence otherwise.
/// Requires: the executor's thread; one executor.
class semaphore {
   public:
    /// Permits, held until destroyed or `release`. Not bound to a task: it may be handed on.
    class [[nodiscard("a permit that is thrown away is given back at once")]] permit {
       public:
        permit() = default;
        permit(permit&& other) noexcept
            : from_(std::exchange(other.from_, nullptr)), count_(std::exchange(other.count_, 0)) {}
        permit& operator=(permit&& other) noexcept {
            if (this != &other) {
                release();
                from_ = std::exchange(other.from_, nullptr);
                count_ = std::exchange(other.count_, 0);
            }
            return *this;
        }
        ~permit() { release(); }

        [[nodiscard]] std::size_t count() const noexcept { return count_; }
        /// Gives them back now.
        void release() noexcept {
            if (from_ == nullptr) return;
            semaphore& from = *from_;
            from.release(forget());
        }
        /// Keeps them without an owner, for whom `semaphore::release` will give them back. Returns how many.
        std::size_t forget() noexcept {
            if (from_ != nullptr) --std::exchange(from_, nullptr)->held_;
            return std::exchange(count_, 0);
        }

       private:
        friend class semaphore;
        permit(semaphore& from, std::size_t count) noexcept : from_(&from), count_(count) { ++from.held_; }
        semaphore* from_ = nullptr;
        std::size_t count_ = 0;
    };

    class [[nodiscard("co_await it")]] acquire_awaitable final : public detail::waiter {
       public:
        acquire_awaitable(semaphore& from, std::size_t count) noexcept : semaphore_(from), count_(count) {}
        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
            return wait_in(semaphore_.waiting_, self.promise(), [this] { return semaphore_.take(count_); });
        }
        permit await_resume() const {
            throw_if_cancelled();
            return permit{semaphore_, count_};
        }
        void cancel() noexcept override {
            waiter::cancel();
            semaphore_.serve();  // it may have stood before others who want less
        }
        [[nodiscard]] std::string describe() const override { return "semaphore"; }

       private:
        friend class semaphore;
        semaphore& semaphore_;
        std::size_t count_;
    };

    explicit semaphore(std::size_t permits) noexcept : available_(permits) {}
    semaphore(const semaphore&) = delete;
    semaphore& operator=(const semaphore&) = delete;
    ~semaphore() {
        TORC_ASSERT(waiting_.empty(), "a semaphore was destroyed while a task waited for it");
        TORC_ASSERT(held_ == 0, "a semaphore was destroyed while a permit of it was held");
    }

    /// Waits until `count` permits are free and it is this task's turn. Who asks for more than there will ever be waits
    /// until it is cancelled.
    /// Errors: `cancelled` unwinds, without permits. A cancel that comes after they were handed over is too late: the
    ///         permit is returned.
    acquire_awaitable acquire(std::size_t count = 1) noexcept { return {*this, count}; }

    /// The permit if it can be had without overtaking anybody.
    [[nodiscard]] std::optional<permit> try_acquire(std::size_t count = 1) noexcept {
        if (!take(count)) return std::nullopt;
        return permit{*this, count};
    }

    /// Adds permits: new ones, or those of a permit that was told to forget them.
    void release(std::size_t count = 1) noexcept {
        available_ += count;
        serve();
    }
    [[nodiscard]] std::size_t available() const noexcept { return available_; }

   private:
    bool take(std::size_t count) noexcept {
        if (!waiting_.empty() || count > available_) return false;
        available_ -= count;
        return true;
    }
    void serve() noexcept {
        while (!waiting_.empty() && waiting_.first<acquire_awaitable>().count_ <= available_) {
            available_ -= waiting_.first<acquire_awaitable>().count_;
            waiting_.wake_first();
        }
    }

    detail::wait_queue waiting_;
    std::size_t available_;
    std::size_t held_ = 0;
};

}  // namespace torc
