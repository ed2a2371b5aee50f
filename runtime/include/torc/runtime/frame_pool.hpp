#pragma once

#include <cstddef>
#include <new>

/// Memory of coroutine frames, and of the records that live about as long as one (sockets, sessions), pooled per
/// thread, which is to say per executor.
///
/// What is freed is kept in lists by size and handed out again, so that a program in its steady state starts tasks and
/// opens connections without asking the heap, which is slow for the larger of them. It may be freed on another thread
/// than the one that made it; it then joins that thread's pool. Under AddressSanitizer all of it comes from the heap,
/// so that a use after its end is seen.
namespace torc::detail {

void* allocate_pooled(std::size_t size_bytes);
void free_pooled(void* memory, std::size_t size_bytes) noexcept;

/// The same for coroutine frames, which are counted.
void* allocate_frame(std::size_t size_bytes);
void free_frame(void* frame, std::size_t size_bytes) noexcept;

/// Frames made and not yet freed by this thread: 0 net when nothing is left behind.
std::ptrdiff_t live_frames() noexcept;

/// A base of records that are made in the pool.
struct pooled {
    static void* operator new(std::size_t size_bytes) { return allocate_pooled(size_bytes); }
    static void* operator new(std::size_t size_bytes, std::align_val_t) = delete;  // larger than operator new's own
    static void operator delete(void* memory, std::size_t size_bytes) noexcept { free_pooled(memory, size_bytes); }
};

}  // namespace torc::detail
