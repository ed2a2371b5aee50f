#include <algorithm>

#include "resolver_channel.hpp"

// Theory of operation. See resolv.conf(5). c-ares would go through the search list by itself, but for one family at a
// time: the two questions of a name could then be answered from two domains, with the addresses of two machines.

namespace torc::net::dns {

std::vector<std::string> SearchList::candidates(std::string name) const {
    std::vector<std::string> all;
    if (name.ends_with('.')) {
        name.pop_back();
        all.push_back(std::move(name));
        return all;
    }
    all.reserve(domains.size() + 1);
    const bool complete = std::ranges::count(name, '.') >= dots;
    if (complete) all.push_back(name);
    for (const std::string& domain : domains) {
        if (name.size() + 1 + domain.size() <= longest_name_bytes) all.push_back(name + '.' + domain);
    }
    if (!complete) all.push_back(std::move(name));
    return all;
}

}  // namespace torc::net::dns
