// Theory of operation: the floor. A check is four requests on a direct descriptor, submitted together: socket, connect,
// send and receive. Only the receive posts a completion when all goes well (IOSQE_CQE_SKIP_SUCCESS on the others). Its
// buffer is the connection's own, which is cheaper than provided buffers where every connection is about to receive.
//
// It is built twice, because there are two ways to put them in order. CHAINED, as a chain of links: if one fails it
// posts its completion and those behind it are silent, so that a chain ends with exactly one. Each link costs a round
// of task work between the end of one request and the begin of the next.
//
// Otherwise side by side. The kernel begins requests in the order they were submitted; a socket is there at once, and
// sending on one that is connecting waits until it is connected, just as receiving does, so nothing has to be linked. A
// request that fails posts its completion, which nobody needs, and the receive fails as well and ends the check.
//
// A finished check queues the close of its slot and, behind it, the next check into the same slot; both go with the one
// system call of the turn. Closing a direct descriptor is done while it is submitted, so it needs no link.
//
// Linux 6.1 and later has all of it; there is no descriptor in the process's table, no poll, no option set.

#include <liburing.h>

#include <memory>

#include "target.hpp"
#include REPLY

namespace {

constexpr unsigned entries = 512;  // few, so that they stay in the cache; when they are used up, a turn submits twice
constexpr unsigned completions = 4096;
constexpr unsigned longest_chain = 5;                // with the close of the connection before
constexpr std::uint64_t nobody = ~std::uint64_t{0};  // the completion of what failed and does not end a check

struct Connection {
    std::uint64_t began_ns = 0;
    bench::Reply reply;
};

class Checks {
   public:
    explicit Checks(const bench::Target& target) : target_(target) {
        io_uring_params params{};
        params.flags = IORING_SETUP_CQSIZE | IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
        params.cq_entries = completions;
        int made = io_uring_queue_init_params(entries, &ring_, &params);
        if (made == -EINVAL) {
            params = {};
            params.flags = IORING_SETUP_CQSIZE | IORING_SETUP_COOP_TASKRUN;
            params.cq_entries = completions;
            made = io_uring_queue_init_params(entries, &ring_, &params);
        }
        if (made < 0) bench::die("there is no io_uring here");
        io_uring_register_ring_fd(&ring_);
    }
    Checks(const Checks&) = delete;
    ~Checks() { io_uring_queue_exit(&ring_); }

    void carry_out(bench::Order order, bench::Account& account) {
        have_slots(order.at_once);
        std::uint64_t to_begin = order.count;
        for (unsigned slot = 0; slot < order.at_once && to_begin > 0; ++slot, --to_begin) {
            have_room();
            begin(slot);
        }
        while (account.checks() < order.count) {
            const int submitted = io_uring_submit_and_wait(&ring_, 1);
            if (submitted < 0 && submitted != -EINTR) bench::die("the ring does not work");
            unsigned head = 0;
            unsigned seen = 0;
            io_uring_cqe* event = nullptr;
            io_uring_for_each_cqe(&ring_, head, event) {
                ++seen;
                if (event->user_data == nobody) continue;
                const auto slot = static_cast<unsigned>(event->user_data);
                have_room();
                if (!ended(slot, event->res, account)) continue;
                close(slot);
                if (to_begin > 0) {
                    --to_begin;
                    begin(slot);
                }
            }
            io_uring_cq_advance(&ring_, seen);
        }
        io_uring_submit(&ring_);
    }

   private:
    void have_slots(std::size_t count) {
        if (count <= slots_) return;
        if (slots_ > 0) io_uring_unregister_files(&ring_);
        if (io_uring_register_files_sparse(&ring_, static_cast<unsigned>(count)) < 0) bench::die("no room for files");
        connections_ = std::make_unique<Connection[]>(count);
        slots_ = count;
    }

    io_uring_sqe* next() { return io_uring_get_sqe(&ring_); }

    /// All but the receive.
    static void finish(io_uring_sqe* request, unsigned slot, unsigned flags) {
        request->flags = static_cast<std::uint8_t>(flags | IOSQE_CQE_SKIP_SUCCESS | (CHAINED ? IOSQE_IO_LINK : 0U));
        request->user_data = CHAINED ? slot : nobody;
    }

    /// Requires: the slot is free, or what closes it is queued already.
    void begin(unsigned slot) {
        Connection& connection = connections_[slot];
        connection.began_ns = bench::now_ns();
        connection.reply.begin();
        const auto file = static_cast<int>(slot);
        io_uring_sqe* request = next();
        io_uring_prep_socket_direct(request, AF_INET, SOCK_STREAM, 0, slot, 0);
        finish(request, slot, 0);
        request = next();
        const auto* address = reinterpret_cast<const sockaddr*>(&target_.address);
        io_uring_prep_connect(request, file, address, sizeof target_.address);
        finish(request, slot, IOSQE_FIXED_FILE);
        request = next();
        const std::string& text = target_.request;
        io_uring_prep_send(request, file, text.data(), text.size(), MSG_NOSIGNAL | MSG_WAITALL);
        finish(request, slot, IOSQE_FIXED_FILE);
        receive(slot);
    }

    /// The answer is never there yet, so the kernel does well to wait first and to read then.
    void receive(unsigned slot) {
        const std::span<char> room = connections_[slot].reply.room();
        io_uring_sqe* const request = next();
        io_uring_prep_recv(request, static_cast<int>(slot), room.data(), room.size(), 0);
        request->ioprio = IORING_RECVSEND_POLL_FIRST;
        request->flags = IOSQE_FIXED_FILE;
        request->user_data = slot;
    }

    void close(unsigned slot) {
        io_uring_sqe* const request = next();
        io_uring_prep_close_direct(request, slot);
        request->flags = IOSQE_CQE_SKIP_SUCCESS;
        request->user_data = nobody;
    }

    /// A chain does not reach across two submissions.
    void have_room() {
        if (io_uring_sq_space_left(&ring_) < longest_chain) io_uring_submit(&ring_);
    }

    /// Whether the check is over.
    bool ended(unsigned slot, int result, bench::Account& account) {
        Connection& connection = connections_[slot];
        const auto state =
            result <= 0 ? bench::Reply::state::bad : connection.reply.received(static_cast<std::size_t>(result));
        switch (state) {
            case bench::Reply::state::more: receive(slot); return false;
            case bench::Reply::state::complete:
                account.good(bench::now_ns() - connection.began_ns, connection.reply.body_bytes());
                return true;
            case bench::Reply::state::bad: account.bad(); return true;
        }
        return true;
    }

    const bench::Target& target_;
    io_uring ring_{};
    std::size_t slots_ = 0;
    std::unique_ptr<Connection[]> connections_;
};

}  // namespace

int main(int count, char** arguments) {
    if (count < 2) bench::die("bench-check-uring URL");
    const bench::Target target = bench::target_of(arguments[1]);
    if (target.secure) bench::die("this program speaks no TLS");
    Checks checks{target};
    static bench::Account account;
    while (const auto order = bench::next_order()) {
        account.begin();
        checks.carry_out(*order, account);
        account.report();
    }
}
