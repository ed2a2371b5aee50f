#pragma once

#include <cstddef>

/// Counts what the whole process has allocated, whoever allocates it: the program, the C++ library, zlib, OpenSSL.
namespace torc::test {

/// What was allocated since it was made.
/// Requires: the program is linked with memory_watch.cpp. Of two that live at once the older one forgets its peak.
class memory_watch {
   public:
    memory_watch() noexcept;
    memory_watch(const memory_watch&) = delete;
    memory_watch& operator=(const memory_watch&) = delete;

    /// How much more there was at once, at the worst moment of its life, than when it was made.
    [[nodiscard]] std::size_t peak_bytes() const noexcept;
    /// How often memory was asked for, to be kept or not.
    [[nodiscard]] std::size_t allocations() const noexcept;

   private:
    std::ptrdiff_t at_start_;
    std::size_t allocations_at_start_;
};

}  // namespace torc::test
