#pragma once

#include <list>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <torc/net/address.hpp>
#include <torc/runtime/driver.hpp>

namespace torc::net::dns {

/// What the name servers said, until it expires. Bounded: the entry that was not used for the longest time goes first.
class DnsCache {
   public:
    using Answer = result<std::vector<Address>>;

    /// Null if there is nothing, or nothing any more. Lifetime: until the next call that is not const.
    [[nodiscard]] const Answer* find(const std::string& key, Clock::time_point now) {
        const auto found = index_.find(key);
        if (found == index_.end()) return nullptr;
        if (found->second->expires <= now) {
            entries_.erase(found->second);
            index_.erase(found);
            return nullptr;
        }
        entries_.splice(entries_.begin(), entries_, found->second);
        return &found->second->answer;
    }

    void store(const std::string& key, Answer answer, Clock::time_point expires, std::size_t most_entries) {
        if (most_entries == 0) return;
        if (const auto old = index_.find(key); old != index_.end()) {
            entries_.erase(old->second);
            index_.erase(old);
        }
        while (entries_.size() >= most_entries) {
            index_.erase(entries_.back().key);
            entries_.pop_back();
        }
        std::list<Entry> entry;
        entry.push_front({key, std::move(answer), expires});
        index_.emplace(key, entry.begin());
        entries_.splice(entries_.begin(), entry);
    }

    void clear() noexcept {
        index_.clear();
        entries_.clear();
    }

   private:
    struct Entry {
        std::string key;
        Answer answer;
        Clock::time_point expires;
    };
    std::list<Entry> entries_;  // most recently used first
    std::unordered_map<std::string, std::list<Entry>::iterator> index_;
};

}  // namespace torc::net::dns
