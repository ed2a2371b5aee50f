#include <torc/net/resolver.hpp>

#include <algorithm>

#include "resolution_state.hpp"

// Theory of operation. What needs no asking is said here: entries, literal addresses, the hosts file, localhost. All
// else is the business of a `ResolutionState`, which asks two questions for a name, and of the `ResolverState`,
// which looks up each question once for all who ask it.

namespace torc::net {

namespace {

/// What is left of `found` by the preference, in its order.
std::vector<Address> arrange(const std::vector<Address>& found, std::uint16_t port, family_preference family) {
    const bool v4 = family != family_preference::v6_only;
    const bool v6 = family != family_preference::v4_only;
    std::vector<Address> wanted;
    const auto add_if = [&](auto condition) {
        for (const Address& address : found) {
            if ((address.is_v4() ? v4 : v6) && condition(address)) wanted.push_back(address.with_port(port));
        }
    };
    if (family == family_preference::v4_first || family == family_preference::v6_first) {
        const bool v4_begins = family == family_preference::v4_first;
        add_if([&](const Address& address) { return address.is_v4() == v4_begins; });
        add_if([&](const Address& address) { return address.is_v4() != v4_begins; });
    } else {
        add_if([](const Address&) { return true; });
    }
    return wanted;
}

Error refused(errc code, std::string host, std::string sentence) {
    // It may be anything, and is going to be printed.
    std::ranges::replace_if(host, [](unsigned char byte) { return byte < ' ' || byte == 0x7f; }, '?');
    return Error{code, phase::resolve, "resolve", std::move(sentence)}.with_peer(host);
}

/// RFC 1035 section 2.3.4, and what no name of a host holds; underscores and the like are the servers' business.
void check_name(std::string_view name) {
    const auto refuse = [name](std::string sentence) {
        throw refused(errc::invalid_argument, std::string{name}, std::move(sentence));
    };
    if (name.empty()) refuse("the name of the host is empty");
    for (const char letter : name) {
        const auto byte = static_cast<unsigned char>(letter);
        if (byte >= 0x80) refuse("the name of a host has to be in its ASCII form (xn--...) here");
        if (byte <= ' ' || byte == 0x7f || std::string_view{"/\\@:[]%?#\"<>"}.find(letter) != std::string_view::npos) {
            refuse("this can not be the name of a host");
        }
    }
    if (name.ends_with('.')) name.remove_suffix(1);
    if (name.size() > dns::longest_name_bytes) refuse("the name of the host is longer than 253 bytes");
    while (true) {
        const std::string_view label = name.substr(0, name.find('.'));
        if (label.empty()) refuse("the name of the host has an empty part between its dots");
        if (label.size() > 63) refuse("a part of the host's name is longer than 63 bytes");
        if (label.size() == name.size()) return;
        name.remove_prefix(label.size() + 1);
    }
}

/// RFC 6761 section 6.3. Requires: no dot at the end.
bool is_localhost(std::string_view name) { return name == "localhost" || name.ends_with(".localhost"); }

}  // namespace

namespace dns {

std::optional<std::vector<Address>> ResolverState::local_answer(const std::string& name, std::uint16_t port,
                                                                family_preference family) {
    for (const StaticEntry& entry : options_.entries) {
        if ((entry.port != 0 && entry.port != port) || lower_case(entry.host) != name) continue;
        if (std::vector<Address> found = arrange(entry.addresses, port, family); !found.empty()) return found;
        throw refused(errc::not_found, name, "the entry given for this name has no address of the wanted family");
    }
    if (const auto literal = Address::parse_ip(name, port)) {
        const bool wanted = family != (literal->is_v6() ? family_preference::v4_only : family_preference::v6_only);
        if (wanted) return std::vector<Address>{*literal};
        throw refused(errc::not_found, name,
                      literal->is_v6() ? "this is an IPv6 address, and IPv4 alone is wanted"
                                       : "this is an IPv4 address, and IPv6 alone is wanted");
    } else if (name.find(':') != name.npos) {
        throw refused(errc::invalid_argument, name, std::string{literal.error().message()});
    }
    check_name(name);
    const std::string bare = name.ends_with('.') ? name.substr(0, name.size() - 1) : name;
    std::vector<Address> found;
    if (!executor_.driver().simulated()) found = arrange(hosts_.find(bare), port, family);
    if (found.empty() && is_localhost(bare)) {
        found = arrange({Address::loopback_v6(port), Address::loopback(port)}, port, family);
    }
    return found.empty() ? std::nullopt : std::optional{std::move(found)};
}

}  // namespace dns

Resolver& Resolver::of(Executor& executor) {
    static const char key = 0;
    std::shared_ptr<void>& service = executor.service(&key);
    if (service == nullptr) service = std::make_shared<Resolver>(executor);
    return *static_cast<Resolver*>(service.get());
}

Resolver::Resolver(Executor& executor) : state_(std::make_unique<dns::ResolverState>(executor)) {}
Resolver::~Resolver() = default;

void Resolver::configure(ResolverOptions options) { state_->configure(std::move(options)); }
const ResolverOptions& Resolver::options() const noexcept { return state_->options(); }
void Resolver::clear_cache() noexcept { state_->clear_cache(); }
const ResolverStatistics& Resolver::statistics() const noexcept { return state_->statistics; }

std::optional<Address> Resolver::literal(std::string_view host, std::uint16_t port) {
    if (!options().entries.empty()) return std::nullopt;
    result<Address> address = Address::parse_ip(host, port);
    if (!address) return std::nullopt;
    ++state_->statistics.answered_locally;
    return *address;
}

Resolution Resolver::look_up(std::string host, std::uint16_t port, family_preference family) {
    return Resolution{std::make_unique<dns::ResolutionState>(*state_, std::move(host), port, family)};
}

task<std::vector<Address>> Resolver::resolve(std::string host, std::uint16_t port, family_preference family) {
    Resolution names = look_up(std::move(host), port, family);
    co_await names.complete();
    const std::span<const Address> found = names.addresses();
    co_return std::vector<Address>(found.begin(), found.end());
}

}  // namespace torc::net
