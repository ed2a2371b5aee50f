#pragma once

#include <cerrno>
#include <coroutine>
#include <string>
#include <type_traits>

#include <torc/runtime/leaf.hpp>

/// Awaitable operations: one record of the driver's, awaited by one task.
///
/// The record lies in the awaitable and so in the awaiting frame: nothing is allocated, and nothing goes away while the
/// kernel works on it. What arrived is always delivered: an operation whose cancel came too late gives its result, and
/// the task meets the cancellation at its next await.
namespace torc::detail {

class io_leaf : public leaf, public operation {
   public:
    io_leaf(op_kind what, descriptor* target) noexcept : operation(what, target, completed) {}
    /// Only an operation that was not started may move.
    io_leaf(io_leaf&& other) noexcept : operation(other) { assert_idle(); }

    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        return begin(self.promise());
    }
    void cancel() noexcept override { task_->executor->driver().cancel(*this); }
    [[nodiscard]] std::string describe() const override { return to_string(operation::kind); }

   protected:
    ~io_leaf() { assert_idle(); }

    /// The result as the kernel gives it, a negative errno for a failure. Throws `cancelled` if it ended so.
    [[nodiscard]] int outcome() const {
        throw_if_cancelled();
        if (result == -ECANCELED && cancel_requested) throw torc::cancelled{};
        return result;
    }

   private:
    bool begin(task_state& task) noexcept {
        if (!enter(task)) return false;
        task.executor->driver().submit(*this);
        return true;
    }
    static void completed(operation& op) noexcept { static_cast<io_leaf&>(op).ready(); }
    void assert_idle() const {
        TORC_ASSERT(state == op_state::idle, "an operation was destroyed while the kernel still worked on it");
    }
};

/// Gives `Derived` its await_resume from its `take`, which returns a `result<T>`.
template <class Derived>
class io_awaitable : public io_leaf {
   public:
    using io_leaf::io_leaf;
    auto await_resume() {
        auto taken = static_cast<Derived&>(*this).take();
        if (!taken) throw_error(std::move(taken).error(), task_);
        if constexpr (!std::is_void_v<typename decltype(taken)::value_type>) return std::move(*taken);
    }
};

}  // namespace torc::detail
