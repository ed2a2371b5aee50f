#include <torc/runtime/offload.hpp>

#include <torc/runtime/assert.hpp>

// Theory of operation. One queue under one lock; the work behind it blocks anyway. A job belongs to the waiting task
// again as soon as it was posted to its executor, so nothing here touches it afterwards.

namespace torc {

OffloadPool::~OffloadPool() {
    {
        const std::lock_guard lock{mutex_};
        TORC_ASSERT(queue_.empty(), "an executor was destroyed with offloaded work waiting");
        ending_ = true;
    }
    work_.notify_all();
    for (std::thread& thread : threads_) thread.join();
}

void OffloadPool::add(Job& job) {
    if (most_threads_ == 0) {
        job.work(job);
        job.executor->post(job);
        return;
    }
    {
        const std::lock_guard lock{mutex_};
        if (idle_ <= queue_.size() && threads_.size() < most_threads_) {
            try {
                threads_.emplace_back([this] { serve(); });
            } catch (...) {
                if (threads_.empty()) throw;  // otherwise those that run will come to it
            }
        }
        queue_.push_back(&job);
    }
    work_.notify_one();
}

bool OffloadPool::remove(Job& job) noexcept {
    const std::lock_guard lock{mutex_};
    return std::erase(queue_, &job) > 0;
}

void OffloadPool::serve() noexcept {
    std::unique_lock lock{mutex_};
    for (;;) {
        ++idle_;
        work_.wait(lock, [this] { return ending_ || !queue_.empty(); });
        --idle_;
        if (queue_.empty()) return;
        Job& job = *queue_.front();
        queue_.pop_front();
        lock.unlock();
        job.work(job);
        job.executor->post(job);
        lock.lock();
    }
}

}  // namespace torc
