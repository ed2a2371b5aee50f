#pragma once

#include <functional>

#include <torc/runtime/run.hpp>

/// Many cores: one executor on each, which share nothing.
namespace torc {

/// Runs `root(core)` for core 0 to `cores - 1`, each on an executor and a thread of its own; core 0 is the calling
/// thread. They talk through `Executor::post` and through what the kernel offers (SO_REUSEPORT listeners).
///
/// As `run` for the whole: signals cancel every root, the first that fails cancels the others, and it returns when all
/// have ended, with 0, 1 after an error (which is printed), or 128 + the signal's number.
/// Shape:    `cores` is at least 1; 0 stands for as many as the machine lets this process use.
/// Lifetime: `root` is called once on each thread, at the same time, and lives until all have ended.
int run_on_cores(unsigned cores, const std::function<task<>(unsigned core)>& root, const ExecutorOptions& options = {});

}  // namespace torc
