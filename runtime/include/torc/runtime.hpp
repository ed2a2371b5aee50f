#pragma once

#if __cplusplus <= 202002L
#error "torc needs C++23: -std=c++23"
#endif

/// All of the runtime: tasks, combinators, cancellation, time, synchronisation, the executor.
#include <torc/runtime/as_result.hpp>
#include <torc/runtime/channel.hpp>
#include <torc/runtime/close.hpp>
#include <torc/runtime/cores.hpp>
#include <torc/runtime/error.hpp>
#include <torc/runtime/event.hpp>
#include <torc/runtime/executor.hpp>
#include <torc/runtime/gather.hpp>
#include <torc/runtime/gather_limited.hpp>
#include <torc/runtime/gather_settled.hpp>
#include <torc/runtime/latch.hpp>
#include <torc/runtime/mutex.hpp>
#include <torc/runtime/offload.hpp>
#include <torc/runtime/race.hpp>
#include <torc/runtime/run.hpp>
#include <torc/runtime/scope.hpp>
#include <torc/runtime/semaphore.hpp>
#include <torc/runtime/stream.hpp>
#include <torc/runtime/task.hpp>
#include <torc/runtime/time.hpp>
#include <torc/runtime/timeout.hpp>
#include <torc/runtime/with.hpp>
