#include "crowd.hpp"

#include <netinet/in.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <deque>
#include <stdexcept>
#include <vector>

#include "load.hpp"

// Theory of operation. A visitor goes through small steps: connect, half a head, the rest of it, pieces of the answer,
// and again. Steps that need not wait stand in one queue, the others behind epoll, so that the visitors of a process
// are all somewhere else at any time. Every step is an event; a visitor that is to reset its connection does so before
// the step that the seed chose, and a process that is to die does so after the event that the seed chose.

namespace torc::load {
namespace {

constexpr std::size_t requests_each = 2;
constexpr std::size_t small_bytes = 1024;
constexpr std::size_t large_bytes = 64 * 1024;
constexpr std::size_t connecting_at_once = 512;

enum class stage : std::uint8_t { connecting, waiting, half_asked, asked, ended };

/// Where a visitor may be when it resets its connection.
enum class moment : std::uint8_t { never, connecting, connected, half_asked, asked, answered_in_part, between };

struct Visitor {
    int fd = -1;
    stage at = stage::connecting;
    moment reset_at = moment::never;
    bool large = false;
    std::size_t reset_request = 0;
    std::size_t reset_bytes = 0;
    std::size_t requests = 0;  // answered
    std::string head;          // of the answer, as far as it has come
    std::size_t body_bytes = 0;
};

class Crowd {
   public:
    explicit Crowd(const CrowdPlan& plan)
        : plan_(plan), chance_(plan.seed), epoll_(::epoll_create1(EPOLL_CLOEXEC)), visitors_(plan.visitors) {
        for (std::size_t index = 0; index < visitors_.size(); ++index) {
            Visitor& each = visitors_[index];
            each.large = index < plan.resets || chance_.one_in(8);
            if (index < plan.resets) choose_reset(each);
        }
    }
    Crowd(const Crowd&) = delete;
    Crowd& operator=(const Crowd&) = delete;
    ~Crowd() {
        for (const Visitor& each : visitors_) {
            if (each.fd >= 0) ::close(each.fd);
        }
        ::close(epoll_);
    }

    CrowdReport run(const std::function<void()>& all_connected) {
        connect_all();
        all_connected();
        begun_ = true;
        for (Visitor& each : visitors_) {
            if (each.at == stage::waiting) ready_.push_back(&each);
        }
        while (ended_ < visitors_.size()) {
            for (std::size_t left = std::min<std::size_t>(ready_.size(), 64); left > 0; --left) {
                Visitor& next = *ready_.front();
                ready_.pop_front();
                step(next);
            }
            if (ended_ < visitors_.size()) wait(ready_.empty() ? -1 : 0);
        }
        if (plan_.events_to_live > 0) ::kill(::getpid(), SIGKILL);
        return report_;
    }

   private:
    void choose_reset(Visitor& one) {
        constexpr std::array moments{moment::connecting, moment::connected,        moment::half_asked,
                                     moment::asked,      moment::answered_in_part, moment::between};
        one.reset_at = moments[chance_.below(moments.size())];
        one.reset_request = one.reset_at > moment::connected ? chance_.below(requests_each) : 0;
        if (one.reset_at == moment::between) one.reset_request = 1;
        one.reset_bytes = chance_.between(1, large_bytes - 1);
    }
    [[nodiscard]] bool resets_at(const Visitor& one, moment now) const {
        return one.reset_at == now && one.reset_request == one.requests;
    }

    void connect_all() {
        std::size_t next = 0;
        // Those that go away while they connect are none of the crowd that is there at once.
        for (; connected_ + ended_ < visitors_.size();) {
            while (next < visitors_.size() && next - connected_ - ended_ < connecting_at_once) connect(next++);
            if (connected_ + ended_ < visitors_.size()) wait(-1);
        }
    }
    void connect(std::size_t index) {
        Visitor& one = visitors_[index];
        one.fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        if (one.fd < 0) throw std::runtime_error(std::string("no socket for a visitor: ") + std::strerror(errno));
        // The ports of one address would do for 28,000 visitors, less those that linger from the run before.
        const int on = 1;
        ::setsockopt(one.fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        sockaddr_in source{};
        source.sin_family = AF_INET;
        source.sin_addr.s_addr = htonl(0x7f000002U + static_cast<std::uint32_t>((plan_.seed + index) % 16));
        ::bind(one.fd, reinterpret_cast<const sockaddr*>(&source), sizeof source);
        if (::connect(one.fd, plan_.site.data(), plan_.site.size()) != 0 && errno != EINPROGRESS) {
            return fault(one, std::string("connect: ") + std::strerror(errno));
        }
        if (resets_at(one, moment::connecting)) return reset(one);
        epoll_event event{.events = EPOLLOUT, .data = {.ptr = &one}};
        ::epoll_ctl(epoll_, EPOLL_CTL_ADD, one.fd, &event);
    }
    void connected(Visitor& one) {
        int error = 0;
        socklen_t size = sizeof error;
        ::getsockopt(one.fd, SOL_SOCKET, SO_ERROR, &error, &size);
        if (error != 0) return fault(one, std::string("connect: ") + std::strerror(error));
        epoll_event event{.events = EPOLLIN, .data = {.ptr = &one}};
        ::epoll_ctl(epoll_, EPOLL_CTL_MOD, one.fd, &event);
        one.at = stage::waiting;
        ++connected_;
    }

    void wait(int milliseconds) {
        std::array<epoll_event, 256> events;
        const int count = ::epoll_wait(epoll_, events.data(), static_cast<int>(events.size()), milliseconds);
        for (int index = 0; index < count; ++index) {
            Visitor& one = *static_cast<Visitor*>(events[static_cast<std::size_t>(index)].data.ptr);
            if (one.at == stage::connecting) {
                connected(one);
            } else if (one.at != stage::ended) {
                receive(one);
            }
        }
    }

    /// One step of a visitor that has something to say.
    void step(Visitor& one) {
        if (one.at == stage::ended) return;
        static constexpr std::string_view small = "GET /small HTTP/1.1\r\nHost: crowd.test\r\n\r\n";
        static constexpr std::string_view large = "GET /large HTTP/1.1\r\nHost: crowd.test\r\n\r\n";
        const std::string_view request = one.large ? large : small;
        if (one.at == stage::waiting) {
            if (resets_at(one, one.requests == 0 ? moment::connected : moment::between)) return reset(one);
            one.at = stage::half_asked;
            send(one, request.substr(0, request.size() / 2));
            ready_.push_back(&one);
        } else {
            if (resets_at(one, moment::half_asked)) return reset(one);
            one.at = stage::asked;
            send(one, request.substr(request.size() / 2));
            if (resets_at(one, moment::asked)) return reset(one);
        }
        event_happened();
    }
    void send(Visitor& one, std::string_view text) {
        const ssize_t sent = ::send(one.fd, text.data(), text.size(), MSG_NOSIGNAL);
        if (sent != static_cast<ssize_t>(text.size())) fault(one, std::string("send: ") + std::strerror(errno));
    }

    void receive(Visitor& one) {
        std::array<char, 16 * 1024> piece;
        const ssize_t count = ::recv(one.fd, piece.data(), piece.size(), 0);
        if (count < 0 && errno == EAGAIN) return;
        if (count <= 0)
            return fault(one, count == 0 ? "the site closed" : std::string("recv: ") + std::strerror(errno));
        if (one.at != stage::asked) return fault(one, "the site spoke without being asked");
        take(one, {piece.data(), static_cast<std::size_t>(count)});
        event_happened();
    }
    void take(Visitor& one, std::string_view bytes) {
        const std::string_view whole = page(one.large);
        if (!one.head.ends_with("\r\n\r\n")) {
            const std::size_t had_bytes = one.head.size();
            one.head += bytes.substr(0, 1024);
            const std::size_t end = one.head.find("\r\n\r\n");
            if (end == std::string::npos) return;
            one.head.resize(end + 4);
            bytes.remove_prefix(one.head.size() - had_bytes);
            if (!one.head.starts_with("HTTP/1.1 200 OK\r\n")) return fault(one, "answer: " + one.head);
        }
        if (bytes != whole.substr(one.body_bytes, bytes.size())) return fault(one, "the page is not as it should be");
        one.body_bytes += bytes.size();
        if (resets_at(one, moment::answered_in_part) && one.body_bytes >= one.reset_bytes) return reset(one);
        if (one.body_bytes < whole.size()) return;
        ++report_.answers;
        ++one.requests;
        one.head.clear();
        one.body_bytes = 0;
        one.at = stage::waiting;
        if (one.requests < requests_each) {
            ready_.push_back(&one);
        } else if (plan_.events_to_live > 0) {
            ++ended_;  // stays connected until the process dies
            one.at = stage::ended;
        } else {
            end(one);
        }
    }

    void end(Visitor& one) {
        ::close(one.fd);
        one.fd = -1;
        if (one.at != stage::ended) ++ended_;
        if (!begun_ && one.at == stage::waiting) --connected_;
        one.at = stage::ended;
    }
    void reset(Visitor& one) {
        const linger abort{.l_onoff = 1, .l_linger = 0};
        ::setsockopt(one.fd, SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
        ++report_.resets;
        end(one);
    }
    void fault(Visitor& one, const std::string& what) {
        if (report_.faults++ == 0) {
            report_.first_fault = what + " (after " + std::to_string(one.requests) + " answers and " +
                                  std::to_string(one.body_bytes) + " bytes)";
        }
        end(one);
    }
    void event_happened() {
        if (plan_.events_to_live > 0 && ++events_ == plan_.events_to_live) ::kill(::getpid(), SIGKILL);
    }

    const CrowdPlan& plan_;
    Chance chance_;
    int epoll_;
    std::vector<Visitor> visitors_;
    std::deque<Visitor*> ready_;
    std::size_t connected_ = 0;
    std::size_t ended_ = 0;
    std::size_t events_ = 0;
    bool begun_ = false;
    CrowdReport report_;
};

std::string make_page(std::size_t size_bytes) {
    std::string made(size_bytes, '\0');
    for (std::size_t at = 0; at < size_bytes; ++at) made[at] = static_cast<char>('a' + at % 23);
    return made;
}

}  // namespace

std::string_view page(bool large) {
    static const std::string pages[] = {make_page(small_bytes), make_page(large_bytes)};
    return pages[large ? 1 : 0];
}

CrowdReport visit(const CrowdPlan& plan, const std::function<void()>& all_connected) {
    return Crowd{plan}.run(all_connected);
}

}  // namespace torc::load
