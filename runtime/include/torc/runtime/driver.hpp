#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include <torc/runtime/buffer_pool.hpp>
#include <torc/runtime/operation.hpp>

struct sockaddr;

/// The driver seam: everything above it is the same program whichever driver runs it.
///
/// A driver knows operations, not coroutines. `submit` only queues the record; once a turn the executor calls `turn`,
/// which hands the queue to the kernel, waits, and calls `complete` of every record that has something to say. All of
/// it happens on the executor's thread, `wake` alone may be called from any other.
namespace torc {

/// The executor's clock: nanoseconds since an arbitrary start, never set back; the simulator's is virtual.
struct Clock {
    using duration = std::chrono::nanoseconds;
    using rep = duration::rep;
    using period = duration::period;
    using time_point = std::chrono::time_point<Clock>;
    static constexpr bool is_steady = true;
    static constexpr time_point never = time_point::max();
    /// The clock of the executor that runs this thread, else the machine's monotonic clock.
    static time_point now() noexcept;
    /// The date and time of day, likewise; a simulated run begins with the year 2026.
    static std::chrono::system_clock::time_point wall_now() noexcept;
};

enum class driver_kind : std::uint8_t { automatic, uring, epoll, sim };

/// Counters of one driver since it began; what is called "now" goes up and down.
struct DriverStatistics {
    std::uint64_t turns = 0;        ///< times the kernel was entered
    std::uint64_t submitted = 0;    ///< operations handed to the kernel
    std::uint64_t completions = 0;  ///< completions taken from it
    std::uint64_t cancels_requested = 0;
    std::uint64_t cancels_landed = 0;    ///< the operation ended with ECANCELED
    std::uint64_t cancels_too_late = 0;  ///< it ended with a result all the same, which was delivered
    std::uint64_t buffers_starved = 0;   ///< receives that found the executor's buffers all lent out
    std::size_t in_flight = 0;           ///< operations now with the driver, its own not counted
    std::size_t waiting_for_buffer = 0;  ///< receives that wait now until one is given back
    std::size_t open_descriptors = 0;    ///< descriptors now open that operations of this driver opened
};

/// What the io_uring driver uses where the kernel has it, and does without where it has not. What is false here is not
/// even tried: for tests of doing without, and to find out whether a kernel's fault is behind something.
struct UringFeatures {
    bool defer_taskrun = true;       ///< completions are worked off when this thread asks for them (Linux 6.1)
    bool coop_taskrun = true;        ///< at least they interrupt nobody for it (5.19)
    bool direct_descriptors = true;  ///< sockets that are in the ring's table alone
    bool ring_options = true;        ///< socket options set through the ring (6.7)
    bool multishot_accept = true;
    bool multishot_receive = true;  ///< (6.0)
};

struct DriverOptions {
    driver_kind kind = driver_kind::automatic;  ///< TORC_DRIVER=uring|epoll|sim overrides `automatic`
    std::size_t queue_entries = 256;            ///< submission queue; io_uring: 8 at least
    UringFeatures uring;                        ///< what may be used of io_uring
    std::size_t buffer_count = 256;             ///< buffers to borrow from when receiving; a power of two
    std::size_t buffer_bytes = 16 * 1024;
    /// For tests that let every operation fail: the n-th one, counted from 1, ends with the errno that `fail_with`
    /// gives for its kind; 0 lets it pass. What opens, receives or sends is not begun at all; what is chained behind
    /// something is done all the same, and so is a close.
    std::uint64_t fail_at_operation = 0;
    std::function<int(op_kind)> fail_with;
};

/// A socket to be opened on an address of ours.
struct binding {
    const sockaddr* address = nullptr;
    std::uint32_t address_bytes = 0;
    int type = 0;     ///< SOCK_STREAM, SOCK_DGRAM
    int backlog = 0;  ///< listens if it is not 0
    bool reuse_address = false;
    bool reuse_port = false;
    bool v6_only = false;
    bool unlink_first = false;  ///< removes the file a unix socket left behind
};

/// What a network of the driver's own knows of a host's name, about one address family.
struct name_answer {
    Clock::duration after{};             ///< how long the answer takes
    std::error_code failure;             ///< why there is none
    std::vector<std::string> addresses;  ///< as text, without ports; may be none
};

class Driver {
   public:
    explicit Driver(const DriverOptions& options)
        : buffers_(options.buffer_count, options.buffer_bytes),
          fail_at_(options.fail_at_operation),
          fail_with_(options.fail_with) {}
    Driver(const Driver&) = delete;
    Driver& operator=(const Driver&) = delete;
    virtual ~Driver() = default;

    /// Queues one operation, or a chain linked by `chain`; it starts in the next turn, in the order of submission.
    void submit(operation& first) noexcept;

    /// Queues a receive that found no buffer to borrow (it ended with ENOBUFS) for when one is given back. It may find
    /// none again, because another was faster or too few come back. False, and nothing was done, if that is so already:
    /// more wait than will be given back in 40 ms, going by the last 2 ms.
    [[nodiscard]] bool submit_when_lent(operation& op) noexcept;

    /// Asks that `op` ends soon. It ends nothing by itself: the terminal completion still comes, with ECANCELED or with
    /// the result that was faster. Has no effect on an idle record. Never fails and is never dropped.
    void cancel(operation& op) noexcept;

    /// Submits what is queued, waits for a completion, a wake-up or `deadline`, and delivers what came.
    /// A deadline in the past polls; `Clock::never` waits without one.
    virtual void turn(Clock::time_point deadline) = 0;

    /// Whether busy tasks should let it have its turn: something was queued, or it was last due a while ago (20 us).
    [[nodiscard]] bool due() noexcept;

    /// Ends the present or the next `turn` early. From any thread.
    virtual void wake() noexcept = 0;

    [[nodiscard]] virtual Clock::time_point now() const noexcept;
    /// The same at a fourth of its cost, and behind: by a tick of the kernel as a rule.
    [[nodiscard]] virtual Clock::time_point roughly_now() const noexcept;
    static constexpr Clock::duration longest_tick = std::chrono::milliseconds{10};  // HZ is 100 at least
    [[nodiscard]] virtual std::chrono::system_clock::time_point wall_now() const noexcept {
        return std::chrono::system_clock::now();
    }
    [[nodiscard]] virtual std::string_view name() const noexcept = 0;

    /// Whether operations on a socket may follow, in one chain, the operation that opens it.
    [[nodiscard]] virtual bool chains_open() const noexcept = 0;

    // The few calls on sockets that never wait and so are no operations: the machine's own, or those of a simulated
    // network. Each gives 0 or a negative errno.

    /// Opens, binds and, with a backlog, listens. Takes the descriptor into the account of open ones.
    [[nodiscard]] virtual int bind(const binding& what, descriptor& file) noexcept;
    /// Fill in an address of `*address_bytes` bytes at most, and how long it is.
    [[nodiscard]] virtual int local_address(const descriptor& file, sockaddr* address,
                                            std::uint32_t* address_bytes) const noexcept;
    [[nodiscard]] virtual int peer_address(const descriptor& file, sockaddr* address,
                                           std::uint32_t* address_bytes) const noexcept;
    virtual int set_option(const descriptor& file, int level, int name, int value) noexcept;
    /// Fills in the address of ours from which another IP address is reached; an error if there is no way.
    [[nodiscard]] virtual int source_address(const sockaddr* to, std::uint32_t to_bytes, sockaddr* address,
                                             std::uint32_t* address_bytes) noexcept;
    /// Closes a socket that nobody could take over, and takes it off the account of open ones.
    /// Requires: nothing was ever asked of it; not a direct descriptor.
    void discard(descriptor& file) noexcept;

    /// Whether the network is the driver's own, and with it the names of hosts and the randomness that TLS needs.
    [[nodiscard]] virtual bool simulated() const noexcept { return false; }
    /// What that network answers about a name's addresses of one family. Requires: simulated().
    [[nodiscard]] virtual name_answer look_up(std::string_view name, int family);
    /// Requires: simulated().
    virtual void fill_random(std::span<std::byte> bytes) noexcept;

    /// Takes a descriptor into the account of open ones that was opened by a system call and will be closed by `close`.
    void opened_outside() noexcept { ++statistics_.open_descriptors; }

    [[nodiscard]] BufferPool& buffers() noexcept { return buffers_; }
    [[nodiscard]] const DriverStatistics& statistics() const noexcept { return statistics_; }
    [[nodiscard]] bool has_queued() const noexcept { return queue_head_ != nullptr; }

   protected:
    virtual void cancel_in_flight(operation& op) noexcept = 0;
    virtual void close_now(const descriptor& file) noexcept;
    /// A chain was queued just now, by the running task; called only with `hears_submissions_`.
    virtual void submitted(operation& first) noexcept;

    /// Queues the receives that wait for a buffer and for which there is one, or too little hope of one.
    /// Gives until when the turn may take: `deadline`, or when there may be less hope for the others.
    [[nodiscard]] Clock::time_point serve_waiting(Clock::time_point deadline) noexcept {
        return waiting_.empty() ? deadline : serve_those_waiting(deadline);
    }

    /// The first record of the next queued chain that was not cancelled meanwhile, or null; it stays queued.
    operation* peek_queued() noexcept;
    /// Takes that chain off the queue.
    operation* take_queued() noexcept;
    /// Ends a chain that never began: the first record with `result`, the rest with ECANCELED.
    void refuse_chain(operation& first, int result) noexcept;
    /// Marks a record as the driver's.
    void start(operation& op) noexcept;
    /// The one way in which an operation ends or speaks: fills in the result and calls `complete`.
    void finish(operation& op, int result, bool more = false, int buffer_id = -1) noexcept;
    /// Ends a record, and of what is chained behind it all that does not run. Returns what has to begin now, or null.
    operation* finish_linked(operation& op, int result, int buffer_id) noexcept;

    BufferPool buffers_;
    DriverStatistics statistics_;
    bool hears_submissions_ = false;
    bool delivered_ = false;  // something ended since the turn began, so it must not wait any more

   private:
    void queue(operation& first) noexcept;
    [[nodiscard]] Clock::time_point serve_those_waiting(Clock::time_point deadline) noexcept;
    void stop_waiting(operation& op) noexcept;
    void count_given_back(Clock::time_point present) noexcept;
    [[nodiscard]] std::size_t most_waiting() const noexcept { return 20 * given_back_lately_; }
    void choose_failing(operation& first) noexcept;

    const std::uint64_t fail_at_;
    const std::function<int(op_kind)> fail_with_;
    operation* failing_ = nullptr;
    int failure_ = 0;  // what `failing_` ends with
    operation* queue_head_ = nullptr;
    operation* queue_tail_ = nullptr;
    Clock::time_point due_at_{};  // at the latest, while tasks are busy

    operation_list waiting_;             // receives, for a buffer
    std::size_t given_back_lately_ = 0;  // buffers
    std::uint64_t counted_ = 0;          // how many had ever been given back, at
    Clock::time_point counted_at_{};
};

/// Makes the driver that `options` and the environment ask for. `automatic` takes io_uring where it works and epoll,
/// after one line on standard error that says why, where it does not.
/// Errors: `Error` (unsupported) with what to change, when a driver was insisted on.
std::unique_ptr<Driver> make_driver(const DriverOptions& options);

}  // namespace torc
