#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include <torc/runtime/frame_pool.hpp>

/// Containers whose memory comes from the pool of frames: for what is made and dropped with each operation, such as the
/// heads of messages. What is larger than the pool's blocks (4 KiB) comes from the heap, as everywhere.
namespace torc::detail {

template <class T>
struct pool_allocator {
    static_assert(alignof(T) <= __STDCPP_DEFAULT_NEW_ALIGNMENT__);
    using value_type = T;

    pool_allocator() = default;
    template <class Other>
    pool_allocator(const pool_allocator<Other>&) noexcept {}

    [[nodiscard]] T* allocate(std::size_t count) { return static_cast<T*>(allocate_pooled(count * sizeof(T))); }
    void deallocate(T* memory, std::size_t count) noexcept { free_pooled(memory, count * sizeof(T)); }
    bool operator==(const pool_allocator&) const = default;
};

using pooled_string = std::basic_string<char, std::char_traits<char>, pool_allocator<char>>;
template <class T>
using pooled_vector = std::vector<T, pool_allocator<T>>;

}  // namespace torc::detail
