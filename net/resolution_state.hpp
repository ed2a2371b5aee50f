#pragma once

#include <sys/socket.h>

#include <array>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include <torc/net/resolution.hpp>
#include <torc/net/resolver.hpp>

#include "resolver_state.hpp"

namespace torc::net::dns {

/// What a `Resolution` is made of: two questions, and the addresses that came of them.
///
///     new -> asking (one candidate of the search list after the other) -> found: the other answer may follow
///                                                                      -> nothing found
class ResolutionState {
   public:
    explicit ResolutionState(std::vector<Address> known) : untaken_(std::move(known)), in_order_(true) {}
    ResolutionState(ResolverState& resolver, std::string host, std::uint16_t port, family_preference preference)
        : resolver_(&resolver), host_(std::move(host)), port_(port), preference_(preference) {}

    /// Asks what there is to ask now. False when neither an address has come nor an answer is missing.
    /// Errors: what is wrong with the name; std::bad_alloc.
    bool advance();
    /// Why there is no address.
    [[nodiscard]] Error failure() const;

    [[nodiscard]] bool open() const noexcept { return inquiries_[0].open() || inquiries_[1].open(); }
    [[nodiscard]] bool preferred_open() const noexcept { return inquiries_[0].open(); }
    [[nodiscard]] std::span<const Address> addresses();
    [[nodiscard]] const Address* only();
    [[nodiscard]] std::optional<Address> next();
    [[nodiscard]] std::vector<Error> missing() const;

    bool waited = false;  ///< for the preferred family, for as long as one does

    /// Until the next answer.
    class change_awaitable final : public torc::detail::waiter {
       public:
        explicit change_awaitable(ResolutionState& state) noexcept : state_(state) {}
        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
            return wait_in(state_.waiting_, self.promise(), [] { return false; });
        }
        void await_resume() const { throw_if_cancelled(); }
        [[nodiscard]] std::string describe() const override { return "resolve " + state_.host_; }

       private:
        ResolutionState& state_;
    };

   private:
    void begin();
    void ask(const std::string& candidate);
    [[nodiscard]] bool v4_begins() const noexcept { return preference_ == family_preference::v4_first; }
    [[nodiscard]] bool wants(int family) const noexcept;
    [[nodiscard]] bool failed() const noexcept;
    void take_in();

    ResolverState* resolver_ = nullptr;  // none where nobody has to be asked
    std::string host_;
    std::uint16_t port_ = 0;
    family_preference preference_ = family_preference::any;
    bool begun_ = false;
    std::vector<std::string> candidates_;
    std::size_t next_candidate_ = 0;
    bool exists_ = false;  // one of the candidates, if only without an address
    torc::detail::wait_queue waiting_;
    std::array<Inquiry, 2> inquiries_{{{v4_begins() ? AF_INET : AF_INET6, waiting_},  // the preferred family's
                                       {v4_begins() ? AF_INET6 : AF_INET, waiting_}}};
    std::array<bool, 2> taken_in_{};
    std::vector<Address> untaken_;
    bool in_order_ = false;  // the families do not take turns
    int last_family_ = 0;    // of the address that was taken last
};

}  // namespace torc::net::dns
