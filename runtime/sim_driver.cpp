#include "sim_driver.hpp"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <filesystem>

#include <torc/runtime/assert.hpp>

#include "drivers.hpp"

// Theory of operation. An operation is tried when it begins; if it would wait it stands in `waiting_` until the network
// says that its socket changed. Having its result, it is `over`: the completion follows a while later, overtaken by
// others, and a cancellation that lands meanwhile comes too late, as with a real kernel. What was received into
// a task's own memory reaches it with the completion.
//
// The memory of an operation is the driver's from beginning to completion, so it must not change in that time: a number
// made of its bytes at the beginning is compared at the end. Whoever frees or uses it too early is found here, and
// under an address sanitizer also by the reading.

namespace torc::sim {
namespace {

constexpr Clock::duration longest_turn = std::chrono::nanoseconds{2000};

std::uint64_t digest(const void* memory, std::size_t size_bytes) noexcept {
    const auto* at = static_cast<const unsigned char*>(memory);
    std::uint64_t mixed = size_bytes * 0x9e3779b97f4a7c15U;
    for (; size_bytes >= 8; at += 8, size_bytes -= 8) {
        std::uint64_t word = 0;
        std::memcpy(&word, at, 8);
        mixed = (mixed ^ word) * 0xff51afd7ed558ccdU;
        mixed ^= mixed >> 32;
    }
    for (; size_bytes > 0; ++at, --size_bytes) mixed = (mixed ^ *at) * 0x100000001b3U;
    return mixed;
}

/// The memory whose bytes belong to the operation.
std::uint64_t digest_of(const operation& op) noexcept {
    const bool stream = (op.kind == op_kind::receive && !op.select_buffer) || op.kind == op_kind::send;
    const bool plain = op.kind == op_kind::connect || op.kind == op_kind::set_option;
    if (stream || plain) return digest(op.address, op.length);
    const bool parts = op.kind == op_kind::send_vector || op.kind == op_kind::send_message;
    if (!parts && op.kind != op_kind::receive_message) return 0;
    const auto& message = *static_cast<const msghdr*>(op.address);
    std::uint64_t mixed = message.msg_iovlen;
    for (std::size_t part = 0; part < message.msg_iovlen; ++part) {
        mixed = mixed * 31 + digest(message.msg_iov[part].iov_base, message.msg_iov[part].iov_len);
    }
    return mixed;
}

std::ptrdiff_t threads_of_process() {
    std::error_code failed;
    std::filesystem::directory_iterator threads{"/proc/self/task", failed};
    return failed ? 2 : std::distance(begin(threads), end(threads));
}

}  // namespace

std::span<const int> possible_errors(op_kind kind) noexcept {
    static constexpr int opening[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM};
    static constexpr int connecting[] = {ECONNREFUSED,  ETIMEDOUT,    ENETUNREACH, EHOSTUNREACH,
                                         EADDRNOTAVAIL, ECONNABORTED, EACCES,      ENOMEM};
    static constexpr int accepting[] = {EMFILE, ENFILE, ENOBUFS, ENOMEM, ECONNABORTED};
    static constexpr int receiving[] = {ECONNRESET, ETIMEDOUT, EHOSTUNREACH, ENOMEM};
    static constexpr int sending[] = {ECONNRESET, EPIPE, ETIMEDOUT, ENOBUFS, ENOMEM};
    static constexpr int receiving_message[] = {ENOMEM};  // datagrams that come back are told to connected sockets
    static constexpr int sending_message[] = {ENETUNREACH, EPERM, ENOBUFS, ENOMEM};
    static constexpr int setting[] = {ENOPROTOOPT, ENOMEM};
    static constexpr int polling[] = {ENOMEM};
    static constexpr int shutting_down[] = {ENOTCONN, EAGAIN};
    static constexpr int closing[] = {EIO};
    switch (kind) {
        case op_kind::socket: return opening;
        case op_kind::connect: return connecting;
        case op_kind::accept: return accepting;
        case op_kind::receive: return receiving;
        case op_kind::send:
        case op_kind::send_vector: return sending;
        case op_kind::receive_message: return receiving_message;
        case op_kind::send_message: return sending_message;
        case op_kind::set_option: return setting;
        case op_kind::poll: return polling;
        case op_kind::shutdown: return shutting_down;
        case op_kind::close: return closing;
        case op_kind::nop: break;
    }
    return {};
}

SimDriver::SimDriver(std::uint64_t seed, const Options& options, bool alone)
    : Driver(options.executor),
      seed_(seed),
      options_(options),
      alone_(alone),
      first_date_(alone ? std::chrono::system_clock::now() : std::chrono::sys_days{std::chrono::year{2026} / 1 / 1}),
      agenda_(seed),
      program_random_(seed ^ 0x6a09e667f3bcc908U),
      entropy_(seed ^ 0xbb67ae8584caa73bU),
      network_(options_, agenda_, [this](int file) { changed(file); }) {
    hears_submissions_ = true;
    ::sem_init(&wakes_, 0, 0);
}

SimDriver::~SimDriver() {
    TORC_ASSERT(statistics_.in_flight == 0, "an executor was destroyed with operations in flight");
    ::sem_destroy(&wakes_);
}

// ---- turns ----------------------------------------------------------------------------------------------------------

void SimDriver::turn(Clock::time_point deadline) {
    delivered_ = false;
    ++statistics_.turns;
    Random& random = agenda_.random;
    const unsigned allowance = failure_.empty() ? 1 : 2;  // unwinding takes some, too
    if (statistics_.turns > allowance * options_.most_turns) give_up("the run goes in circles: too many turns");
    if (agenda_.now().time_since_epoch() > allowance * options_.longest) give_up("the run takes too much virtual time");
    // What the tasks did since the last turn, as far as it can be seen from here.
    agenda_.count(static_cast<std::uint64_t>(agenda_.now().time_since_epoch().count()));
    if (const Executor* const executor = Executor::current()) agenda_.count(executor->statistics().resumes);
    deadline = serve_waiting(deadline);
    take_chains();
    // Running tasks takes a moment, so that time passes for one that only polls.
    agenda_.advance(agenda_.now() + Clock::duration{1 + static_cast<Clock::rep>(random.below(longest_turn.count()))});
    if (random.chance(options_.spurious_wake)) return;
    // A real kernel hands over what is there in portions of any size.
    std::uint64_t portion = options_.completion_delay > Clock::duration::zero() ? random.between(1, 64) : UINT64_MAX;
    for (;;) {
        if (take_wakes()) return;
        const Clock::time_point next = agenda_.next();
        if (next <= agenda_.now()) {
            if (portion-- == 0) return;
            agenda_.step();
        } else if (delivered_) {
            return;
        } else if (next == Clock::never && deadline == Clock::never) {
            if (has_queued() || wait_for_threads()) return;
            return give_up("deadlock: every task waits, and nothing is going to happen");
        } else if (next <= deadline) {
            agenda_.step();
        } else {
            if (deadline > agenda_.now()) agenda_.advance(deadline + random.around(options_.timer_lag));
            return;
        }
    }
}

std::chrono::system_clock::time_point SimDriver::wall_now() const noexcept {
    return first_date_ + std::chrono::duration_cast<std::chrono::system_clock::duration>(now().time_since_epoch());
}

void SimDriver::wake() noexcept { ::sem_post(&wakes_); }

/// Whether there was one, or several.
bool SimDriver::take_wakes() noexcept {
    bool any = false;
    while (::sem_trywait(&wakes_) == 0) any = true;
    return any;
}

/// False if nobody is there to wake it, or nobody has in time.
bool SimDriver::wait_for_threads() noexcept {
    if (threads_of_process() <= 1) return take_wakes();
    timespec until{};
    ::clock_gettime(CLOCK_MONOTONIC, &until);
    const auto patience = std::chrono::nanoseconds{options_.threads_patience} + std::chrono::nanoseconds{until.tv_nsec};
    until.tv_sec += std::chrono::floor<std::chrono::seconds>(patience).count();
    until.tv_nsec = (patience % std::chrono::seconds{1}).count();
    int failed = ::sem_clockwait(&wakes_, CLOCK_MONOTONIC, &until);
    while (failed != 0 && errno == EINTR) failed = ::sem_clockwait(&wakes_, CLOCK_MONOTONIC, &until);
    return failed == 0;
}

/// Ends a run that would not end by itself: everything is cancelled, once.
void SimDriver::give_up(const char* why) {
    Executor& executor = Executor::here();
    TORC_ASSERT(failure_.empty(), "a simulated run had to be ended, and what it was doing can not be cancelled");
    failure_ = std::string{why} + "\n" + executor.dump_tasks();
    agenda_.note("given up");
    if (alone_) std::fprintf(stderr, "torc: %s", story().c_str());
    executor.cancel_root();
}

std::string SimDriver::story() const {
    std::string text = "simulation of seed " + std::to_string(seed_) + " failed";
    if (!options_.replay.empty()) text += "; to repeat it: " + options_.replay;
    text += '\n';
    text += failure_;
    return text + "the last events:\n" + agenda_.last();
}

// ---- operations -----------------------------------------------------------------------------------------------------

void SimDriver::submitted(operation& first) noexcept {
    if (first.kind == op_kind::socket) openers_[&first] = &current_host();
}

void SimDriver::take_chains() {
    std::uint64_t room = agenda_.random.chance(options_.full_queue) ? agenda_.random.between(0, 3) : UINT64_MAX;
    while (operation* const first = peek_queued()) {
        if (room-- == 0) return agenda_.after({}, [this] { delivered_ = true; });  // the next turn goes on
        take_queued();
        for (operation* op = first; op != nullptr; op = op->chain) start(*op);
        begin(*first);
    }
}

void SimDriver::begin(operation& op) {
    Pending& pending = pending_[&op];
    pending = {};
    pending.serial = ++serial_;
    pending.file = op.file != nullptr ? op.file->value : -1;
    pending.guard = digest_of(op);
    agenda_.note(to_string(op.kind), pending.file, static_cast<std::int64_t>(op.length));
    if (agenda_.random.chance(options_.failure)) {
        if (const int error = drawn_failure(op.kind); error != 0) {
            if (op.kind == op_kind::close) network_.close(pending.file);
            return complete(op, -error);
        }
    }
    attempt(op, pending);
}

void SimDriver::attempt(operation& op, Pending& pending) {
    if (op.multishot && (op.kind == op_kind::accept || op.kind == op_kind::receive)) {
        return attempt_multishot(op, pending);
    }
    int buffer_id = -1;
    const std::optional<int> result =
        op.kind == op_kind::receive && op.select_buffer ? receive_into_buffer(op, buffer_id) : call(op, pending);
    if (result) return complete(op, *result, buffer_id);
    if ((op.flags & MSG_DONTWAIT) != 0 && op.kind != op_kind::poll) return complete(op, -EAGAIN);
    if (std::ranges::find(waiting_, &op) == waiting_.end()) waiting_.push_back(&op);
}

/// Each result is handed over at once, because those of one operation never overtake each other.
void SimDriver::attempt_multishot(operation& op, Pending& pending) {
    const std::uint64_t serial = pending.serial;
    for (;;) {
        int buffer_id = -1;
        const auto result =
            op.kind == op_kind::accept ? network_.accept(pending.file) : receive_into_buffer(op, buffer_id);
        if (!result) break;
        const bool nothing_more = op.kind == op_kind::accept ? *result < 0 : *result <= 0;
        if (nothing_more) return complete(op, *result);
        agenda_.note("one of many", pending.file, *result);
        if (agenda_.random.chance(options_.multishot_end)) {
            pending.over = true;
            return land(op, *result, buffer_id);
        }
        finish(op, *result, true, buffer_id);
        if (const auto found = pending_.find(&op); found == pending_.end() || found->second.serial != serial) return;
    }
    if (std::ranges::find(waiting_, &op) == waiting_.end()) waiting_.push_back(&op);
}

std::optional<int> SimDriver::call(operation& op, Pending& pending) {
    const int file = pending.file;
    switch (op.kind) {
        case op_kind::nop: return 0;
        case op_kind::socket: {
            const auto opener = openers_.extract(&op);
            Host& host = opener.empty() ? network_.local() : *opener.mapped();
            *op.file = {network_.open(host, op.flags, static_cast<int>(op.length)), false};
            return 0;
        }
        case op_kind::connect:
            return network_.connect(file, Endpoint::from(static_cast<const sockaddr*>(op.address), op.length));
        case op_kind::accept: return network_.accept(file);
        case op_kind::receive: return network_.receive(file, op.length, (op.flags & MSG_PEEK) != 0, pending.bytes);
        case op_kind::send: return call_send(op);
        case op_kind::send_vector: return network_.send(file, gathered(*static_cast<const msghdr*>(op.address)));
        case op_kind::receive_message: {
            // Its memory is written here already; from now on that is what must not change.
            const auto result = network_.receive_message(file, *static_cast<msghdr*>(op.address));
            if (result) pending.guard = digest_of(op);
            return result;
        }
        case op_kind::send_message: return network_.send_message(file, *static_cast<const msghdr*>(op.address));
        case op_kind::set_option:
            return network_.set_option(file, static_cast<int>(op.offset >> 32),
                                       static_cast<int>(op.offset & 0xffffffff),
                                       {static_cast<const std::byte*>(op.address), op.length});
        case op_kind::poll: {
            const int ready = network_.poll(file, op.flags);
            return ready != 0 ? std::optional{ready} : std::nullopt;
        }
        case op_kind::shutdown: return network_.shutdown(file, op.flags);
        case op_kind::close: {
            const bool in_use = std::ranges::any_of(pending_, [&](const auto& each) {
                return each.second.file == file && each.first != &op && each.first->kind != op_kind::socket;
            });
            TORC_ASSERT(!in_use, "a descriptor was closed while an operation on it was in flight");
            return network_.close(file);
        }
    }
    return -EINVAL;
}

std::optional<int> SimDriver::call_send(operation& op) {
    const auto* const bytes = static_cast<const char*>(op.address);
    for (;;) {
        const auto sent = network_.send(op.file->value, {bytes + op.done_bytes, op.length - op.done_bytes});
        if (!sent) return std::nullopt;
        if (*sent < 0) return op.done_bytes > 0 ? static_cast<int>(op.done_bytes) : *sent;
        op.done_bytes += static_cast<std::uint32_t>(*sent);
        if (!op.whole || op.done_bytes == op.length) return static_cast<int>(op.done_bytes);
        // The kernel promises to go on, and yet ends early now and then: interrupted, or short of memory.
        if (agenda_.random.chance(options_.short_write / 8)) return static_cast<int>(op.done_bytes);
    }
}

std::optional<int> SimDriver::receive_into_buffer(operation& op, int& buffer_id) {
    std::string bytes;
    const int file = op.file->value;
    const Socket* const socket = network_.find(file);
    const bool has_bytes =
        socket != nullptr && socket->connection && socket->connection->to[socket->side].unread_bytes() > 0;
    if (has_bytes && agenda_.random.chance(options_.no_buffers)) return -ENOBUFS;
    const int id = has_bytes ? buffers_.take() : -1;
    if (has_bytes && id < 0) return -ENOBUFS;
    const auto received = network_.receive(file, buffers_.buffer_bytes(), false, bytes);
    if (!received || *received <= 0) {
        if (id >= 0) buffers_.give_back(static_cast<std::uint16_t>(id));
        return received;
    }
    buffer_id = id;
    std::memcpy(buffers_.buffer(static_cast<std::uint16_t>(id)).data(), bytes.data(), bytes.size());
    return received;
}

/// The operation has its result; the completion follows.
void SimDriver::complete(operation& op, int result, int buffer_id) {
    std::erase(waiting_, &op);
    pending_[&op].over = true;
    later(options_.completion_delay, op, [this, &op, result, buffer_id] { land(op, result, buffer_id); });
}

/// The completion, and what is chained behind it.
void SimDriver::land(operation& op, int result, int buffer_id) {
    std::erase(waiting_, &op);
    const Pending pending = std::move(pending_.extract(&op).mapped());
    TORC_ASSERT(digest_of(op) == pending.guard, "memory changed while an operation in flight owned it");
    if (op.kind == op_kind::receive && !op.select_buffer && result > 0) {
        std::memcpy(op.address, pending.bytes.data(), pending.bytes.size());
    }
    if (op.kind == op_kind::socket && result < 0) *op.file = {};
    agenda_.note("completed", pending.file, result);
    operation* const following = finish_linked(op, result, buffer_id);
    if (following != nullptr) begin(*following);
}

void SimDriver::cancel_in_flight(operation& op) noexcept {
    if (!pending_.contains(&op)) return;  // chained, and not its turn yet: it falls with the one before it
    agenda_.note("cancel", op.file != nullptr ? op.file->value : -1);
    later(options_.cancel_delay, op, [this, &op] { land_cancel(op); });
}

void SimDriver::land_cancel(operation& op) {
    const Pending& pending = pending_.at(&op);
    if (pending.over) return;  // too late
    if (op.kind == op_kind::connect) network_.stop_connecting(pending.file);
    // What a send already gave away is its result; the bytes can not be taken back.
    complete(op, op.kind == op_kind::send && op.done_bytes > 0 ? static_cast<int>(op.done_bytes) : -ECANCELED);
}

/// Does `work` a while later if the operation is still the same then.
void SimDriver::later(Clock::duration mean, operation& op, std::move_only_function<void()> work) {
    const std::uint64_t serial = pending_.at(&op).serial;
    agenda_.after(agenda_.random.around(mean), [this, &op, serial, work = std::move(work)]() mutable {
        const auto found = pending_.find(&op);
        if (found != pending_.end() && found->second.serial == serial) work();
    });
}

void SimDriver::changed(int file) {
    // In an event of its own: the network may be in the middle of something.
    agenda_.after({}, [this, file] {
        const std::vector<operation*> before = waiting_;
        for (operation* const op : before) {
            // One may have ended through another's completion, and its memory may be gone.
            if (std::ranges::find(waiting_, op) == waiting_.end()) continue;
            Pending& pending = pending_.at(op);
            if (pending.file == file) attempt(*op, pending);
        }
    });
}

int SimDriver::drawn_failure(op_kind kind) noexcept {
    const std::span<const int> errors = possible_errors(kind);
    return errors.empty() ? 0 : errors[agenda_.random.below(errors.size())];
}

// ---- calls that do not wait -----------------------------------------------------------------------------------------

int SimDriver::bind(const binding& what, descriptor& file) noexcept {
    int id = -1;
    if (const int failed = network_.bind(current_host(), what, id); failed != 0) return failed;
    agenda_.note("bind", id);
    file = {id, false};
    opened_outside();
    return 0;
}

int SimDriver::local_address(const descriptor& file, sockaddr* address, std::uint32_t* address_bytes) const noexcept {
    const Socket* const socket = network_.find(file.value);
    if (socket == nullptr) return -EBADF;
    socket->local.seen_by(socket->family).write(address, address_bytes);
    return 0;
}

int SimDriver::source_address(const sockaddr* to, std::uint32_t to_bytes, sockaddr* address,
                              std::uint32_t* address_bytes) noexcept {
    const Endpoint own = Network::source(current_host(), Endpoint::from(to, to_bytes).reached());
    if (own.is_any()) return -ENETUNREACH;
    own.write(address, address_bytes);
    return 0;
}

int SimDriver::peer_address(const descriptor& file, sockaddr* address, std::uint32_t* address_bytes) const noexcept {
    const Socket* const socket = network_.find(file.value);
    if (socket == nullptr) return -EBADF;
    if (!socket->connection) return -ENOTCONN;
    socket->peer.seen_by(socket->family).write(address, address_bytes);
    return 0;
}

int SimDriver::set_option(const descriptor& file, int, int, int) noexcept {
    return network_.find(file.value) != nullptr ? 0 : -EBADF;
}

void SimDriver::fill_random(std::span<std::byte> bytes) noexcept {
    for (std::byte& byte : bytes) byte = static_cast<std::byte>(entropy_());
}

void SimDriver::leave(const detail::task_state* task) noexcept {
    std::erase_if(stays_, [task](const auto& each) { return each.first == task; });
}

Host& SimDriver::current_host() noexcept {
    const Executor* const executor = Executor::current();
    for (const auto* task = executor != nullptr ? executor->running() : nullptr; task != nullptr; task = task->parent) {
        for (const auto& [root, host] : stays_) {
            if (root == task) return *host;
        }
    }
    return network_.local();
}

}  // namespace torc::sim

namespace torc::detail {

std::unique_ptr<Driver> make_sim_driver(const DriverOptions& options) {
    const char* const seed = std::getenv("TORC_SIM_SEED");
    sim::Options simulated;
    static_cast<DriverOptions&>(simulated.executor) = options;
    simulated.threads_patience = std::chrono::seconds{10};
    const std::uint64_t number = seed != nullptr ? std::strtoull(seed, nullptr, 10) : 1;
    simulated.replay = "TORC_DRIVER=sim TORC_SIM_SEED=" + std::to_string(number);
    return std::make_unique<sim::SimDriver>(number, simulated, true);
}

}  // namespace torc::detail
