#include <torc/runtime/timer.hpp>

#include "resolver_channel.hpp"

// Theory of operation. The simulated network says at once what it will answer, and when; what is left is to wait. An
// answer is never remembered by the resolver, because the simulation may give another one at any moment.

namespace torc::net::dns {

namespace {

class SimulatedChannel final : public Channel, private torc::detail::Timer {
   public:
    explicit SimulatedChannel(Executor& executor) noexcept : Timer(fired), executor_(executor) {}
    ~SimulatedChannel() override { abandon(); }

    void ask(const std::string& host, int family, Listener& listener) noexcept override {
        TORC_ASSERT(clean(), "a name was asked for while the channel was busy");
        try {
            name_answer known = executor_.driver().look_up(host, family);
            executor_.timers().arm(*this, executor_.now() + known.after);
            listener_ = &listener;
            answer_ = answer_from(known, family);
        } catch (const std::bad_alloc&) {
            abandon();
            listener.answered(std::nullopt);
        }
    }
    void abandon() noexcept override {
        if (armed()) executor_.timers().disarm(*this);
        listener_ = nullptr;
    }
    [[nodiscard]] bool clean() const noexcept override { return listener_ == nullptr; }

   private:
    static DnsAnswer answer_from(const name_answer& known, int family) {
        if (known.failure) return {std::unexpected{Error{known.failure, phase::resolve, "resolve"}}};
        std::vector<Address> addresses;
        for (const std::string& text : known.addresses) {
            if (const auto address = Address::parse_ip(text, 0)) addresses.push_back(*address);
        }
        if (addresses.empty()) return {std::unexpected{no_address(family)}};
        return {std::move(addresses)};
    }
    static void fired(Timer& timer) noexcept {
        SimulatedChannel& self = static_cast<SimulatedChannel&>(timer);
        std::exchange(self.listener_, nullptr)->answered(std::exchange(self.answer_, std::nullopt));
    }

    Executor& executor_;
    Listener* listener_ = nullptr;
    std::optional<DnsAnswer> answer_;
};

}  // namespace

std::unique_ptr<Channel> make_simulated_channel(Executor& executor) {
    return std::make_unique<SimulatedChannel>(executor);
}

}  // namespace torc::net::dns
