#include "memory_watch.hpp"

#include <malloc.h>

#include <atomic>
#include <cerrno>

// Theory of operation. This file takes the place of the C library's allocator and hands every call on to it, counting
// what the blocks can really hold. Under a sanitizer, which has taken that place already, its hooks tell the same.

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TORC_ALLOCATOR_IS_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
#define TORC_ALLOCATOR_IS_SANITIZED 1
#endif
#endif

namespace {

std::atomic<std::ptrdiff_t> allocated_bytes{0};
std::atomic<std::ptrdiff_t> most_bytes{0};
std::atomic<std::size_t> allocations_made{0};

void count(std::ptrdiff_t change) noexcept {
    const std::ptrdiff_t now = allocated_bytes.fetch_add(change, std::memory_order_relaxed) + change;
    std::ptrdiff_t most = most_bytes.load(std::memory_order_relaxed);
    while (now > most && !most_bytes.compare_exchange_weak(most, now, std::memory_order_relaxed)) {
    }
}

}  // namespace

#ifdef TORC_ALLOCATOR_IS_SANITIZED

// As <sanitizer/allocator_interface.h> declares them, which GCC does not bring.
extern "C" {

int __sanitizer_install_malloc_and_free_hooks(void (*allocated)(const volatile void*, std::size_t),
                                              void (*freed)(const volatile void*));
std::size_t __sanitizer_get_allocated_size(const volatile void* block);

}  // extern "C"

namespace {

[[maybe_unused]] const int installed = __sanitizer_install_malloc_and_free_hooks(
    [](const volatile void*, std::size_t size) {
        allocations_made.fetch_add(1, std::memory_order_relaxed);
        count(static_cast<std::ptrdiff_t>(size));
    },
    [](const volatile void* block) {
        if (block == nullptr) return;
        count(-static_cast<std::ptrdiff_t>(__sanitizer_get_allocated_size(block)));
    });

}  // namespace

#else

extern "C" {

void* __libc_malloc(std::size_t size) noexcept;
void* __libc_calloc(std::size_t number, std::size_t size) noexcept;
void* __libc_realloc(void* block, std::size_t size) noexcept;
void* __libc_memalign(std::size_t alignment, std::size_t size) noexcept;
void __libc_free(void* block) noexcept;

}  // extern "C"

namespace {

std::ptrdiff_t size_of(void* block) noexcept { return static_cast<std::ptrdiff_t>(malloc_usable_size(block)); }

void* counted(void* block) noexcept {
    allocations_made.fetch_add(1, std::memory_order_relaxed);
    count(size_of(block));
    return block;
}

}  // namespace

extern "C" {

void* malloc(std::size_t size) noexcept { return counted(__libc_malloc(size)); }
void* calloc(std::size_t number, std::size_t size) noexcept { return counted(__libc_calloc(number, size)); }
void* realloc(void* block, std::size_t size) noexcept {
    const std::ptrdiff_t before = size_of(block);
    void* moved = __libc_realloc(block, size);
    allocations_made.fetch_add(1, std::memory_order_relaxed);
    if (moved != nullptr || size == 0) count(size_of(moved) - before);
    return moved;
}
void free(void* block) noexcept {
    count(-size_of(block));
    __libc_free(block);
}
void* memalign(std::size_t alignment, std::size_t size) noexcept { return counted(__libc_memalign(alignment, size)); }
void* aligned_alloc(std::size_t alignment, std::size_t size) noexcept { return memalign(alignment, size); }
int posix_memalign(void** block, std::size_t alignment, std::size_t size) noexcept {
    void* made = memalign(alignment, size);
    if (made == nullptr) return ENOMEM;
    *block = made;
    return 0;
}

}  // extern "C"

#endif

namespace torc::test {

memory_watch::memory_watch() noexcept
    : at_start_(allocated_bytes.load()), allocations_at_start_(allocations_made.load()) {
    most_bytes = at_start_;
}

std::size_t memory_watch::peak_bytes() const noexcept {
    return static_cast<std::size_t>(most_bytes.load() - at_start_);
}

std::size_t memory_watch::allocations() const noexcept { return allocations_made.load() - allocations_at_start_; }

}  // namespace torc::test
