#include "failing_memory.hpp"

#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <new>
#include <stdexcept>

// Theory of operation. The C library's allocator is still the one that allocates; in front of it each thread counts its
// calls while a test asks for that. Failing threads are told apart, so that a peer on another thread is not disturbed.

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define TORC_LOAD_SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define TORC_LOAD_SANITIZED 1
#endif
#endif

namespace torc::load {
namespace {

struct Failing {
    bool on = false;
    std::size_t seen = 0;
    std::size_t first = 0;
    std::size_t count = 0;
};
constinit thread_local Failing failing;

bool fails_now() noexcept {
    if (!failing.on) return false;
    ++failing.seen;
    return failing.seen >= failing.first && failing.seen - failing.first < failing.count;
}

}  // namespace

void fail_allocations(std::size_t first, std::size_t count) noexcept { failing = {true, 0, first, count}; }

std::size_t stop_failing() noexcept {
    failing.on = false;
    return failing.seen;
}

void limit_address_space(std::size_t further_bytes) {
    // Otherwise the allocator takes more at a time than it is asked for, and what it has left hides the limit.
    ::mallopt(M_TOP_PAD, 0);
    ::mallopt(M_ARENA_MAX, 1);
    std::size_t pages = 0;
    std::ifstream{"/proc/self/statm"} >> pages;
    rlimit limit{};
    ::getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = pages * static_cast<std::size_t>(::sysconf(_SC_PAGESIZE)) + further_bytes;
    if (pages == 0 || ::setrlimit(RLIMIT_AS, &limit) != 0) throw std::runtime_error("RLIMIT_AS can not be set");
}

void allow_address_space() {
    rlimit limit{};
    ::getrlimit(RLIMIT_AS, &limit);
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_AS, &limit);
}

bool can_limit_address_space() noexcept {
#ifdef TORC_LOAD_SANITIZED
    return false;
#else
    return true;
#endif
}

}  // namespace torc::load

#if defined(TORC_LOAD_SANITIZED) || !defined(__GLIBC__)

void* torc::load::sure_malloc(std::size_t size_bytes) noexcept { return std::malloc(size_bytes); }
void* torc::load::sure_realloc(void* memory, std::size_t size_bytes) noexcept {
    return std::realloc(memory, size_bytes);
}

void* operator new(std::size_t size_bytes) {
    void* const memory = torc::load::fails_now() ? nullptr : std::malloc(size_bytes == 0 ? 1 : size_bytes);
    if (memory == nullptr) throw std::bad_alloc{};
    return memory;
}
void* operator new(std::size_t size_bytes, const std::nothrow_t&) noexcept {
    return torc::load::fails_now() ? nullptr : std::malloc(size_bytes == 0 ? 1 : size_bytes);
}
void* operator new(std::size_t size_bytes, std::align_val_t alignment) {
    const auto boundary = static_cast<std::size_t>(alignment);
    const std::size_t whole_bytes = (size_bytes + boundary - 1) / boundary * boundary;
    void* const memory = torc::load::fails_now() ? nullptr : std::aligned_alloc(boundary, whole_bytes);
    if (memory == nullptr) throw std::bad_alloc{};
    return memory;
}
void* operator new[](std::size_t size_bytes) { return operator new(size_bytes); }
void* operator new[](std::size_t size_bytes, const std::nothrow_t& nothrow) noexcept {
    return operator new(size_bytes, nothrow);
}
void operator delete(void* memory) noexcept { std::free(memory); }
void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }
void operator delete(void* memory, std::align_val_t) noexcept { std::free(memory); }
void operator delete[](void* memory) noexcept { std::free(memory); }
void operator delete[](void* memory, std::size_t) noexcept { std::free(memory); }

#else

extern "C" {
void* __libc_malloc(std::size_t size_bytes);
void* __libc_calloc(std::size_t count, std::size_t size_bytes);
void* __libc_realloc(void* memory, std::size_t size_bytes);
void* __libc_memalign(std::size_t alignment, std::size_t size_bytes);

void* malloc(std::size_t size_bytes) {
    if (!torc::load::fails_now()) return __libc_malloc(size_bytes);
    errno = ENOMEM;
    return nullptr;
}
void* calloc(std::size_t count, std::size_t size_bytes) {
    if (!torc::load::fails_now()) return __libc_calloc(count, size_bytes);
    errno = ENOMEM;
    return nullptr;
}
void* realloc(void* memory, std::size_t size_bytes) {
    if (!torc::load::fails_now()) return __libc_realloc(memory, size_bytes);
    errno = ENOMEM;
    return nullptr;
}
void* aligned_alloc(std::size_t alignment, std::size_t size_bytes) {
    if (!torc::load::fails_now()) return __libc_memalign(alignment, size_bytes);
    errno = ENOMEM;
    return nullptr;
}
}

void* torc::load::sure_malloc(std::size_t size_bytes) noexcept { return __libc_malloc(size_bytes); }
void* torc::load::sure_realloc(void* memory, std::size_t size_bytes) noexcept {
    return __libc_realloc(memory, size_bytes);
}

#endif
