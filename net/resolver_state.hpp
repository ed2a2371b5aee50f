#pragma once

#include <list>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include <torc/net/resolver.hpp>
#include <torc/runtime/wait_queue.hpp>

#include "resolver_cache.hpp"
#include "resolver_channel.hpp"
#include "resolver_hosts.hpp"

namespace torc::net::dns {

class Lookup;

/// What the addresses of one name and family were found to be; shared by everybody who waited for it. Null: there was
/// no memory for it.
using SharedAnswer = std::shared_ptr<const result<std::vector<Address>>>;

class ResolverState;

/// One of the two questions of somebody who looks up a name, and its answer. Whoever waits is told through a queue.
/// Lifetime: leaves the look-up when it is destroyed; it must not outlive the resolver.
class Inquiry {
   public:
    Inquiry(int family, torc::detail::wait_queue& waiting) noexcept : family_(family), waiting_(waiting) {}
    Inquiry(const Inquiry&) = delete;
    Inquiry& operator=(const Inquiry&) = delete;
    ~Inquiry() { drop(); }

    [[nodiscard]] int family() const noexcept { return family_; }
    /// Asked, and not answered yet.
    [[nodiscard]] bool open() const noexcept { return lookup_ != nullptr; }
    [[nodiscard]] bool answered() const noexcept { return answered_; }
    /// Null also while there is none.
    [[nodiscard]] const SharedAnswer& answer() const noexcept { return answer_; }

    void deliver(SharedAnswer answer) noexcept {
        lookup_ = nullptr;
        answer_ = std::move(answer);
        answered_ = true;
        waiting_.wake_all();
    }
    /// Forgets the answer, or leaves the look-up before it has one.
    void drop() noexcept;

   private:
    friend class Lookup;

    int family_;
    torc::detail::wait_queue& waiting_;
    Lookup* lookup_ = nullptr;
    std::list<Inquiry*>::iterator place_;
    SharedAnswer answer_;
    bool answered_ = false;
};

/// The look-ups of one executor.
class ResolverState {
   public:
    explicit ResolverState(Executor& executor) : executor_(executor) { configure({}); }
    ~ResolverState();

    [[nodiscard]] Executor& executor() const noexcept { return executor_; }
    void configure(ResolverOptions options);
    [[nodiscard]] const ResolverOptions& options() const noexcept { return options_; }

    /// What can be said without asking anybody; `name` is `host` in lower case.
    [[nodiscard]] std::optional<std::vector<Address>> local_answer(const std::string& name, std::uint16_t port,
                                                                   family_preference family);
    /// The complete names that a name may stand for, in the order to look for them.
    /// Errors: `Error` (resolver_failed) if c-ares can not start.
    [[nodiscard]] std::vector<std::string> candidates(const std::string& name);

    /// Answers a question from the cache, or adds it to the look-up of a name, which is begun if there is none.
    /// The answer may come before this returns.
    /// Errors: std::bad_alloc, and nothing has changed.
    void ask(Inquiry& inquiry, const std::string& name);
    /// Ends a look-up that nobody waits for.
    void abandon(Lookup& lookup) noexcept;

    /// Without an answer there was no memory for one.
    void finished(Lookup& lookup, std::optional<DnsAnswer> answer) noexcept;
    void clear_cache() noexcept { cache_.clear(); }

    ResolverStatistics statistics;

   private:
    using Lookups = std::unordered_map<std::string, std::unique_ptr<Lookup>>;

    static std::string key_of(const std::string& name, int family);
    [[nodiscard]] std::unique_ptr<Channel> make_channel();
    void begin_next() noexcept;
    void begin(Lookup& lookup) noexcept;
    void remember(const Lookup& lookup, const DnsAnswer& answer);
    [[nodiscard]] std::unique_ptr<Lookup> end(Lookup& lookup) noexcept;

    Executor& executor_;
    ResolverOptions options_;
    HostsFile hosts_{""};
    FileWatch resolv_conf_{""};
    DnsCache cache_;
    Lookups lookups_;
    std::list<Lookup*> queued_;
    std::optional<SearchList> search_;
    std::vector<std::unique_ptr<Channel>> idle_;
    std::uint64_t generation_ = 0;  // of the channels: those made before resolv.conf changed are not used again
    std::size_t running_ = 0;
    bool beginning_ = false;
};

/// One question, under way or waiting its turn, and who wants to know. Owned by the state until answered or abandoned.
class Lookup final : public Channel::Listener {
   public:
    Lookup(ResolverState& state, std::string key, std::string name, int family)
        : state_(state), key_(std::move(key)), name_(std::move(name)), family_(family) {}

    [[nodiscard]] const std::string& key() const noexcept { return key_; }
    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] int family() const noexcept { return family_; }

    void add(Inquiry& inquiry) {
        inquiry.place_ = inquiries_.insert(inquiries_.end(), &inquiry);
        inquiry.lookup_ = this;
    }
    void remove(Inquiry& inquiry) noexcept {
        inquiry.lookup_ = nullptr;
        inquiries_.erase(inquiry.place_);
        if (inquiries_.empty()) state_.abandon(*this);
    }
    void deliver(const SharedAnswer& answer) noexcept {
        for (Inquiry* const inquiry : inquiries_) inquiry->deliver(answer);
        inquiries_.clear();
    }

    // The state's.
    std::list<Lookup*>::iterator queued_at;  ///< until it runs
    std::unique_ptr<Channel> channel;        ///< while it runs
    std::uint64_t generation = 0;            ///< of the channel
    bool running = false;

   private:
    void answered(std::optional<DnsAnswer> answer) noexcept override { state_.finished(*this, std::move(answer)); }

    ResolverState& state_;
    std::string key_;
    std::string name_;
    int family_;
    std::list<Inquiry*> inquiries_;
};

inline void Inquiry::drop() noexcept {
    if (lookup_ != nullptr) lookup_->remove(*this);
    answer_ = nullptr;
    answered_ = false;
}

}  // namespace torc::net::dns
