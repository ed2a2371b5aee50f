#pragma once

#include <memory>
#include <vector>

#include <torc/net/stream.hpp>

/// Listening sockets.
namespace torc::net {

struct ListenOptions {
    int backlog = 1024;
    bool reuse_port = false;  ///< SO_REUSEPORT: several executors listen on one port
    bool v6_only = false;
    bool no_delay = true;       ///< of the accepted TCP streams
    bool unlink_first = false;  ///< unix: remove a stale socket file before binding
};

/// The record behind a listener: one multishot accept, and the descriptors it brought that nobody took yet.
/// When it is closed those are closed too, through the ring, on the account of the same task.
class ListenerRecord final : public close_record {
   public:
    ListenerRecord(Executor& executor, const descriptor& file, const Address& local, bool no_delay) noexcept;

    [[nodiscard]] const Address& local() const noexcept { return local_; }

   private:
    friend class accept_awaitable;
    ~ListenerRecord() override = default;
    void start_close() noexcept override;

    struct owned_operation : operation {
        using operation::operation;
        ListenerRecord* owner = nullptr;
    };

    [[nodiscard]] bool has_queued() const noexcept { return first_queued_ < queued_.size(); }
    [[nodiscard]] int take_queued() noexcept;
    void arm() noexcept;
    void close_queued() noexcept;
    void submit_close() noexcept;
    static void accepted(operation& op) noexcept;
    static void closed(operation& op) noexcept;

    descriptor file_;
    Address local_;
    bool no_delay_;
    owned_operation accept_;
    owned_operation close_;
    std::vector<int> queued_;  // in order of arrival, from `first_queued_` on
    std::size_t first_queued_ = 0;
    int failure_ = 0;  // the negative errno that ended the accept, not yet reported
    class accept_awaitable* waiter_ = nullptr;
};

/// Takes the next connection. See Listener::accept.
class [[nodiscard("co_await it")]] accept_awaitable final : public torc::detail::leaf {
   public:
    explicit accept_awaitable(ListenerRecord* listener) noexcept : listener_(listener) {}

    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        return begin(self.promise());
    }
    TcpStream await_resume();
    result<TcpStream> take();
    void cancel() noexcept override;
    [[nodiscard]] std::string describe() const override { return "accept"; }

   private:
    friend class ListenerRecord;
    bool begin(torc::detail::task_state& task) noexcept;

    ListenerRecord* listener_;
    errc refused_{};
    bool woken_ = false;  // its task is ready; until that has run, no other may accept
};

/// Listens on an address: TCP, or unix, whose streams are then unix streams under the same interface.
/// Lifetime: as of streams: the destructor submits the close.
/// Requires: one acceptor at a time; made and used on the executor's thread, inside `run`.
class TcpListener {
   public:
    /// Errors: address_in_use, permission_denied and their like, with the address.
    [[nodiscard]] static TcpListener bind(const Address& address, const ListenOptions& options = {});

    /// Waits for the next connection.
    /// Errors: too_many_files_open and its like, after which accepting may be tried again; `errc::busy`; when it was
    ///         closed, `errc::closed`. `cancelled` unwinds; a connection that had arrived is kept for the next call.
    [[nodiscard]] accept_awaitable accept() noexcept { return accept_awaitable{listener_.get()}; }

    [[nodiscard]] close_awaitable close() noexcept { return close_awaitable{listener_.get()}; }
    /// The address that peers can connect to, with the port the kernel chose for port 0.
    [[nodiscard]] const Address& local() const noexcept { return listener_->local(); }

   private:
    struct Abandon {
        void operator()(ListenerRecord* record) const noexcept { close_record::abandon(record); }
    };
    explicit TcpListener(ListenerRecord* listener) noexcept : listener_(listener) {}
    std::unique_ptr<ListenerRecord, Abandon> listener_;
};

}  // namespace torc::net
