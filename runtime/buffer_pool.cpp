#include <torc/runtime/buffer_pool.hpp>

#include <bit>

#include <torc/runtime/assert.hpp>

namespace torc {

BufferPool::BufferPool(std::size_t count, std::size_t buffer_bytes)
    : count_(count), buffer_bytes_(buffer_bytes), memory_(new std::byte[count * buffer_bytes]) {
    TORC_ASSERT(std::has_single_bit(count) && count <= 32768, "buffer_count must be a power of two, at most 32768");
    free_.reserve(count);
    for (std::size_t id = count; id > 0; --id) free_.push_back(static_cast<std::uint16_t>(id - 1));
}

}  // namespace torc
