#pragma once

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <torc/net/address.hpp>
#include <torc/net/resolution.hpp>
#include <torc/runtime/executor.hpp>
#include <torc/runtime/task.hpp>

/// Names to addresses: the hosts file, then the name servers.
namespace torc::net {

namespace dns {
class ResolverState;
}

/// Which addresses of a name are wanted, and in what order.
enum class family_preference : std::uint8_t {
    any,       ///< both, in the order of RFC 6724
    v4_first,  ///< both, IPv4 before IPv6
    v6_first,  ///< both, IPv6 before IPv4
    v4_only,
    v6_only,
};

/// An answer that is known beforehand and comes before every other source.
struct StaticEntry {
    std::string host;
    std::uint16_t port = 0;  ///< 0 stands for every port
    std::vector<Address> addresses;

    /// "HOST:PORT:ADDRESS[,ADDRESS]...", as curl's --resolve takes it; an IPv6 address may stand in brackets.
    /// Errors: invalid_argument, with a sentence that says what is wrong with the text.
    [[nodiscard]] static result<StaticEntry> parse(std::string_view text);
};

struct ResolverOptions {
    std::vector<StaticEntry> entries;
    /// Name servers, with their ports; none means those of `resolv_conf`, with its search domains.
    std::vector<Address> servers;
    std::string hosts_file = "/etc/hosts";
    std::string resolv_conf = "/etc/resolv.conf";
    /// How long a name server may take the first time; each further try waits longer.
    std::chrono::milliseconds timeout{2000};
    int tries = 3;
    /// What the cache keeps: so many names, none longer than `longest_ttl`, absence of a name for `negative_ttl`.
    std::size_t cache_entries = 4096;
    std::chrono::seconds longest_ttl{3600};
    std::chrono::seconds negative_ttl{5};
    /// Names that are asked for at once; others wait their turn. Each takes two sockets, one for each family's
    /// question, for every name server tried.
    std::size_t concurrent_lookups = 128;
};

/// Counters since the resolver began. A name whose addresses of both families are wanted is two questions.
struct ResolverStatistics {
    std::uint64_t answered_locally = 0;  ///< names: literal addresses, entries, localhost, the hosts file
    std::uint64_t cache_hits = 0;        ///< questions, and so are those below
    std::uint64_t coalesced = 0;         ///< joined one that was under way
    std::uint64_t lookups = 0;           ///< begun at the name servers
    std::uint64_t abandoned = 0;         ///< ended because nobody waited any longer
};

/// Looks up names, one for each executor. No thread, and nothing that blocks but reading two small local files.
///
/// A name is asked for by a question for each family of addresses; each is asked, answered, remembered and dropped by
/// itself. Who asks what somebody else is asking at that moment shares the answer. Positive answers are kept as long as
/// their TTL says, that there is none for a few seconds, failures of the name servers not at all. "localhost" and names
/// below it are always this machine. Answers come from, in this order: `entries`, the text itself if it is an address,
/// the hosts file (read again when it changed), the cache, the name servers. In the domains of resolv.conf's search
/// list a name is looked for one after the other, until one of them has addresses of either family.
///
/// Lifetime: the executor's; destroyed with it. Its sockets are gone when `Executor::run` returns.
/// Requires: the executor's thread.
class Resolver {
   public:
    /// The resolver of an executor, made at the first call.
    [[nodiscard]] static Resolver& of(Executor& executor);

    explicit Resolver(Executor& executor);
    Resolver(const Resolver&) = delete;
    Resolver& operator=(const Resolver&) = delete;
    ~Resolver();

    /// Replaces the options and empties the cache. Requires: no look-up under way.
    void configure(ResolverOptions options);
    [[nodiscard]] const ResolverOptions& options() const noexcept;

    /// The addresses of `host`, with `port`, when both families have been looked up; never none. `interleave` puts them
    /// in the order in which to try them.
    /// Errors: `Error` in phase resolve with the host as its peer. not_found: no such name, or it has no address of the
    ///         wanted family; resolver_failed: the name servers did not answer, or not with an answer;
    ///         invalid_argument: the text can not be a name; too_many_files_open and its like: it can not be asked for
    ///         now. `cancelled` unwinds; the question is dropped with the last one who waits for it.
    [[nodiscard]] task<std::vector<Address>> resolve(std::string host, std::uint16_t port,
                                                     family_preference family = family_preference::any);

    /// The same, with the addresses as they come, for connecting to the first of them while others are looked up.
    /// What is wrong with the name is said when the resolution is awaited.
    [[nodiscard]] Resolution look_up(std::string host, std::uint16_t port,
                                     family_preference family = family_preference::any);

    /// The address that `host` is itself, so that there is nothing to look up; nothing if it is a name, or if there are
    /// entries, which may say otherwise.
    [[nodiscard]] std::optional<Address> literal(std::string_view host, std::uint16_t port);

    /// Forgets what the name servers said.
    void clear_cache() noexcept;

    [[nodiscard]] const ResolverStatistics& statistics() const noexcept;

   private:
    std::unique_ptr<dns::ResolverState> state_;
};

}  // namespace torc::net
