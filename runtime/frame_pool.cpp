#include <torc/runtime/frame_pool.hpp>

#include <array>
#include <new>
#include <utility>

// Theory of operation. Sizes are rounded up to 16 bytes; a class for each multiple up to 4 KiB keeps its freed blocks
// in a singly linked list threaded through them. The lists are bounded together, so a burst does not pin its peak for
// ever. The pool is trivially destructible on purpose: blocks may be freed by destructors of other thread-local or
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

struct free_block {
    free_block* next;
};

struct Pool {
    std::array<free_block*, classes + 1> free{};
    std::size_t kept_bytes = 0;
    std::ptrdiff_t live_frames = 0;
    bool closed = false;
};

constinit thread_local Pool pool;

// Gives the kept blocks back to the heap when the thread ends.
struct PoolCloser {
    ~PoolCloser() {
        pool.closed = true;
        for (free_block*& list : pool.free) {
            while (list != nullptr) ::operator delete(std::exchange(list, list->next));
        }
    }
};
thread_local PoolCloser closer;

constexpr std::size_t class_of(std::size_t size_bytes) { return (size_bytes + step_bytes - 1) / step_bytes; }

}  // namespace

void* allocate_pooled(std::size_t size_bytes) {
    const std::size_t index = class_of(size_bytes);
    if (!pooling || index > classes) return ::operator new(size_bytes);
    if (free_block* const block = pool.free[index]) {
        pool.free[index] = block->next;
        pool.kept_bytes -= index * step_bytes;
        return block;
    }
    return ::operator new(index * step_bytes);
}

void free_pooled(void* memory, std::size_t size_bytes) noexcept {
    const std::size_t index = class_of(size_bytes);
    const std::size_t kept_bytes = pool.kept_bytes + index * step_bytes;
    if (!pooling || index > classes || kept_bytes > most_kept_bytes || pool.closed) {
        ::operator delete(memory);
        return;
    }
    if (pool.kept_bytes == 0) static_cast<void>(&closer);  // its first use registers its destructor
    pool.kept_bytes = kept_bytes;
    pool.free[index] = ::new (memory) free_block{pool.free[index]};
}

void* allocate_frame(std::size_t size_bytes) {
    void* const frame = allocate_pooled(size_bytes);
    ++pool.live_frames;
    return frame;
}

void free_frame(void* frame, std::size_t size_bytes) noexcept {
    --pool.live_frames;
    free_pooled(frame, size_bytes);
}

std::ptrdiff_t live_frames() noexcept { return pool.live_frames; }

}  // namespace torc::detail
