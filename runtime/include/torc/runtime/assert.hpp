#pragma once

#if __cplusplus <= 202002L
#error "torc needs C++23: -std=c++23"
#endif

#include <source_location>

namespace torc::detail {
[[noreturn]] void assertion_failed(const char* sentence, std::source_location where) noexcept;

/// Has `say` called on this thread after the sentence of a failed assertion, to tell its circumstances; null for none.
/// Returns what was there before.
struct last_words {
    void (*say)(const void* context) noexcept = nullptr;
    const void* context = nullptr;
};
last_words set_last_words(last_words words) noexcept;
}  // namespace torc::detail

/// Dies with a sentence that says what was wrong and where. For mistakes of the program, never for what a peer or the
/// kernel did. Stays on in release builds.
#define TORC_ASSERT(condition, sentence)                 \
    (static_cast<bool>(condition) ? static_cast<void>(0) \
                                  : ::torc::detail::assertion_failed(sentence, std::source_location::current()))
