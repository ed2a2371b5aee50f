#pragma once

#include <list>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include <torc/net/resolver.hpp>
#include <torc/runtime/leaf.hpp>

#include "resolver_cache.hpp"
#include "resolver_channel.hpp"
#include "resolver_hosts.hpp"

namespace torc::net::dns {

class Lookup;

/// What the addresses of one name were found to be; shared by everybody who waited for it. Null: there was no memory
/// for it.
using SharedAnswer = std::shared_ptr<const result<std::vector<Address>>>;

class ResolverState;

/// A task's wait for a look-up.
class LookupWait final : public torc::detail::leaf {
   public:
    LookupWait(ResolverState& state, const std::string& host, int family) noexcept
        : state_(state), host_(host), family_(family) {}
    bool await_ready() const noexcept { return false; }
    template <class Promise>
    bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
        if (!enter(self.promise())) return false;
        join();
        return true;
    }
    /// Errors: std::bad_alloc.
    SharedAnswer await_resume() {
        throw_if_cancelled();
        if (answer_ == nullptr) throw std::bad_alloc{};
        return std::move(answer_);
    }
    void cancel() noexcept override;
    [[nodiscard]] std::string describe() const override { return "resolve " + host_; }

    void deliver(SharedAnswer answer) noexcept {
        lookup_ = nullptr;
        answer_ = std::move(answer);
        ready();
    }

   private:
    friend class Lookup;
    void join() noexcept;

    ResolverState& state_;
    const std::string& host_;
    int family_;
    Lookup* lookup_ = nullptr;
    std::list<LookupWait*>::iterator place_;
    SharedAnswer answer_;
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
    [[nodiscard]] const DnsCache::Answer* cached(const std::string& name, int family);

    /// Adds a waiter to the look-up of a name, which is begun if there is none.
    /// The answer may come before this returns.
    /// Errors: std::bad_alloc, and nothing has changed.
    void join(LookupWait& waiter, const std::string& name, int family);
    /// Ends a look-up that nobody waits for.
    void abandon(Lookup& lookup) noexcept;

    /// Without an answer there was no memory for one.
    void finished(Lookup& lookup, std::optional<DnsAnswer> answer) noexcept;
    void clear_cache() noexcept { cache_.clear(); }

    ResolverStatistics statistics;

   private:
    using Lookups = std::unordered_map<std::string, std::unique_ptr<Lookup>>;

    static std::string key_of(const std::string& name, int family);
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
    std::vector<std::unique_ptr<DnsChannel>> idle_;
    std::uint64_t generation_ = 0;  // of the channels: those made before resolv.conf changed are not used again
    std::size_t running_ = 0;
    bool beginning_ = false;
};

/// One question, under way or waiting its turn, and who waits for it. Owned by the state until answered or abandoned.
class Lookup final : public DnsChannel::Listener {
   public:
    Lookup(ResolverState& state, std::string key, std::string name, int family)
        : state_(state), key_(std::move(key)), name_(std::move(name)), family_(family) {}

    [[nodiscard]] const std::string& key() const noexcept { return key_; }
    [[nodiscard]] const std::string& name() const noexcept { return name_; }
    [[nodiscard]] int family() const noexcept { return family_; }

    void add(LookupWait& waiter) {
        waiter.place_ = waiters_.insert(waiters_.end(), &waiter);
        waiter.lookup_ = this;
    }
    void remove(LookupWait& waiter) noexcept {
        waiter.lookup_ = nullptr;
        waiters_.erase(waiter.place_);
        if (waiters_.empty()) state_.abandon(*this);
    }
    void deliver(const SharedAnswer& answer) noexcept {
        for (LookupWait* const waiter : waiters_) waiter->deliver(answer);
        waiters_.clear();
    }

    // The state's.
    std::list<Lookup*>::iterator queued_at;  ///< until it runs
    std::unique_ptr<DnsChannel> channel;     ///< while it runs
    std::uint64_t generation = 0;            ///< of the channel
    bool running = false;

   private:
    void answered(DnsChannel&, std::optional<DnsAnswer> answer) noexcept override {
        state_.finished(*this, std::move(answer));
    }

    ResolverState& state_;
    std::string key_;
    std::string name_;
    int family_;
    std::list<LookupWait*> waiters_;
};

}  // namespace torc::net::dns
