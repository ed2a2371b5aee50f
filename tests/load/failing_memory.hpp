#pragma once

#include <cstddef>

/// Memory that runs out when a test says so.
namespace torc::load {

/// The calling thread's allocations from the `first`-th on, counted from now and from 1, fail, `count` of them.
/// Covers malloc, calloc, realloc and operator new; under sanitizers, and without glibc, operator new alone.
void fail_allocations(std::size_t first, std::size_t count) noexcept;

/// All is well again. Gives how many allocations the thread made since `fail_allocations`.
std::size_t stop_failing() noexcept;

/// Allocations that never fail and are not counted, for a library that is not to be tried.
void* sure_malloc(std::size_t size_bytes) noexcept;
void* sure_realloc(void* memory, std::size_t size_bytes) noexcept;

/// Lets this process's address space grow by no more than so many bytes from now on, or without limit again.
/// Errors: std::runtime_error when it can not be limited.
void limit_address_space(std::size_t further_bytes);
void allow_address_space();

/// Whether the address space can be limited: sanitizers reserve more of it than there is.
bool can_limit_address_space() noexcept;

}  // namespace torc::load
