#pragma once

#include <array>
#include <atomic>
#include <functional>
#include <memory>
#include <source_location>
#include <string>
#include <utility>
#include <vector>

#include <torc/runtime/driver.hpp>
#include <torc/runtime/task_state.hpp>
#include <torc/runtime/timer.hpp>

/// The executor: one thread, one driver, and the tasks that run on it.
///
/// A turn of its loop: fire the timers that are due, run what other threads posted, resume what is ready, a few rounds
/// of it, and enter the driver, which submits all that was asked for and waits only if nothing is ready. While tasks
/// are ready and have asked it for nothing the driver has its turn now and then. A completion makes a task ready; it
/// never resumes it on the spot, so no stack grows with the number of completions.
namespace torc {

template <class T>
class task;
class OffloadPool;

struct ExecutorOptions : DriverOptions {
    /// How long the close of a resource may take before it is cut short.
    Clock::duration close_grace = std::chrono::seconds{2};
    /// Threads of the pool behind `offload`, started when first needed; with 0 the work is done on the executor's own.
    std::size_t offload_threads = 4;
    /// For tests that pull the plug at every await: cancels the root scope at the n-th suspension of any task, counted
    /// from 1; 0 never. At once, while others are ready to run and before the operation that was suspended on reaches
    /// the kernel, or with `cancel_late` after both.
    std::uint64_t cancel_at_suspension = 0;
    bool cancel_late = false;
    /// What happens then instead, called between two tasks; gives the suspension at which to cancel the root, or 0.
    std::function<std::uint64_t()> at_suspension;
    /// Resumes what is ready in an order drawn from this number instead of first come, first served; 0 does not. For
    /// tests that look for a reliance on the order.
    std::uint64_t shuffle_seed = 0;
    /// Measures the longest time one resume held the thread (`Statistics::longest_resume`); two clock readings each.
    bool measure_resumes = false;
};

struct Statistics : DriverStatistics {
    std::uint64_t resumes = 0;
    std::uint64_t suspensions = 0;        ///< awaits, also those that then need not wait
    std::uint64_t ungraceful_closes = 0;  ///< closes from destructors that were not clean, or were cut short
    std::uint64_t closes = 0;             ///< closes completed
    std::size_t open_closes = 0;          ///< closes now under way
    std::size_t timers = 0;               ///< timers now armed
    std::size_t buffers_lent = 0;         ///< buffers now in the hands of slices
    std::ptrdiff_t frames = 0;            ///< coroutine frames this thread made, less those it freed
    Clock::duration longest_resume{};     ///< with `measure_resumes`
};

/// Something another thread hands over; owned by whoever posts it until `run` is called on the executor's thread.
struct posted {
    posted* next = nullptr;
    void (*run)(posted&) noexcept = nullptr;
};

class Executor {
   public:
    /// Requires: the thread that will call `run`.
    /// Errors:   `Error` when the driver that was insisted on can not be had.
    explicit Executor(const ExecutorOptions& options = {});
    /// On a driver that was made elsewhere.
    Executor(const ExecutorOptions& options, std::unique_ptr<Driver> driver);
    Executor(const Executor&) = delete;
    Executor& operator=(const Executor&) = delete;
    /// Drains the closes of resources that were let go of outside `run`.
    ~Executor();

    /// Runs `root` to its end and everything it started, then drains the closes nobody waits for.
    /// Returns what the task returned. Errors: what the task threw, `cancelled` included.
    template <class T>
    T run(task<T> root);

    /// Runs `work` on the executor's thread, outside any task, in the order of posting. From any thread.
    /// Lifetime: what was posted and not run when the executor is destroyed is destroyed unrun. The work may
    ///           be what makes the executor end: its destructor waits for calls of `post` that are still returning.
    /// Requires: `work` does not throw.
    void post(std::move_only_function<void()> work);
    void post(posted& work) noexcept;

    /// Cancels the root scope of `run`: the polite end of everything. From the executor's thread.
    void cancel_root() noexcept;

    [[nodiscard]] Clock::time_point now() const noexcept { return driver_->now(); }
    /// Whether it is that time. That is found out when it is near as the driver last had its turn: a task that computes
    /// for long may hear of it one await late.
    [[nodiscard]] bool reached(Clock::time_point when) const noexcept {
        return when <= turn_began_ + Driver::longest_tick && when <= now();
    }
    [[nodiscard]] Statistics statistics() const noexcept;
    [[nodiscard]] const ExecutorOptions& options() const noexcept { return options_; }
    [[nodiscard]] Driver& driver() noexcept { return *driver_; }

    /// The tree of suspended tasks: what each waits for, where, and since when.
    [[nodiscard]] std::string dump_tasks() const;

    /// The executor that runs on this thread, or null.
    [[nodiscard]] static Executor* current() noexcept;
    /// The same; asserts that there is one.
    [[nodiscard]] static Executor& here() noexcept;

    // For awaitables and resources.

    /// Puts a suspended task at the end of the ready queue. Requires: it is not there already.
    void make_ready(detail::task_state& task) noexcept {
        task.waiting_for = nullptr;
        task.next_ready = nullptr;
        (ready_head_ != nullptr ? ready_tail_->next_ready : ready_head_) = &task;
        ready_tail_ = &task;
    }
    /// Marks the running task as suspended on `what`.
    void suspend(detail::task_state& task, detail::awaited& what) noexcept {
        task.waiting_for = &what;
        task.suspended_at = turn_began_;
        count_suspension();
    }
    /// Suspends the running task, which is ready again at once.
    void give_way(detail::task_state& task) noexcept {
        count_suspension();
        make_ready(task);
    }
    /// Starts `child` at once on the caller's stack, or, when that has become deep, queues it.
    void start(detail::task_state& child) noexcept {
        child.started = true;
        if (depth_ == max_depth) {
            make_ready(child);
            return;
        }
        detail::task_state* const parent = running_;
        ++depth_;
        running_ = &child;
        child.handle.resume();
        running_ = parent;
        --depth_;
    }
    /// Lets `parent` wait for `child`, which starts in place. False if that has finished already, so that the stack
    /// stays flat without tail calls, which GCC does not make at -O0 or under sanitizers.
    [[nodiscard]] bool wait_for(detail::task_state& parent, detail::task_state& child) noexcept {
        child.executor = this;
        child.parent = &parent;
        child.scope = parent.scope;
        suspend(parent, child);
        start(child);
        if (!child.finished) return true;
        parent.waiting_for = nullptr;
        return false;
    }
    [[nodiscard]] detail::task_state* running() const noexcept { return running_; }
    /// Lets `owner` be the running task for a moment, so that resources destroyed now are closed on its account.
    detail::task_state* set_running(detail::task_state* owner) noexcept { return std::exchange(running_, owner); }

    [[nodiscard]] detail::TimerQueue& timers() noexcept { return timers_; }
    [[nodiscard]] OffloadPool& offload_pool();
    /// Where slow things that belong to the executor live (the resolver), one for each key; destroyed with it.
    /// Lifetime: the reference is good until the next call.
    std::shared_ptr<void>& service(const void* key);

    /// Remembers the chain of awaits that an error began in; called where it leaves a task.
    /// Returns: whether it is new, and not one on its way up.
    bool note_error(const detail::task_state& from) noexcept;
    /// That chain for one of the last errors, a line each; empty if it is not known any more. Good until the next
    /// `run`.
    [[nodiscard]] std::string error_trace(const std::exception_ptr& error) const;

    void close_began(detail::task_state* owner) noexcept;
    void close_ended(detail::task_state* owner, bool graceful) noexcept;

   private:
    // Deep enough that real programs start children in place, shallow enough for any thread's stack under ASan.
    static constexpr int max_depth = 64;

    /// While it lives the executor is the thread's current one; at its end it drains the closes.
    class Running {
       public:
        explicit Running(Executor& executor) noexcept;
        ~Running();

       private:
        Executor& executor_;
        Executor* outer_;
    };
    struct NotedError {
        std::exception_ptr error;
        std::size_t depth = 0;
        std::array<std::pair<std::source_location, std::uint_least32_t>, 32> chain;
    };

    struct Shuffle;

    void count_suspension() noexcept {
        if (++suspensions_ == options_.cancel_at_suspension) plug_due_ = true;
    }
    void run_root(detail::task_state& root);
    static void run_posted_function(posted& work) noexcept;
    inline void resume(detail::task_state& task) noexcept;
    void run_ready();
    void run_posted() noexcept;
    void pull_plug();
    detail::task_state* shuffled(detail::task_state* first) noexcept;
    template <class Done>
    void run_until(Done done);

    ExecutorOptions options_;
    std::unique_ptr<Driver> driver_;
    detail::TimerQueue timers_;
    detail::task_state* ready_head_ = nullptr;
    detail::task_state* ready_tail_ = nullptr;  // good while there is a head
    detail::task_state* running_ = nullptr;
    detail::child_group* root_ = nullptr;
    int depth_ = 0;
    Clock::time_point turn_began_{};  // roughly
    std::size_t open_closes_ = 0;
    std::uint64_t resumes_ = 0;
    std::uint64_t suspensions_ = 0;
    bool plug_due_ = false;
    std::unique_ptr<Shuffle> shuffle_;  // null: tasks run in the order in which they became ready
    std::uint64_t closes_ = 0;
    std::uint64_t ungraceful_closes_ = 0;
    Clock::duration longest_resume_{};
    std::atomic<posted*> inbox_{nullptr};
    std::atomic<int> posting_{0};             // calls of `post` under way on other threads
    std::array<NotedError, 4> noted_errors_;  // the latest: siblings that fail together are told apart
    std::size_t next_noted_ = 0;
    std::unique_ptr<OffloadPool> offload_pool_;
    std::vector<std::pair<const void*, std::shared_ptr<void>>> services_;
};

}  // namespace torc
