#pragma once

#include <concepts>

#include <torc/runtime/task.hpp>

/// Children that are started as one goes.
namespace torc {

template <class Body>
task<> with_scope(Body body);

/// Where tasks are spawned. It exists inside `with_scope`, which returns when the body and every child have finished.
/// Lifetime: never outlives its `with_scope`; children may hold a reference to it and spawn more.
class scope final : private detail::fail_fast_group {
   public:
    /// Starts `child` at once, as a child of the scope. Its frame is destroyed when it has finished.
    /// Requires: the executor's thread, inside the scope. In a cancelled scope the child runs to its first await.
    void spawn(task<> child) noexcept {
        TORC_ASSERT(open_, "a task was spawned on a scope that is not open: not inside its with_scope");
        start(child.release());
    }
    /// The same for a callable that gives the child, such as a capturing lambda: it is kept for as long as the child
    /// runs, whereas `spawn(lambda())` would leave the child with the captures of a lambda that is gone.
    template <class Function>
        requires std::same_as<std::invoke_result_t<Function&>, task<>>
    void spawn(Function function) {
        spawn(call_kept(std::move(function)));
    }
    /// Cancels the body and all children; `with_scope` then returns normally.
    void cancel() noexcept {
        asked_ = true;
        fail_fast_group::cancel();
    }
    [[nodiscard]] bool cancelled() const noexcept { return fail_fast_group::cancelled(); }
    /// Children that have not finished, the body among them.
    [[nodiscard]] std::size_t running() const noexcept { return fail_fast_group::running(); }

   private:
    template <class Body>
    friend task<> with_scope(Body body);

    scope() noexcept : fail_fast_group("scope") {}

    template <class Function>
    static task<> call_kept(Function function) {
        co_await function();
    }

    /// Runs the body as the first child and awaits them all.
    class awaiter {
       public:
        awaiter(scope& self, task<>& body) noexcept : self_(self), body_(body) {}
        bool await_ready() const noexcept { return false; }
        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> owner) noexcept {
            self_.open(*owner.promise().executor, &owner.promise());
            self_.open_ = true;
            self_.start(body_.release());
            return self_.wait();
        }
        void await_resume() {
            self_.open_ = false;
            self_.throw_if_failed(self_.asked_);
        }

       private:
        scope& self_;
        task<>& body_;
    };

    void child_finished(detail::task_state& child) noexcept override {
        fail_fast_group::child_finished(child);
        // What the child's parameters close, its owner waits for.
        detail::task_state* const before = executor().set_running(owner());
        child.handle.destroy();
        executor().set_running(before);
    }

    bool open_ = false;
    bool asked_ = false;
};

/// Gives `body` a scope to spawn tasks on, and returns when the body and all of them have finished and what they let go
/// of is closed.
/// Shape:    `body` is callable with a `scope&` and returns a `task<>`; it may be a capturing lambda, it is kept here.
/// Errors:   the first failure of the body or a child cancels the rest; all are awaited, then it is thrown with the
///           others attached. After `scope::cancel` it returns normally, unless something failed or the cancellation
///           came from outside as well.
template <class Body>
task<> with_scope(Body body) {
    static_assert(std::same_as<std::invoke_result_t<Body&, scope&>, task<>>,
                  "the body takes a scope& and returns task<>");
    scope here;
    task<> first = body(here);
    co_await scope::awaiter(here, first);
}

}  // namespace torc
