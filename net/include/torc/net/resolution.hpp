#pragma once

#include <chrono>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <torc/net/address.hpp>
#include <torc/runtime/task.hpp>

/// The addresses of a name as they become known, for whoever begins to connect before all of them are.
namespace torc::net {

class Resolver;

namespace dns {
class ResolutionState;
}

/// A look-up whose answers come one by one. A name is asked for by two questions at once, for IPv6 (AAAA) and for IPv4
/// (A) addresses, and nobody waits for the slower answer who can do without:
///
///     Resolution names = Resolver::of(Executor::here()).look_up("example.com", 443);
///     co_await names.usable();                                     // there are addresses to begin with
///     TcpStream stream = co_await TcpStream::connect(std::move(names));  // goes on with those that come meanwhile
///
/// Nothing is asked before it is awaited for the first time. One family's failure is none as long as the other has
/// addresses or may yet have some.
///
/// Lifetime: questions that are still open are dropped with it, unless others wait for their answers, too. It must not
///           outlive the executor. Movable while nobody awaits it.
/// Requires: the executor's thread; one task at a time.
/// Source:   RFC 8305, sections 3 to 5.
class Resolution {
   public:
    /// Addresses that are known beforehand; they are taken in this order. Requires: not empty.
    explicit Resolution(std::vector<Address> addresses);
    Resolution(Resolution&&) noexcept;
    Resolution& operator=(Resolution&&) noexcept;
    ~Resolution();

    /// Waits until connecting should begin: at once when the preferred family's addresses have come (IPv6, unless IPv4
    /// is to be first); when the other's have come first, for `delay` more at most. Later calls return at once.
    /// Errors: as `Resolver::resolve`, when neither family has an address. May be awaited again after a time-out.
    [[nodiscard]] task<> usable(Clock::duration delay = std::chrono::milliseconds{50});
    /// Waits until all answers have come.
    /// Errors: as `usable`.
    [[nodiscard]] task<> complete();
    /// Waits until there is an address to take, or no answer is missing. Requires: `usable` has returned.
    [[nodiscard]] task<> more();
    /// Whether no answer is missing. Requires: `usable` has returned.
    [[nodiscard]] bool settled() const noexcept;

    /// The addresses that have come and were not taken, best first (RFC 6724, or as the preference has it).
    /// Lifetime: until the next call.
    [[nodiscard]] std::span<const Address> addresses();
    /// The address that has come and was not taken, if it is the only one and there will be no other, nor should have
    /// been; else null.
    /// Lifetime: until the next call.
    [[nodiscard]] const Address* only();
    /// Takes the address that should be tried next: the best of the family whose turn it is, so that one that does not
    /// work here costs one attempt and not all of them. Nothing if all that have come were taken.
    [[nodiscard]] std::optional<Address> next();
    /// Why there may be more addresses than have come: an error for each family about which the name servers failed to
    /// answer, or have not answered yet. That a name has none of a family is no failure.
    [[nodiscard]] std::vector<Error> missing() const;

   private:
    friend class Resolver;
    explicit Resolution(std::unique_ptr<dns::ResolutionState> state) noexcept;
    task<> found();

    std::unique_ptr<dns::ResolutionState> state_;
};

}  // namespace torc::net
