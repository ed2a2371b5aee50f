#pragma once

#include <sys/socket.h>

#include <array>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <torc/runtime/sim.hpp>

#include "sim_agenda.hpp"

/// The simulated network: hosts, sockets, and what is on its way between them.
///
/// Who owns what: the network owns hosts and sockets; a connection is shared by the sockets at its two ends and the
/// events that are to move its bytes. A socket is a number; what refers to one that is gone finds nothing. Calls return
/// like system calls on a non-blocking socket in the kernel: a result, a negative errno, or nothing when it would wait.
/// Whoever waits is told by `changed` when trying again may help.
namespace torc::sim {

/// An address with its port, or the path of a unix socket.
struct Endpoint {
    int family = AF_UNSPEC;
    std::array<std::uint8_t, 16> ip{};  // IPv4 in the first four
    std::uint16_t port = 0;
    std::string path;

    static Endpoint from(const sockaddr* address, std::size_t address_bytes);
    static std::optional<Endpoint> parse(const std::string& text);
    /// What a socket of this family calls it: for IPv6 an IPv4 address is a mapped one.
    [[nodiscard]] Endpoint seen_by(int family) const noexcept;
    void write(sockaddr* address, std::uint32_t* address_bytes) const noexcept;
    [[nodiscard]] bool is_any() const noexcept { return family != AF_UNIX && ip == std::array<std::uint8_t, 16>{}; }
    [[nodiscard]] bool is_loopback() const noexcept;
    [[nodiscard]] bool is_file() const noexcept;  ///< a unix socket that is not abstract
    /// Where one gets who connects there: no address in particular is this host.
    [[nodiscard]] Endpoint reached() const;
    [[nodiscard]] bool same_host(const Endpoint& other) const noexcept {
        return family == other.family && ip == other.ip;
    }
    bool operator==(const Endpoint&) const = default;
};

struct Host {
    std::string name;
    std::vector<Endpoint> addresses;
    std::map<std::string, int> files;  // the unix sockets' paths, which outlive the sockets bound to them
    std::uint16_t next_port = 32768;
    bool isolated = false;
    Clock::time_point last_datagram{};  // datagrams within a host keep their order
};

/// One direction of a connection.
struct Pipe {
    struct Segment {
        enum class kind : std::uint8_t {
            bytes,
            end,
            reset,    // sent once: lost in a cut
            refusal,  // a reset that answers what nobody takes: repeated as often as that is
        };
        Clock::time_point arrival{};
        std::string bytes;
        kind what = kind::bytes;
    };
    std::deque<Segment> on_the_way;
    std::string arrived;
    std::size_t taken_bytes = 0;  // of `arrived`
    std::size_t on_the_way_bytes = 0;
    Clock::time_point last_arrival{};
    Clock::time_point link_free{};
    bool ended = false;  // the sender has sent its last segment
    bool end_arrived = false;
    bool torn = false;                  // something that was sent is lost for good, and nothing behind it can be read
    Clock::time_point patience_ends{};  // when the connection fails if what waits in a cut still waits then

    [[nodiscard]] std::size_t unread_bytes() const noexcept { return arrived.size() - taken_bytes; }
    /// A segment is not going to arrive; it is taken off the way by who says so.
    void lose(const Segment& segment) noexcept {
        on_the_way_bytes -= segment.bytes.size();
        torn = torn || segment.what == Segment::kind::bytes || segment.what == Segment::kind::end;
    }
};

struct Connection {
    std::array<Pipe, 2> to;  // to[0] is read by the end that connected
    std::array<int, 2> ends{-1, -1};
    std::array<bool, 2> forgotten{};  // that host sends and repeats nothing more, and answers what comes with a reset
    std::array<Host*, 2> hosts{};
    bool immediate = false;  // a unix socket's: what is sent is there
    std::uint64_t passed_bytes = 0;
    std::uint64_t reset_at_bytes = UINT64_MAX;
    std::uint64_t stall_at_bytes = UINT64_MAX;
    [[nodiscard]] bool stalled() const noexcept { return passed_bytes >= stall_at_bytes; }
};

struct Datagram {
    Endpoint from;
    std::string bytes;
};

struct Socket {
    int id = -1;
    Host* host = nullptr;
    int family = AF_UNSPEC;
    int type = 0;
    Endpoint local;
    Endpoint peer;
    bool bound = false;
    bool listening = false;
    bool reuse_port = false;
    bool v6_only = false;
    bool connecting = false;
    bool reads_shut = false;
    std::size_t backlog = 0;
    std::deque<int> accepted;  // established, not yet accepted
    std::deque<Datagram> datagrams;
    std::shared_ptr<Connection> connection;
    std::size_t side = 0;
    int error = 0;  // told once to whoever asks next
    bool broken = false;
    bool crashed = false;
    bool abortive = false;  // SO_LINGER of no time: closing is a reset

    /// Whether it is bound to where `to` leads. Requires: not a unix socket's path.
    [[nodiscard]] bool takes(const Endpoint& to) const noexcept {
        if (local.port != to.port) return false;
        const bool takes_both = local.family == AF_INET6 && !v6_only && local.is_any();
        return takes_both || (local.family == to.family && (local.is_any() || local.ip == to.ip));
    }
};

/// All the bytes of a message.
std::string gathered(const msghdr& message);

class Network {
   public:
    /// `changed` is told of sockets on which something became possible.
    Network(const Options& options, Agenda& agenda, std::function<void(int)> changed);

    Host& add_host(std::string name, const std::vector<std::string>& addresses);
    [[nodiscard]] Host& host(std::string_view name);
    [[nodiscard]] Host& local() noexcept { return *hosts_.front(); }
    void add_name(std::string name, std::vector<std::string> addresses);
    void fail_name(std::string name, std::error_code failure);
    void delay_name(const std::string& name, int family, Clock::duration after, std::error_code failure);
    [[nodiscard]] name_answer look_up(std::string_view name, int family);
    void partition(Host& one, Host& other);
    void heal(Host& one, Host& other);
    void isolate(Host& host) noexcept;
    void rejoin(Host& host);
    void crash(Host& host);

    [[nodiscard]] int open(Host& host, int family, int type);
    [[nodiscard]] int bind(Host& host, const binding& what, int& id);
    std::optional<int> connect(int id, const Endpoint& to);
    void stop_connecting(int id) noexcept;
    std::optional<int> accept(int id);
    std::optional<int> receive(int id, std::size_t most_bytes, bool peek, std::string& bytes);
    std::optional<int> send(int id, std::span<const char> bytes);
    std::optional<int> receive_message(int id, msghdr& message);
    std::optional<int> send_message(int id, const msghdr& message);
    [[nodiscard]] int poll(int id, int events);
    int shutdown(int id, int how);
    int close(int id);
    int set_option(int id, int level, int name, std::span<const std::byte> value) noexcept;
    /// The address of a host's from which it reaches another; no address in particular if it has none of the family.
    [[nodiscard]] static Endpoint source(const Host& host, const Endpoint& to);
    [[nodiscard]] const Socket* find(int id) const noexcept;
    [[nodiscard]] std::size_t open_sockets() const noexcept { return sockets_.size(); }

   private:
    struct Name {
        struct Answer {
            Clock::duration after{};  ///< none: as long as the network takes
            std::error_code failure;
        };
        std::vector<std::string> addresses;
        Answer v4;
        Answer v6;
    };

    Socket* socket(int id) noexcept;
    Host* owner_of(const Host& asking, const Endpoint& address) noexcept;
    [[nodiscard]] bool cut(const Host& one, const Host& other) const;
    [[nodiscard]] bool cut(const Connection& connection) const {
        return connection.stalled() || cut(*connection.hosts[0], *connection.hosts[1]);
    }
    Clock::duration travel(const Host& from, const Host& to);
    Socket* listener_at(const Host& host, const Endpoint& to);
    std::uint16_t free_port(Host& host, int family, int type);
    [[nodiscard]] bool taken(const Host& host, const Endpoint& local, const binding& what) const;

    using segment = Pipe::Segment::kind;
    struct Attempts;
    void knock(int id, const Endpoint& to, Attempts attempts);
    void answer_knock(int id, Host& there, const Endpoint& to, Attempts attempts);
    void take_answer(int id, Host& there, const Endpoint& to, const std::shared_ptr<Connection>& made,
                     Attempts attempts);
    void try_again(int id, Attempts attempts, std::move_only_function<void(Attempts)> again);
    void end_connect(int id, int error);
    void put(const std::shared_ptr<Connection>& connection, std::size_t reader, std::string bytes, segment what);
    void arrive(const std::shared_ptr<Connection>& connection, std::size_t reader);
    void hold(const std::shared_ptr<Connection>& connection, std::size_t reader);
    void resume_traffic();
    void forget(const std::shared_ptr<Connection>& connection, std::size_t side);
    void break_end(Connection& connection, std::size_t side, int error);
    void deliver(const Host& from, Host& to, const Endpoint& target, Datagram datagram);

    const Options& options_;
    Agenda& agenda_;
    std::function<void(int)> changed_;
    std::vector<std::unique_ptr<Host>> hosts_;
    std::map<std::string, Name, std::less<>> names_;
    std::map<int, Socket> sockets_;  // in order, so that nothing depends on addresses of memory
    std::set<std::pair<const Host*, const Host*>> partitions_;
    std::vector<std::weak_ptr<Connection>> connections_;
    std::size_t tidy_at_ = 64;  // so many connections, dead ones among them
    int next_id_;
};

}  // namespace torc::sim
