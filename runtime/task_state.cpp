#include <torc/runtime/task_state.hpp>

#include <cxxabi.h>
#include <fmt/format.h>

#include <new>
#include <typeinfo>

#include <torc/runtime/child_group.hpp>
#include <torc/runtime/executor.hpp>

// Theory of operation. A coroutine's name and place come from std::source_location defaults in its promise, so they
// cost two pointers and no formatting until somebody asks.

namespace torc::detail {
namespace {

// "torc::task<int> app::fetch(std::string)" -> "app::fetch"; a lambda keeps the function it was written in.
std::string_view short_name(std::string_view function) {
    int depth = 0;
    std::size_t begin = 0;
    for (std::size_t at = 0; at < function.size(); ++at) {
        const char c = function[at];
        if (c == '<') {
            ++depth;
        } else if (c == '>') {
            --depth;
        } else if (c == ' ' && depth == 0) {
            begin = at + 1;
        } else if (c == '(' && depth == 0 && at > begin) {
            return function.substr(begin, at - begin);
        }
    }
    return function.substr(begin);
}

std::string_view file_name(std::string_view path) { return path.substr(path.rfind('/') + 1); }

}  // namespace

std::string describe_coroutine(const std::source_location& created, std::uint_least32_t line) {
    return fmt::format("{} ({}:{})", short_name(created.function_name()), file_name(created.file_name()), line);
}

std::string task_state::describe() const { return describe_coroutine(created, awaiting.line()); }

void task_state::unhandled_exception() noexcept {
    const std::type_info* const type = abi::__cxa_current_exception_type();
    if (type != nullptr && *type == typeid(cancelled)) {
        ended = outcome::cancelled;
        return;
    }
    ended = outcome::error;
    error = std::current_exception();
    if (!executor->note_error(*this) || type == nullptr || *type != typeid(Error)) return;
    // Thrown by the program itself, not by one of our awaitables: it learns here where that was.
    try {
        try {
            std::rethrow_exception(error);
        } catch (Error& thrown) {
            if (thrown.trace().empty()) thrown.with_trace(trace_of(this));
        }
    } catch (const std::bad_alloc&) {
        // It goes its way without saying where from.
    }
}

std::string trace_of(const task_state* from) {
    std::string text;
    constexpr int most_lines = 64;
    int lines = 0;
    for (; from != nullptr && lines < most_lines; from = from->parent, ++lines) {
        text += lines == 0 ? "in " : "awaited by ";
        text += from->describe();
        text += '\n';
    }
    if (from != nullptr) text += "and so on\n";
    return text;
}

void throw_error(Error error, const task_state* from) {
    if (error.trace().empty()) error.with_trace(trace_of(from));
    throw error;
}

}  // namespace torc::detail
