#pragma once

#include <cstddef>
#include <memory>
#include <optional>
#include <type_traits>
#include <variant>

#include <torc/runtime/leaf.hpp>

/// Blocking work on threads of its own.
namespace torc {

/// A bounded pool. Without threads it works on the caller's. Threads start when there is work and none is idle, and end
/// with the executor that owns the pool.
class OffloadPool {
   public:
    /// One piece of work. Owned by whoever waits for it; the pool's from `add` until it is posted or `remove` says
    /// yes.
    struct Job : posted {
        void (*work)(Job&) noexcept = nullptr;  // on a thread of the pool
        Executor* executor = nullptr;           // where `run` is posted afterwards
    };

    explicit OffloadPool(std::size_t most_threads);
    OffloadPool(const OffloadPool&) = delete;
    OffloadPool& operator=(const OffloadPool&) = delete;
    ~OffloadPool();

    /// Errors: std::system_error if the first thread can not be started.
    void add(Job& job);
    /// True if the job was still queued; it will then not run.
    [[nodiscard]] bool remove(Job& job) noexcept;

   private:
    struct State;
    std::unique_ptr<State> state_;
};

namespace detail {

template <class Function>
class offload_awaitable final : public leaf, private OffloadPool::Job {
    using value_type = std::invoke_result_t<Function&>;
    static_assert(!std::is_reference_v<value_type>, "offloaded work returns a value or nothing");

   public:
    explicit offload_awaitable(Function function) : function_(std::move(function)) {}
    offload_awaitable(offload_awaitable&& other) noexcept : Job(), function_(std::move(other.function_)) {}

    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) {
        if (!enter(self.promise())) return false;
        Job::work = perform;
        Job::run = performed;
        Job::executor = task_->executor;
        try {
            task_->executor->offload_pool().add(*this);
        } catch (...) {
            error_ = std::current_exception();
            leave();
            return false;
        }
        return true;
    }
    value_type await_resume() {
        throw_if_cancelled();
        if (error_) std::rethrow_exception(error_);
        if constexpr (!std::is_void_v<value_type>) return std::move(*value_);
    }

    void cancel() noexcept override {
        // Once a thread has it, the work runs to its end and its result is delivered.
        if (task_->executor->offload_pool().remove(*this)) end_cancelled();
    }
    [[nodiscard]] std::string describe() const override { return "offload"; }

   private:
    static void perform(Job& job) noexcept {
        auto& self = static_cast<offload_awaitable&>(job);
        try {
            if constexpr (std::is_void_v<value_type>) {
                self.function_();
            } else {
                self.value_.emplace(self.function_());
            }
        } catch (...) {
            self.error_ = std::current_exception();
        }
    }
    static void performed(posted& work) noexcept { static_cast<offload_awaitable&>(static_cast<Job&>(work)).ready(); }

    Function function_;
    std::optional<std::conditional_t<std::is_void_v<value_type>, std::monostate, value_type>> value_;
    std::exception_ptr error_;
};

}  // namespace detail

/// Calls `function` on a thread of the executor's bounded pool.
/// Lifetime: the callable is owned by the await; what it refers to must live until the await has ended.
/// Errors:   what the callable throws. Cancelling takes it out of the queue; once begun it runs to its end, is awaited,
///           and its result is delivered.
template <class Function>
[[nodiscard]] auto offload(Function function) {
    return detail::offload_awaitable<Function>{std::move(function)};
}

}  // namespace torc
