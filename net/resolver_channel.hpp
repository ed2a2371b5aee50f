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

/// What the name servers said about the addresses of one family. They have port 0 and the order of the answer.
struct DnsAnswer {
    result<std::vector<Address>> addresses;
    std::chrono::seconds ttl{0};  ///< of a positive answer
};

/// A name that does not exist, and one that does without an address of a family.
[[nodiscard]] Error no_such_name();
[[nodiscard]] Error no_address(int family);

/// One question at a time to whoever knows names.
class Channel {
   public:
    class Listener {
       public:
        /// Called once for each `ask`, perhaps from inside it; without an answer if there was no memory for one.
        /// The channel may be destroyed or asked again from here.
        virtual void answered(std::optional<DnsAnswer> answer) noexcept = 0;

       protected:
        ~Listener() = default;
    };

    Channel() = default;
    Channel(const Channel&) = delete;
    Channel& operator=(const Channel&) = delete;
    /// Drops the question.
    virtual ~Channel() = default;

    /// Asks for the addresses of `host` of a family. Requires: no other question is open.
    virtual void ask(const std::string& host, int family, Listener& listener) noexcept = 0;
    /// Drops the question; the listener hears nothing more.
    virtual void abandon() noexcept = 0;
    /// Whether nothing of the last question is left, so that the channel can be kept for another.
    [[nodiscard]] virtual bool clean() const noexcept = 0;
};

/// Asks the network that the executor's driver simulates.
[[nodiscard]] std::unique_ptr<Channel> make_simulated_channel(Executor& executor);

/// Asks the name servers, driven by an executor.
class DnsChannel final : public Channel, private torc::detail::Timer {
   public:
    /// Errors: `Error` (resolver_failed) if c-ares can not start.
    DnsChannel(Executor& executor, const ResolverOptions& options);
    /// Sockets still polled are closed when their polls have ended, on the executor's account.
    ~DnsChannel() override;

    void ask(const std::string& host, int family, Listener& listener) noexcept override;
    void abandon() noexcept override;
    [[nodiscard]] bool clean() const noexcept override { return listener_ == nullptr && sockets_.empty(); }

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

/// RFC 1035 section 2.3.4, as text without a dot at the end.
inline constexpr std::size_t longest_name_bytes = 253;

/// What resolv.conf(5) says of names that are not complete: "search" (or "domain") and "ndots".
struct SearchList {
    std::vector<std::string> domains;
    int dots = 1;  ///< a name with so many is first looked for as it is

    /// What resolv.conf says; a file that is missing or may not be read says nothing.
    /// Errors: `Error` in phase resolve when it can not be opened now for want of descriptors or memory.
    [[nodiscard]] static SearchList read(const ResolverOptions& options);
    /// The names that `name`, in lower case, may stand for, without a dot at the end, in the order to look for them.
    [[nodiscard]] std::vector<std::string> candidates(std::string name) const;
};

}  // namespace torc::net::dns
