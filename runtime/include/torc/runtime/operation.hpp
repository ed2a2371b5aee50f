#pragma once

#include <cstdint>

/// The operation record: what a driver is asked to do, as plain data.
///
/// Who owns it: the caller, who keeps it (with the buffer and the descriptor it names) where it is from `submit` until
/// the terminal completion; in that time it is the driver's. Its life:
///
///     idle -> queued -> in_flight -> idle (completed: `complete` was called with `more` unset)
///
/// A receive that borrows may wait for a buffer before it is queued.
///
/// A multishot operation calls `complete` any number of times with `more` set before the terminal one. `complete` is
/// called from the driver's turn, never from `submit` or `cancel`, so it never recurses into its caller.
namespace torc {

enum class op_kind : std::uint8_t {
    nop,              ///< completes in the next turn with 0
    socket,           ///< opens a socket: flags = domain, length = type, offset = protocol; fills `*file`
    connect,          ///< address = sockaddr, length = its size
    accept,           ///< result = new descriptor; goes on with `multishot`
    receive,          ///< into address/length, or with `select_buffer` into one of the executor's buffers
    send,             ///< from address/length; with `whole` until all is sent or an error
    receive_message,  ///< address = msghdr
    send_message,     ///< address = msghdr
    send_vector,      ///< address = msghdr without a name, of a stream: as `send`, from several places
    set_option,       ///< address = value, length = its size, offset = level << 32 | name
    poll,             ///< waits for readiness of a foreign descriptor: flags = POLLIN, POLLOUT; result = events
    shutdown,         ///< flags = SHUT_RD, SHUT_WR, SHUT_RDWR
    close,            ///< closes `*file` and sets it to -1
};

/// A name for messages: "receive", "connect", ...
const char* to_string(op_kind kind) noexcept;

enum class op_state : std::uint8_t { idle, waiting_for_buffer, queued, in_flight };

/// How the next record of a chain depends on this one.
enum class op_link : std::uint8_t {
    none,
    soft,  ///< the next one runs only if this one succeeded
    hard,  ///< the next one runs after this one whatever became of it
};

/// A descriptor: the process's own, or a slot of the ring's table ("direct"), where no system call can reach it.
struct descriptor {
    std::int32_t value = -1;
    bool direct = false;

    [[nodiscard]] bool open() const noexcept { return value >= 0; }
};

struct operation {
    operation() = default;
    operation(op_kind what, descriptor* target, void (*done)(operation&) noexcept) noexcept
        : complete(done), file(target), kind(what) {}

    operation* next = nullptr;      ///< the driver's, from submission to completion
    operation* previous = nullptr;  ///< likewise
    operation* chain = nullptr;     ///< the record linked behind this one by `link`
    void (*complete)(operation&) noexcept = nullptr;
    descriptor* file = nullptr;
    void* address = nullptr;
    std::uint64_t offset = 0;
    std::uint32_t length = 0;      ///< bytes
    std::int32_t flags = 0;        ///< MSG_*, POLL*, SHUT_*, by kind
    std::int32_t result = 0;       ///< as a system call in the kernel: negative errno on failure
    std::int32_t buffer_id = -1;   ///< which of the executor's buffers was filled, or -1
    std::uint32_t done_bytes = 0;  ///< progress of a `whole` send, or tries, on drivers that have to loop
    op_kind kind = op_kind::nop;
    op_state state = op_state::idle;
    op_link link = op_link::none;
    bool multishot = false;
    bool select_buffer = false;
    bool whole = false;
    bool more = false;  ///< set in `complete`: not the terminal completion
    bool cancel_requested = false;
};

/// Operations in order, linked through themselves.
struct operation_list {
    operation* first = nullptr;
    operation* last = nullptr;

    [[nodiscard]] bool empty() const noexcept { return first == nullptr; }
    void push(operation& op) noexcept {
        op.next = nullptr;
        op.previous = last;
        (last != nullptr ? last->next : first) = &op;
        last = &op;
    }
    void remove(operation& op) noexcept {
        (op.previous != nullptr ? op.previous->next : first) = op.next;
        (op.next != nullptr ? op.next->previous : last) = op.previous;
        op.next = op.previous = nullptr;
    }
};

}  // namespace torc
