#include <torc/runtime/frame_pool.hpp>

#include <array>
#include <new>
#include <utility>

// Theory of operation. Sizes are rounded up to 16 bytes; a class for each multiple up to 4 KiB keeps its freed frames
// in a singly linked list threaded through them. The lists are bounded together, so a burst does not pin its peak for
// ever. The pool is trivially destructible on purpose: frames may be freed by destructors of other thread-local or
// static objects after it, and then go straight to the heap.

namespace torc::detail {
namespace {

constexpr std::size_t step_bytes = 16;
constexpr std::size_t classes = 256;
constexpr std::size_t most_kept_bytes = 16u << 20;

#if defined(__SANITIZE_ADDRESS__)
constexpr bool pooling = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
constexpr bool pooling = false;
#else
constexpr bool pooling = true;
#endif
#else
constexpr bool pooling = true;
#endif

struct free_frame_link {
    free_frame_link* next;
};

struct Pool {
    std::array<free_frame_link*, classes + 1> free{};
    std::size_t kept_bytes = 0;
    std::ptrdiff_t live = 0;
    bool closed = false;
};

constinit thread_local Pool pool;

// Gives the kept frames back to the heap when the thread ends.
struct PoolCloser {
    ~PoolCloser() {
        pool.closed = true;
        for (free_frame_link*& list : pool.free) {
            while (list != nullptr) ::operator delete(std::exchange(list, list->next));
        }
    }
};
thread_local PoolCloser closer;

constexpr std::size_t class_of(std::size_t size_bytes) { return (size_bytes + step_bytes - 1) / step_bytes; }

}  // namespace

void* allocate_frame(std::size_t size_bytes) {
    const std::size_t index = class_of(size_bytes);
    if (pooling && index <= classes) {
        if (free_frame_link* const frame = pool.free[index]) {
            pool.free[index] = frame->next;
            pool.kept_bytes -= index * step_bytes;
            ++pool.live;
            return frame;
        }
        size_bytes = index * step_bytes;
    }
    void* const frame = ::operator new(size_bytes);
    ++pool.live;
    return frame;
}

void free_frame(void* frame, std::size_t size_bytes) noexcept {
    --pool.live;
    const std::size_t index = class_of(size_bytes);
    const std::size_t kept_bytes = pool.kept_bytes + index * step_bytes;
    if (!pooling || index > classes || kept_bytes > most_kept_bytes || pool.closed) {
        ::operator delete(frame);
        return;
    }
    if (pool.kept_bytes == 0) static_cast<void>(&closer);  // its first use registers its destructor
    pool.kept_bytes = kept_bytes;
    pool.free[index] = ::new (frame) free_frame_link{pool.free[index]};
}

std::ptrdiff_t live_frames() noexcept { return pool.live; }

}  // namespace torc::detail
