#include "uncaught.hpp"

// Theory of operation. An `Error` of ours brings its chain of awaits along; that of any other exception was noted by
// the executor as it left its first task.

namespace torc::detail {

Uncaught uncaught(const std::exception_ptr& error, const Executor* executor) {
    Uncaught told;
    if (executor != nullptr) told.trace = executor->error_trace(error);
    try {
        std::rethrow_exception(error);
    } catch (const Error& thrown) {
        told.what = thrown.what();
        if (!thrown.trace().empty()) told.trace = thrown.trace();
    } catch (const std::exception& thrown) {
        told.what = thrown.what();
    } catch (const cancelled&) {
        told.what = "it was cancelled";
    } catch (...) {
        told.what = "an exception of a type that says nothing";
    }
    return told;
}

}  // namespace torc::detail
