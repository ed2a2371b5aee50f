#include <torc/net/resolution.hpp>

#include <torc/runtime/as_result.hpp>
#include <torc/runtime/assert.hpp>
#include <torc/runtime/timeout.hpp>

#include "resolution_state.hpp"

// Theory of operation. The questions belong to the resolution and not to a task, so they go on while nobody awaits it
// and end with it. What is awaited is always a state, that an address is there, that an answer is not missing, and
// never that something happens: what came between two awaits has come.

namespace torc::net {

using change_awaitable = dns::ResolutionState::change_awaitable;

Resolution::Resolution(std::vector<Address> addresses)
    : state_(std::make_unique<dns::ResolutionState>(std::move(addresses))) {
    TORC_ASSERT(!state_->addresses().empty(), "connecting needs at least one address");
}
Resolution::Resolution(std::unique_ptr<dns::ResolutionState> state) noexcept : state_(std::move(state)) {}
Resolution::Resolution(Resolution&&) noexcept = default;
Resolution& Resolution::operator=(Resolution&&) noexcept = default;
Resolution::~Resolution() = default;

/// Waits for the first address.
task<> Resolution::found() {
    if (cancel_pending()) throw cancelled{};  // before anybody is asked
    while (state_->advance()) {
        if (!state_->addresses().empty()) co_return;
        change_awaitable change{*state_};
        co_await change;
    }
    throw state_->failure();
}

task<> Resolution::usable(Clock::duration delay) {
    if (state_->waited) co_return;
    co_await found();
    state_->waited = true;
    if (!state_->preferred_open()) co_return;
    auto answered = [](dns::ResolutionState& state) -> task<> {
        while (state.preferred_open()) {
            change_awaitable change{state};
            co_await change;
        }
    };
    static_cast<void>(co_await as_result(with_timeout(delay, answered(*state_))));
}

task<> Resolution::complete() {
    co_await found();
    while (state_->open()) {
        change_awaitable change{*state_};
        co_await change;
    }
}

task<> Resolution::more() {
    while (state_->addresses().empty() && state_->open()) {
        change_awaitable change{*state_};
        co_await change;
    }
}

bool Resolution::settled() const noexcept { return !state_->open(); }
std::span<const Address> Resolution::addresses() { return state_->addresses(); }
const Address* Resolution::only() { return state_->only(); }
std::optional<Address> Resolution::next() { return state_->next(); }
std::vector<Error> Resolution::missing() const { return state_->missing(); }

}  // namespace torc::net
