#pragma once

#include <torc/runtime/task.hpp>

/// The front door of a program.
namespace torc {

/// Runs `root` on an executor of its own, for use as the body of `main`.
///
/// Ctrl-C and SIGTERM cancel the root scope, so that every scope is left in order; a second one ends the process at
/// once. SIGUSR1 prints the tree of suspended tasks to standard error. An error that nothing caught is printed with the
/// chain of co_awaits that led to it.
/// Returns: 0 (or what a `task<int>` returned); 1 after an uncaught error; 128 + the signal's number (130 for Ctrl-C)
///          when a signal ended it.
/// Requires: one at a time in a process, because signals belong to the process.
int run(task<> root, const ExecutorOptions& options = {});
int run(task<int> root, const ExecutorOptions& options = {});

}  // namespace torc
