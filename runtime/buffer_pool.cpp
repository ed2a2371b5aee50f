#include <torc/runtime/buffer_pool.hpp>

#include <bit>
#include <new>

#include <torc/runtime/assert.hpp>

namespace torc {
namespace {

// malloc begins what is as large as this 16 bytes behind a page. The kernel receives into it with `rep movsb` from
// where a page begins, and there AMD's processors take up to twice as long over a message of 16 KB.
constexpr std::align_val_t page{4096};

std::byte* allocate_pages(std::size_t size_bytes) { return static_cast<std::byte*>(::operator new(size_bytes, page)); }

}  // namespace

void BufferPool::FreePages::operator()(std::byte* memory) const noexcept { ::operator delete(memory, page); }

BufferPool::BufferPool(std::size_t count, std::size_t buffer_bytes)
    : count_(count), buffer_bytes_(buffer_bytes), memory_(allocate_pages(count * buffer_bytes)) {
    TORC_ASSERT(std::has_single_bit(count) && count <= 32768, "buffer_count must be a power of two, at most 32768");
    free_.reserve(count);
    for (std::size_t id = count; id > 0; --id) free_.push_back(static_cast<std::uint16_t>(id - 1));
}

}  // namespace torc
