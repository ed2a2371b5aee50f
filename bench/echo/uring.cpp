// An echo server by hand on io_uring, with liburing and nothing else.
//
// One multishot accept, one multishot receive for each connection with buffers from a ring, a send straight from the
// buffer, which goes back when the send has ended. One entry into the kernel each turn submits and waits. What comes in
// while a send is under way waits in the connection's queue; MSG_WAITALL makes a send all or nothing.

#include <liburing.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <utility>
#include <vector>

#include "../common/listening.hpp"

namespace {

// Newer than Debian 12's liburing; values from include/uapi/linux/io_uring.h.
constexpr unsigned setup_single_issuer = 1U << 12;
constexpr unsigned setup_defer_taskrun = 1U << 13;

constexpr unsigned buffer_count = 1024;
constexpr unsigned buffer_bytes = 16 * 1024;

enum class deed : std::uint8_t { accept, receive, send };

struct Piece {
    std::uint16_t buffer = 0;
    unsigned bytes = 0;
};

struct Connection {
    int fd = -1;
    bool sending = false;
    bool ended = false;         // the peer has
    bool starved = false;       // its receive found no buffer
    std::vector<Piece> pieces;  // the first is being sent
    std::size_t first = 0;
};

class Server {
   public:
    explicit Server(unsigned port) : listener_(bench::listen(port, 0)) {
        io_uring_params params{};
        params.flags = setup_single_issuer | setup_defer_taskrun | IORING_SETUP_SUBMIT_ALL | IORING_SETUP_CQSIZE;
        params.cq_entries = 16384;
        if (const int result = io_uring_queue_init_params(1024, &ring_, &params); result < 0) {
            bench::die(std::strerror(-result));
        }
        memory_.reset(static_cast<char*>(std::aligned_alloc(4096, std::size_t{buffer_count} * buffer_bytes)));
        void* ring_memory = std::aligned_alloc(4096, buffer_count * sizeof(io_uring_buf));
        std::memset(ring_memory, 0, buffer_count * sizeof(io_uring_buf));
        io_uring_buf_reg registration{};
        registration.ring_addr = reinterpret_cast<std::uint64_t>(ring_memory);
        registration.ring_entries = buffer_count;
        if (io_uring_register_buf_ring(&ring_, &registration, 0) != 0) bench::die("there is no ring for buffers");
        buffers_ = static_cast<io_uring_buf_ring*>(ring_memory);
        io_uring_buf_ring_init(buffers_);
        for (unsigned each = 0; each < buffer_count; ++each) give_back(static_cast<std::uint16_t>(each));
        accept();
    }

    [[noreturn]] void serve() {
        for (;;) {
            if (returned_ > 0) {
                io_uring_buf_ring_advance(buffers_, static_cast<int>(returned_));
                returned_ = 0;
                feed_starved();
            }
            io_uring_submit_and_wait(&ring_, 1);
            unsigned head = 0;
            unsigned seen = 0;
            io_uring_cqe* cqe = nullptr;
            io_uring_for_each_cqe(&ring_, head, cqe) {
                ++seen;
                take(*cqe);
            }
            io_uring_cq_advance(&ring_, seen);
        }
    }

   private:
    io_uring_sqe* entry(deed what, int fd) {
        io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
        while (sqe == nullptr) {
            io_uring_submit(&ring_);
            sqe = io_uring_get_sqe(&ring_);
        }
        // The helpers of liburing 2.3 leave the user data alone.
        sqe->user_data = static_cast<std::uint64_t>(fd) << 8 | static_cast<std::uint64_t>(what);
        return sqe;
    }

    void accept() {
        io_uring_sqe* const sqe = entry(deed::accept, 0);
        io_uring_prep_multishot_accept(sqe, listener_, nullptr, nullptr, SOCK_CLOEXEC);
    }

    void receive(Connection& from) {
        io_uring_sqe* const sqe = entry(deed::receive, from.fd);
        io_uring_prep_recv_multishot(sqe, from.fd, nullptr, 0, 0);
        sqe->flags |= IOSQE_BUFFER_SELECT;
        sqe->buf_group = 0;
    }

    void send(Connection& to) {
        const Piece& piece = to.pieces[to.first];
        io_uring_sqe* const sqe = entry(deed::send, to.fd);
        io_uring_prep_send(sqe, to.fd, buffer(piece.buffer), piece.bytes, MSG_NOSIGNAL | MSG_WAITALL);
        to.sending = true;
    }

    void take(const io_uring_cqe& cqe) {
        const auto what = static_cast<deed>(cqe.user_data & 0xff);
        const bool more = (cqe.flags & IORING_CQE_F_MORE) != 0;
        if (what == deed::accept) {
            if (cqe.res >= 0) accepted(cqe.res);
            if (!more) accept();
            return;
        }
        Connection& connection = connections_[cqe.user_data >> 8];
        if (what == deed::receive) {
            if (cqe.res > 0) {
                const auto id = static_cast<std::uint16_t>(cqe.flags >> IORING_CQE_BUFFER_SHIFT);
                connection.pieces.push_back({id, static_cast<unsigned>(cqe.res)});
                if (!connection.sending) send(connection);
                if (!more) receive(connection);
            } else if (cqe.res == -ENOBUFS) {
                connection.starved = true;
                starved_.push_back(connection.fd);
            } else if (!more) {
                connection.ended = true;
            }
        } else {
            connection.sending = false;
            give_back(connection.pieces[connection.first++].buffer);
            if (connection.first == connection.pieces.size()) {
                connection.pieces.clear();
                connection.first = 0;
            } else if (cqe.res >= 0) {
                send(connection);
            }
        }
        if (connection.ended && !connection.sending) close(connection);
    }

    void accepted(int fd) {
        const int on = 1;
        ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        if (connections_.size() <= static_cast<std::size_t>(fd)) connections_.resize(static_cast<std::size_t>(fd) + 1);
        connections_[static_cast<std::size_t>(fd)].fd = fd;
        receive(connections_[static_cast<std::size_t>(fd)]);
    }

    void close(Connection& connection) {
        for (; connection.first < connection.pieces.size(); ++connection.first) {
            give_back(connection.pieces[connection.first].buffer);
        }
        ::close(connection.fd);
        connection = {};
    }

    void feed_starved() {
        std::vector<int> hungry;
        hungry.swap(starved_);
        for (const int fd : hungry) {
            Connection& connection = connections_[static_cast<std::size_t>(fd)];
            if (std::exchange(connection.starved, false)) receive(connection);
        }
    }

    [[nodiscard]] char* buffer(std::uint16_t id) { return memory_.get() + std::size_t{id} * buffer_bytes; }

    void give_back(std::uint16_t id) {
        io_uring_buf_ring_add(buffers_, buffer(id), buffer_bytes, id, io_uring_buf_ring_mask(buffer_count),
                              static_cast<int>(returned_++));
    }

    struct Free {
        void operator()(char* memory) const { std::free(memory); }
    };

    io_uring ring_{};
    int listener_;
    std::unique_ptr<char, Free> memory_;
    io_uring_buf_ring* buffers_ = nullptr;
    unsigned returned_ = 0;
    std::vector<Connection> connections_;  // by descriptor
    std::vector<int> starved_;
};

}  // namespace

int main(int count, char** arguments) {
    std::signal(SIGTERM, [](int) { std::_Exit(0); });
    const auto server = std::make_unique<Server>(count > 1 ? static_cast<unsigned>(std::atoi(arguments[1])) : 0);
    server->serve();
}
