#include <torc/runtime/executor.hpp>

#include <algorithm>
#include <random>
#include <thread>

#include <torc/runtime/child_group.hpp>
#include <torc/runtime/offload.hpp>

// Theory of operation. Tasks are resumed from one place, `resume`, and their ends are seen in two: there, and where a
// parent started them in place. A task that finishes while its parent is suspended hands over to the parent in the same
// loop, so unwinding ten thousand tasks takes no more stack than one.

namespace torc {
namespace {

thread_local Executor* current_executor = nullptr;

constexpr int most_rounds = 16;

/// The first task of a run has no parent and no siblings; nothing happens when it ends but that the loop sees it.
class RootGroup final : public detail::child_group {
   public:
    RootGroup() : child_group("run") {}
    void begin(Executor& executor, detail::task_state& root) {
        open(executor, nullptr);
        start(root);
    }

   private:
    void child_finished(detail::task_state&) noexcept override {}
};

struct PostedFunction : posted {
    std::move_only_function<void()> work;
};

}  // namespace

Clock::time_point Clock::now() noexcept {
    if (current_executor != nullptr) return current_executor->now();
    return time_point{std::chrono::steady_clock::now().time_since_epoch()};
}

std::chrono::system_clock::time_point Clock::wall_now() noexcept {
    if (current_executor != nullptr) return current_executor->driver().wall_now();
    return std::chrono::system_clock::now();
}

Executor* Executor::current() noexcept { return current_executor; }

Executor& Executor::here() noexcept {
    TORC_ASSERT(current_executor != nullptr, "this needs a running executor on this thread");
    return *current_executor;
}

Executor::Executor(const ExecutorOptions& options) : Executor(options, make_driver(options)) {}

struct Executor::Shuffle {
    explicit Shuffle(std::uint32_t seed) : draw(seed) {}
    std::minstd_rand draw;
};

Executor::Executor(const ExecutorOptions& options, std::unique_ptr<Driver> driver)
    : options_(options), driver_(std::move(driver)) {
    if (options.shuffle_seed != 0)
        shuffle_ = std::make_unique<Shuffle>(static_cast<std::uint32_t>(options.shuffle_seed));
}

Executor::~Executor() {
    TORC_ASSERT(current_executor != this, "an executor was destroyed while it was running");
    offload_pool_.reset();
    while (posting_.load(std::memory_order_acquire) != 0) std::this_thread::yield();
    services_.clear();
    for (posted* next = inbox_.exchange(nullptr); next != nullptr;) {
        posted& work = *next;
        next = work.next;
        if (work.run == run_posted_function) delete static_cast<PostedFunction*>(&work);
    }
    noted_errors_ = {};
    // Now all that may hold a resource is gone.
    if (open_closes_ > 0) Running{*this};
}

Executor::Running::Running(Executor& executor) noexcept
    : executor_(executor), outer_(std::exchange(current_executor, &executor)) {
    TORC_ASSERT(executor.root_ == nullptr, "Executor::run was called while it was running");
    executor.noted_errors_ = {};
}

Executor::Running::~Running() {
    executor_.run_until([this] { return executor_.open_closes_ == 0; });
    current_executor = outer_;
}

void Executor::run_root(detail::task_state& root) {
    RootGroup group;
    root_ = &group;
    turn_began_ = driver_->roughly_now();
    group.begin(*this, root);
    run_until([&group] { return group.running() == 0; });
    root_ = nullptr;
}

template <class Done>
void Executor::run_until(Done done) {
    for (;;) {
        if (timers_.next() <= turn_began_ + Driver::longest_tick) timers_.fire(driver_->now());
        run_posted();
        run_ready();
        if (done()) return;
        if (plug_due_) pull_plug();
        const bool busy = ready_head_ != nullptr || inbox_.load(std::memory_order_relaxed) != nullptr;
        if (busy && !driver_->due()) continue;
        driver_->turn(busy ? Clock::time_point::min() : timers_.next());
        turn_began_ = driver_->roughly_now();
    }
}

/// Tasks linked by `next_ready`, in another order.
detail::task_state* Executor::shuffled(detail::task_state* first) noexcept {
    std::vector<detail::task_state*> tasks;
    for (; first != nullptr; first = first->next_ready) tasks.push_back(first);
    std::ranges::shuffle(tasks, shuffle_->draw);
    for (detail::task_state* const task : tasks) first = (task->next_ready = first, task);
    return first;
}

inline void Executor::resume(detail::task_state& first) noexcept {
    for (detail::task_state* task = &first;;) {
        if (!task->finished) {
            running_ = task;
            ++resumes_;
            task->handle.resume();
            running_ = nullptr;
            if (!task->finished) break;
        }
        if (task->group != nullptr) {
            task->group->finished(*task);
            break;
        }
        task = task->parent;
        task->waiting_for = nullptr;
    }
}

/// A few rounds, because what one task finishes often makes the next one ready; but not without end, so that busy tasks
/// can not starve the ring.
void Executor::run_ready() {
    for (int round = 0; ready_head_ != nullptr && round < most_rounds; ++round) {
        detail::task_state* next = std::exchange(ready_head_, nullptr);
        if (shuffle_) next = shuffled(next);
        while (next != nullptr) {
            detail::task_state& task = *std::exchange(next, next->next_ready);
            if (options_.measure_resumes) {
                const Clock::time_point began = driver_->now();
                resume(task);
                longest_resume_ = std::max(longest_resume_, driver_->now() - began);
            } else {
                resume(task);
            }
            if (plug_due_ && !options_.cancel_late) pull_plug();
        }
    }
}

void Executor::run_posted_function(posted& work) noexcept {
    const std::unique_ptr<PostedFunction> function{static_cast<PostedFunction*>(&work)};
    function->work();
}

void Executor::post(std::move_only_function<void()> work) {
    auto function = std::make_unique<PostedFunction>();
    function->run = run_posted_function;
    function->work = std::move(work);
    post(*function.release());
}

void Executor::post(posted& work) noexcept {
    posting_.fetch_add(1, std::memory_order_relaxed);
    posted* head = inbox_.load(std::memory_order_relaxed);
    do {
        work.next = head;
    } while (!inbox_.compare_exchange_weak(head, &work, std::memory_order_release, std::memory_order_relaxed));
    if (head == nullptr) driver_->wake();  // otherwise whoever put the first one there did
    posting_.fetch_sub(1, std::memory_order_release);
}

void Executor::run_posted() noexcept {
    posted* newest = inbox_.load(std::memory_order_relaxed) != nullptr
                         ? inbox_.exchange(nullptr, std::memory_order_acquire)
                         : nullptr;
    posted* oldest = nullptr;
    while (newest != nullptr) {
        posted* const work = std::exchange(newest, newest->next);
        work->next = std::exchange(oldest, work);
    }
    while (oldest != nullptr) {
        posted& work = *std::exchange(oldest, oldest->next);
        work.run(work);
    }
}

/// The moment of `cancel_at_suspension` has come.
void Executor::pull_plug() {
    plug_due_ = false;
    if (options_.cancel_late) driver_->turn(Clock::time_point::min());
    if (!options_.at_suspension) return cancel_root();
    options_.cancel_at_suspension = std::exchange(options_.at_suspension, nullptr)();
    if (options_.cancel_at_suspension != 0 && options_.cancel_at_suspension <= suspensions_) cancel_root();
}

void Executor::cancel_root() noexcept {
    if (root_ != nullptr) root_->cancel();
}

OffloadPool& Executor::offload_pool() {
    if (!offload_pool_) offload_pool_ = std::make_unique<OffloadPool>(options_.offload_threads);
    return *offload_pool_;
}

std::shared_ptr<void>& Executor::service(const void* key) {
    for (auto& [known, service] : services_) {
        if (known == key) return service;
    }
    return services_.emplace_back(key, nullptr).second;
}

void Executor::close_began(detail::task_state* owner) noexcept {
    ++open_closes_;
    if (owner != nullptr) ++owner->open_closes;
}

void Executor::close_ended(detail::task_state* owner, bool graceful) noexcept {
    --open_closes_;
    ++closes_;
    if (!graceful) ++ungraceful_closes_;
    if (owner == nullptr || --owner->open_closes > 0 || !owner->left_body) return;
    owner->finished = true;
    make_ready(*owner);
}

bool Executor::note_error(const detail::task_state& from) noexcept {
    for (const NotedError& each : noted_errors_) {
        if (each.error == from.error) return false;
    }
    NotedError& noted = noted_errors_[next_noted_++ % noted_errors_.size()];
    noted.error = from.error;
    noted.depth = 0;
    for (const detail::task_state* task = &from; task != nullptr && noted.depth < noted.chain.size();
         task = task->parent) {
        noted.chain[noted.depth++] = {task->created, task->awaiting.line()};
    }
    return true;
}

std::string Executor::error_trace(const std::exception_ptr& error) const {
    std::string text;
    for (const NotedError& noted : noted_errors_) {
        if (noted.error != error) continue;
        for (std::size_t index = 0; index < noted.depth; ++index) {
            const auto& [created, line] = noted.chain[index];
            text += index == 0 ? "in " : "awaited by ";
            text += detail::describe_coroutine(created, line);
            text += '\n';
        }
    }
    return text;
}

Statistics Executor::statistics() const noexcept {
    Statistics all;
    static_cast<DriverStatistics&>(all) = driver_->statistics();
    all.resumes = resumes_;
    all.suspensions = suspensions_;
    all.ungraceful_closes = ungraceful_closes_;
    all.closes = closes_;
    all.open_closes = open_closes_;
    all.timers = timers_.size();
    all.buffers_lent = driver_->buffers().lent();
    all.frames = detail::live_frames();
    all.longest_resume = longest_resume_;
    return all;
}

}  // namespace torc
