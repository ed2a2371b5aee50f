#include <torc/runtime/offload.hpp>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <vector>

#include <torc/runtime/assert.hpp>

// Theory of operation. One queue under one lock; the work behind it blocks anyway. A job belongs to the waiting task
// again as soon as it was posted to its executor, so nothing here touches it afterwards.

namespace torc {

struct OffloadPool::State {
    explicit State(std::size_t most) : most_threads(most) {}
    void serve() noexcept;

    const std::size_t most_threads;
    std::mutex mutex;
    std::condition_variable work;
    std::deque<Job*> queue;
    std::vector<std::thread> threads;
    std::size_t idle = 0;
    bool ending = false;
};

OffloadPool::OffloadPool(std::size_t most_threads) : state_(std::make_unique<State>(most_threads)) {}

OffloadPool::~OffloadPool() {
    {
        const std::lock_guard lock{state_->mutex};
        TORC_ASSERT(state_->queue.empty(), "an executor was destroyed with offloaded work waiting");
        state_->ending = true;
    }
    state_->work.notify_all();
    for (std::thread& thread : state_->threads) thread.join();
}

void OffloadPool::add(Job& job) {
    State& state = *state_;
    if (state.most_threads == 0) {
        job.work(job);
        job.executor->post(job);
        return;
    }
    {
        const std::lock_guard lock{state.mutex};
        if (state.idle <= state.queue.size() && state.threads.size() < state.most_threads) {
            try {
                state.threads.emplace_back([&state] { state.serve(); });
            } catch (...) {
                if (state.threads.empty()) throw;  // otherwise those that run will come to it
            }
        }
        state.queue.push_back(&job);
    }
    state.work.notify_one();
}

bool OffloadPool::remove(Job& job) noexcept {
    const std::lock_guard lock{state_->mutex};
    return std::erase(state_->queue, &job) > 0;
}

void OffloadPool::State::serve() noexcept {
    std::unique_lock lock{mutex};
    for (;;) {
        ++idle;
        work.wait(lock, [this] { return ending || !queue.empty(); });
        --idle;
        if (queue.empty()) return;
        Job& job = *queue.front();
        queue.pop_front();
        lock.unlock();
        job.work(job);
        job.executor->post(job);
        lock.lock();
    }
}

}  // namespace torc
