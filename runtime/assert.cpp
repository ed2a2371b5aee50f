#include <torc/runtime/assert.hpp>

#include <cstdio>
#include <cstdlib>

namespace torc::detail {

void assertion_failed(const char* sentence, std::source_location where) noexcept {
    std::fprintf(stderr, "torc: %s (%s:%u)\n", sentence, where.file_name(), static_cast<unsigned>(where.line()));
    std::abort();
}

}  // namespace torc::detail
