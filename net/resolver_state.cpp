#include "resolver_state.hpp"

#include <algorithm>
#include <new>
#include <utility>

// Theory of operation. A look-up is known by its name and family. The first inquiry begins it, others join, and it goes
// away with its answer or with its last inquiry. All of them get the same answer.
//
//     begun -> queued (only while too many are running) -> running, with a channel -> answered | abandoned
//
// Nothing here is a task: answers come from the driver's completions and timers by way of the channel, and only make
// waiters ready. So there is nobody who pumps for the others, and nothing to hand over when a waiter is cancelled.
//
// Channels are pooled: a look-up takes an idle one or
// makes one, and gives it back clean. At most `concurrent_lookups` run; the queue is first come, first served.
//
// Answers may come from inside `DnsChannel::ask`, when c-ares can not even send. `begin_next` is then on the stack, and
// the `finished` below it leaves the rest of the queue to it, so that a thousand such answers do not nest.
//
// Once a look-up has begun, its waiters have to hear of its end, also when there is no memory for what it found: so
// ending one needs none.

namespace torc::net::dns {

namespace {
constexpr std::size_t most_idle_channels = 16;
constexpr std::size_t questions_per_name = 2;
}  // namespace

ResolverState::~ResolverState() {
    TORC_ASSERT(lookups_.empty(), "the resolver was destroyed while tasks waited for it");
}

void ResolverState::configure(ResolverOptions options) {
    TORC_ASSERT(lookups_.empty(), "the resolver was configured while tasks waited for it");
    options_ = std::move(options);
    hosts_ = HostsFile{options_.hosts_file};
    resolv_conf_ = FileWatch{options_.resolv_conf};
    search_.reset();
    cache_.clear();
    idle_.clear();
    idle_.reserve(most_idle_channels);
}

std::vector<std::string> ResolverState::candidates(const std::string& name) {
    if (executor_.driver().simulated() || !options_.servers.empty()) return SearchList{}.candidates(name);
    if (resolv_conf_.changed()) {
        ++generation_;
        idle_.clear();
        search_.reset();
    }
    if (!search_) search_ = SearchList::read(options_);
    return search_->candidates(name);
}

std::string ResolverState::key_of(const std::string& name, int family) { return name + ' ' + std::to_string(family); }

void ResolverState::ask(Inquiry& inquiry, const std::string& name) {
    const std::string key = key_of(name, inquiry.family());
    if (const auto* const known = cache_.find(key, executor_.now()); known != nullptr) {
        inquiry.deliver(std::make_shared<const result<std::vector<Address>>>(*known));
        ++statistics.cache_hits;
        return;
    }
    if (const auto known = lookups_.find(key); known != lookups_.end()) {
        known->second->add(inquiry);
        ++statistics.coalesced;
        return;
    }
    auto made = std::make_unique<Lookup>(*this, key, name, inquiry.family());
    std::list<Lookup*> place{made.get()};
    Lookup& lookup = *made;
    lookups_.emplace(key, std::move(made));
    try {
        lookup.add(inquiry);
    } catch (...) {
        lookups_.erase(key);
        throw;
    }
    lookup.queued_at = place.begin();
    queued_.splice(queued_.end(), place);
    ++statistics.lookups;
    begin_next();
}

void ResolverState::begin_next() noexcept {
    if (beginning_) return;
    beginning_ = true;
    const std::size_t most_running = questions_per_name * std::max<std::size_t>(options_.concurrent_lookups, 1);
    while (!queued_.empty() && running_ < most_running) {
        Lookup& lookup = *queued_.front();
        queued_.pop_front();
        ++running_;
        lookup.running = true;
        begin(lookup);
    }
    beginning_ = false;
}

std::unique_ptr<Channel> ResolverState::make_channel() {
    if (executor_.driver().simulated()) return make_simulated_channel(executor_);
    return std::make_unique<DnsChannel>(executor_, options_);
}

void ResolverState::begin(Lookup& lookup) noexcept {
    lookup.generation = generation_;
    try {
        if (idle_.empty()) idle_.push_back(make_channel());
    } catch (const Error& error) {
        return finished(lookup, DnsAnswer{std::unexpected{error}});
    } catch (const std::bad_alloc&) {
        return finished(lookup, std::nullopt);
    }
    lookup.channel = std::move(idle_.back());
    idle_.pop_back();
    lookup.channel->ask(lookup.name(), lookup.family(), lookup);
}

void ResolverState::finished(Lookup& lookup, std::optional<DnsAnswer> answer) noexcept {
    SharedAnswer shared;
    try {
        if (answer) {
            remember(lookup, *answer);
            shared = std::make_shared<const result<std::vector<Address>>>(std::move(answer->addresses));
        }
    } catch (const std::bad_alloc&) {
        // That is what the waiters get to hear.
    }
    const std::unique_ptr<Lookup> ended = end(lookup);
    ended->deliver(shared);
    begin_next();
}

void ResolverState::abandon(Lookup& lookup) noexcept {
    ++statistics.abandoned;
    if (lookup.channel != nullptr) lookup.channel->abandon();
    const std::unique_ptr<Lookup> ended = end(lookup);
    begin_next();
}

/// Takes a look-up out of everything; its channel serves the next one.
std::unique_ptr<Lookup> ResolverState::end(Lookup& lookup) noexcept {
    if (lookup.running) {
        --running_;
    } else {
        queued_.erase(lookup.queued_at);
    }
    if (lookup.channel != nullptr && lookup.channel->clean() && lookup.generation == generation_ &&
        idle_.size() < most_idle_channels) {
        idle_.push_back(std::move(lookup.channel));
    }
    return std::move(lookups_.extract(lookup.key()).mapped());
}

void ResolverState::remember(const Lookup& lookup, const DnsAnswer& answer) {
    if (executor_.driver().simulated()) return;  // what it knows may change at any moment
    const bool absent = !answer.addresses && answer.addresses.error().code() == errc::not_found;
    if (!answer.addresses && !absent) return;
    const std::chrono::seconds keep = std::min(absent ? options_.negative_ttl : answer.ttl, options_.longest_ttl);
    if (keep <= std::chrono::seconds::zero()) return;
    cache_.store(lookup.key(), answer.addresses, executor_.now() + keep, questions_per_name * options_.cache_entries);
}

}  // namespace torc::net::dns
