#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <fstream>

#include "resolver_channel.hpp"
#include "resolver_hosts.hpp"

// Theory of operation. See resolv.conf(5). c-ares would go through the search list by itself, but for one family at a
// time: the two questions of a name could then be answered from two domains, with the addresses of two machines. Its
// newer releases read the list and do not tell it, so it is read here: the last `search` or `domain` line counts,
// LOCALDOMAIN before it, and without any of them the domain in the machine's own name; `ndots` is an option there or in
// RES_OPTIONS.

namespace torc::net::dns {
namespace {

constexpr int most_dots = 15;  // as in glibc

void take_domains(SearchList& list, std::string_view words) {
    list.domains.clear();
    for (std::string_view word = next_word(words); !word.empty(); word = next_word(words)) {
        while (word.ends_with('.')) word.remove_suffix(1);
        if (!word.empty()) list.domains.push_back(lower_case(word));
    }
}

void take_options(SearchList& list, std::string_view words) {
    constexpr std::string_view dots = "ndots:";
    for (std::string_view word = next_word(words); !word.empty(); word = next_word(words)) {
        if (!word.starts_with(dots)) continue;
        int count = 0;
        const auto [end, failed] = std::from_chars(word.data() + dots.size(), word.data() + word.size(), count);
        if (failed == std::errc{} && end == word.data() + word.size() && count >= 0) {
            list.dots = std::min(count, most_dots);
        }
    }
}

/// The domain in this machine's name, if it has one.
std::string_view own_domain(std::span<char> memory) {
    if (::gethostname(memory.data(), memory.size() - 1) != 0) return {};
    const std::string_view name{memory.data()};
    const std::size_t dot = name.find('.');
    return dot == std::string_view::npos ? std::string_view{} : name.substr(dot + 1);
}

}  // namespace

SearchList SearchList::read(const ResolverOptions& options) {
    SearchList list;
    bool given = false;
    errno = 0;
    std::ifstream file{options.resolv_conf};
    const std::error_code code{errno, std::generic_category()};
    if (!file && is_shortage(code.value())) {
        throw Error{code, phase::resolve, "resolve", options.resolv_conf + ": " + code.message()};
    }
    for (std::string line; std::getline(file, line);) {
        std::string_view words{line};
        words = words.substr(0, words.find_first_of("#;"));
        const std::string_view key = next_word(words);
        if (key == "search" || key == "domain") {
            take_domains(list, words);
            given = true;
        } else if (key == "options") {
            take_options(list, words);
        }
    }
    if (const char* const domains = std::getenv("LOCALDOMAIN")) {
        take_domains(list, domains);
        given = true;
    }
    if (const char* const more = std::getenv("RES_OPTIONS")) take_options(list, more);
    std::array<char, 256> name{};
    if (!given) take_domains(list, own_domain(name));
    return list;
}

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
