#include <fmt/format.h>

#include <torc/runtime/child_group.hpp>
#include <torc/runtime/executor.hpp>

// Theory of operation. The dump walks the await tree from the root group. A chain of tasks that await one another is
// printed one below the other without recursion; only groups recurse, as deep as the program nests them.

namespace torc {
namespace {

std::string since(Clock::duration waited) {
    const double seconds = std::chrono::duration<double>(waited).count();
    if (seconds < 1) return fmt::format("{:.0f} ms", seconds * 1e3);
    return fmt::format("{:.1f} s", seconds);
}

void print_group(const detail::child_group& group, std::size_t depth, Clock::time_point now, std::string& out);

void print_task(const detail::task_state& first, std::size_t depth, Clock::time_point now, std::string& out) {
    for (const detail::task_state* task = &first;; ++depth) {
        out += fmt::format("{:{}}{}", "", 2 * depth, task->describe());
        const detail::awaited* const next = task->waiting_for;
        if (next == nullptr) {
            out += task->left_body ? fmt::format(": closing {}\n", task->open_closes) : ": ready\n";
            return;
        }
        if (next->what() == detail::awaited::kind::task) {
            out += '\n';
            task = static_cast<const detail::task_state*>(next);
            continue;
        }
        out += fmt::format(": {} for {}\n", next->describe(), since(now - task->suspended_at));
        if (next->what() == detail::awaited::kind::group) {
            print_group(static_cast<const detail::child_group&>(*next), depth + 1, now, out);
        }
        return;
    }
}

void print_group(const detail::child_group& group, std::size_t depth, Clock::time_point now, std::string& out) {
    for (const detail::task_state* child = group.first_child(); child != nullptr; child = child->next_sibling) {
        print_task(*child, depth, now, out);
    }
}

}  // namespace

std::string Executor::dump_tasks() const {
    const DriverStatistics& driver = driver_->statistics();
    std::string out = fmt::format("torc tasks ({}, {} operations in flight, {} timers):\n", driver_->name(),
                                  driver.in_flight, timers_.size());
    if (root_ != nullptr) print_group(*root_, 1, driver_->now(), out);
    return out;
}

}  // namespace torc
