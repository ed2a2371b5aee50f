#include <torc/runtime/close.hpp>

// Theory of operation. The account of a close is taken when it begins: the running task, because destructors run inside
// the task whose frame they leave. `account_` may then wait in its final suspension for `close_ended`, and its frame
// stays until that has come; so the pointer is good for as long as it is needed.
//
// A close may be over before `start_close` returns, and the record may be gone before the task that awaits its close
// runs again; so the outcome is copied into the awaitable, which from then on does not look at the record.

namespace torc {

void close_record::begin_close() noexcept {
    stage_ = stage::closing;
    account_ = executor_->running();
    executor_->close_began(account_);
    start_close();
}

void close_record::abandon(close_record* record) noexcept {
    if (record->stage_ == stage::closed) {
        delete record;
        return;
    }
    record->abandoned_ = true;
    if (record->stage_ == stage::open) record->begin_close();
}

void close_record::close_done(std::error_code error) noexcept {
    stage_ = stage::closed;
    error_ = error;
    // One whose outcome somebody awaits is reported there, one from a destructor is counted.
    executor_->close_ended(account_, !error || waiter_ != nullptr);
    if (waiter_ != nullptr) std::exchange(waiter_, nullptr)->closed(error);
    if (abandoned_) delete this;
}

bool close_awaitable::begin(detail::task_state& task) noexcept {
    TORC_ASSERT(record_->waiter_ == nullptr, "two tasks close the same resource at once");
    record_->waiter_ = this;
    enter_shielded(task);
    if (record_->is_open()) record_->begin_close();
    suspended_ = record_ != nullptr;
    if (!suspended_) leave();
    return suspended_;
}

void close_awaitable::closed(std::error_code error) noexcept {
    record_ = nullptr;
    error_ = error;
    if (suspended_) ready();
}

result<void> close_awaitable::take() {
    const std::error_code error = record_ != nullptr ? record_->error_ : error_;
    if (error) return std::unexpected{Error{error, phase::close, "close"}};
    return {};
}

}  // namespace torc
