#pragma once

#include <torc/runtime/frame_pool.hpp>
#include <torc/runtime/leaf.hpp>

/// Structured close: the asynchronous destructor that C++ does not have.
///
/// A resource whose close needs the ring keeps what the close needs in a record of its own. When the
/// resource's C++ scope ends, its destructor abandons the record and returns; the record now owns the descriptor and
/// itself. It is entered on the account of the running task, which is the task whose frame is being left, and that task
/// does not finish before it is done. Outside any task the executor keeps the account and `run` does not return.
///
///     open --abandon / co_await close()--> closing --close_done--> closed
///
/// Closing is idempotent and can not be cancelled; each kind of record bounds its own waiting.
namespace torc {

class close_awaitable;

class close_record : public detail::pooled {
   public:
    explicit close_record(Executor& executor) noexcept : executor_(&executor) {}
    close_record(const close_record&) = delete;
    close_record& operator=(const close_record&) = delete;

    [[nodiscard]] Executor& executor() const noexcept { return *executor_; }
    [[nodiscard]] bool is_open() const noexcept { return stage_ == stage::open; }

    /// Called by the owner's destructor instead of `delete`: closes if that was not done, then destroys the record.
    static void abandon(close_record* record) noexcept;

   protected:
    virtual ~close_record() = default;

    /// Starts the close; `close_done` follows, in this call or in a later turn of the executor.
    virtual void start_close() noexcept = 0;
    /// The resource is gone. `error` says what was not graceful about it. May destroy the record.
    void close_done(std::error_code error) noexcept;
    /// The task that waits for this close, or null: what is closed in passing belongs to its account as well.
    [[nodiscard]] detail::task_state* account() const noexcept { return account_; }

   private:
    friend class close_awaitable;
    enum class stage : std::uint8_t { open, closing, closed };

    void begin_close() noexcept;

    Executor* executor_;
    detail::task_state* account_ = nullptr;
    close_awaitable* waiter_ = nullptr;
    std::error_code error_;
    stage stage_ = stage::open;
    bool abandoned_ = false;
};

/// Closes here and now. Awaiting it twice, or after the resource was closed, gives the first outcome again.
class [[nodiscard]] close_awaitable final : public detail::leaf {
   public:
    /// Null stands for a resource that was moved from: nothing is done.
    explicit close_awaitable(close_record* record) noexcept : record_(record) {}

    bool await_ready() const noexcept { return record_ == nullptr || record_->stage_ == close_record::stage::closed; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        return begin(self.promise());
    }
    void await_resume() {
        if (auto closed = take(); !closed) detail::throw_error(closed.error(), task_);
    }
    /// For as_result.
    result<void> take();

    void cancel() noexcept override {}
    [[nodiscard]] std::string describe() const override { return "close"; }

   private:
    friend class close_record;
    bool begin(detail::task_state& task) noexcept;
    /// By the record, which may be gone afterwards.
    void closed(std::error_code error) noexcept;

    close_record* record_;
    std::error_code error_;
    bool suspended_ = false;
};

}  // namespace torc
