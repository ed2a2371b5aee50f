#pragma once

#include <cstddef>

/// Memory of coroutine frames, pooled per thread, which is to say per executor.
///
/// Freed frames are kept in lists by size and handed out again, so that a program in its steady state starts tasks
/// without asking the heap. A frame may be freed on another thread than the one that made it; it then joins that
/// thread's pool. Under AddressSanitizer every frame comes from the heap, so that a use after its end is seen.
namespace torc::detail {

void* allocate_frame(std::size_t size_bytes);
void free_frame(void* frame, std::size_t size_bytes) noexcept;

/// Frames made and not yet freed by this thread: 0 net when nothing is left behind.
std::ptrdiff_t live_frames() noexcept;

}  // namespace torc::detail
