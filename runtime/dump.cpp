#include <fmt/format.h>

#include <algorithm>

#include <torc/runtime/child_group.hpp>
#include <torc/runtime/executor.hpp>

// Theory of operation. The dump walks the await tree from the root group: down what a task waits for, then to the next
// sibling of the nearest task that has one. The tree's own pointers lead the way back, so that neither recursion nor
// memory limits how deep a program may nest. The indentation stops growing where nobody could read it any more.

namespace torc {
namespace {

std::string since(Clock::duration waited) {
    const double seconds = std::chrono::duration<double>(waited).count();
    if (seconds < 1) return fmt::format("{:.0f} ms", seconds * 1e3);
    return fmt::format("{:.1f} s", seconds);
}

constexpr std::size_t deepest_indent = 40;

/// Prints one task and gives what it waits for, if that is another task or a group.
const detail::awaited* print_task(const detail::task_state& task, std::size_t depth, Clock::time_point now,
                                  std::string& out) {
    out += fmt::format("{:{}}{}", "", 2 * std::min(depth, deepest_indent), task.describe());
    const detail::awaited* const next = task.waiting_for;
    if (next == nullptr) {
        out += task.left_body ? fmt::format(": closing {}\n", task.open_closes) : ": ready\n";
        return nullptr;
    }
    if (next->what() == detail::awaited::kind::task) {
        out += '\n';
        return next;
    }
    out += fmt::format(": {} for {}\n", next->describe(), since(now - task.suspended_at));
    return next->what() == detail::awaited::kind::group ? next : nullptr;
}

void print_tree(const detail::child_group& root, Clock::time_point now, std::string& out) {
    std::size_t depth = 1;
    for (const detail::task_state* task = root.first_child(); task != nullptr;) {
        const detail::awaited* const next = print_task(*task, depth, now, out);
        const detail::task_state* below = nullptr;
        if (next != nullptr && next->what() == detail::awaited::kind::task) {
            below = static_cast<const detail::task_state*>(next);
        } else if (next != nullptr) {
            below = static_cast<const detail::child_group*>(next)->first_child();
        }
        if (below != nullptr) {
            task = below;
            ++depth;
            continue;
        }
        for (; task != nullptr; --depth) {
            if (task->next_sibling != nullptr) {
                task = task->next_sibling;
                break;
            }
            task = task->parent;
        }
    }
}

}  // namespace

std::string Executor::dump_tasks() const {
    const DriverStatistics& driver = driver_->statistics();
    std::string out = fmt::format("torc tasks ({}, {} operations in flight, {} timers):\n", driver_->name(),
                                  driver.in_flight, timers_.size());
    if (root_ != nullptr) print_tree(*root_, driver_->now(), out);
    return out;
}

}  // namespace torc
