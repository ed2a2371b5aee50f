#include <torc/runtime/assert.hpp>

#include <cstdio>
#include <cstdlib>
#include <utility>

namespace torc::detail {
namespace {
thread_local last_words words_of_thread;
}

last_words set_last_words(last_words words) noexcept { return std::exchange(words_of_thread, words); }

void assertion_failed(const char* sentence, std::source_location where) noexcept {
    std::fprintf(stderr, "torc: %s (%s:%u)\n", sentence, where.file_name(), static_cast<unsigned>(where.line()));
    if (words_of_thread.say != nullptr) words_of_thread.say(words_of_thread.context);
    std::abort();
}

}  // namespace torc::detail
