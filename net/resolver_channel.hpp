#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <torc/net/resolver.hpp>
#include <torc/runtime/timer.hpp>

struct ares_channeldata;
struct ares_addrinfo;

namespace torc::net::dns {

class DnsSocket;

/// What the name servers said. Addresses have port 0.
struct DnsAnswer {
    result<std::vector<Address>> addresses;
    std::chrono::seconds ttl{0};  ///< of a positive answer
};

/// One question at a time to the name servers, driven by an executor.
class DnsChannel : private torc::detail::Timer {
   public:
    class Listener {
       public:
        /// Called once for each `ask`, perhaps from inside it; without an answer if there was no memory for one.
        /// The channel may be destroyed or asked again from here.
        virtual void answered(DnsChannel& channel, std::optional<DnsAnswer> answer) noexcept = 0;

       protected:
        ~Listener() = default;
    };

    /// Errors: `Error` (resolver_failed) if c-ares can not start.
    DnsChannel(Executor& executor, const ResolverOptions& options);
    DnsChannel(const DnsChannel&) = delete;
    DnsChannel& operator=(const DnsChannel&) = delete;
    /// Drops the question. Sockets still polled are closed when their polls have ended, on the executor's account.
    ~DnsChannel();

    /// Asks for the addresses of `host` of a family (AF_UNSPEC for both). Requires: no other question is open.
    void ask(const std::string& host, int family, Listener& listener) noexcept;
    /// Drops the question; the listener hears nothing more.
    void abandon() noexcept;
    /// Whether nothing of the last question is left, so that the channel can be kept for another.
    [[nodiscard]] bool clean() const noexcept { return listener_ == nullptr && sockets_.empty(); }

   private:
    friend class DnsSocket;
    struct Callbacks;

    void process(int readable, int writable) noexcept;
    void settle() noexcept;
    void arm_timer() noexcept;
    [[nodiscard]] int cause(int status) const noexcept;
    [[nodiscard]] Error failure_of(int status) const;
    static void timer_fired(Timer& timer) noexcept;

    Executor& executor_;
    ares_channeldata* ares_ = nullptr;
    Listener* listener_ = nullptr;
    int family_ = 0;
    int last_rcode_ = 0;
    int shortage_ = 0;  // the errno with which a socket could not be opened, if that was for want of something
    std::optional<DnsAnswer> answer_;
    bool answered_ = false;
    std::vector<DnsSocket*> sockets_;  // each owns itself, see DnsSocket
};

}  // namespace torc::net::dns
