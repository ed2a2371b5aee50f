#include "resolution_state.hpp"

#include <sys/socket.h>

#include <algorithm>
#include <iterator>
#include <new>

#include "destination_order.hpp"

// Theory of operation. The preferred family's question is asked first and the other right behind it (RFC 8305, 3). A
// candidate of the search list is given up for the next one when both families have none of it: so all addresses are
// those of one name. A server's failure ends the search, because it does not say that the candidate has no address.
//
// Answers lie in the inquiries until somebody looks. Only then are they put in order with what is there already, from
// within a task of ours and not from a completion, because it takes memory and asks the kernel about the way to each.

namespace torc::net::dns {

namespace {

Address source_of(Driver& driver, const Address& destination) {
    sockaddr_storage storage{};
    std::uint32_t size_bytes = sizeof storage;
    auto* const source = reinterpret_cast<sockaddr*>(&storage);
    if (driver.source_address(destination.data(), destination.size(), source, &size_bytes) != 0) return {};
    return Address::from_sockaddr(source, size_bytes);
}

bool is_absence(const Error& error) { return error.code() == errc::not_found; }
bool is_no_such_name(const Error& error) { return error.message() == no_such_name().message(); }

const char* name_of(int family) { return family == AF_INET ? "IPv4" : "IPv6"; }

}  // namespace

bool ResolutionState::wants(int family) const noexcept {
    return preference_ != (family == AF_INET ? family_preference::v6_only : family_preference::v4_only);
}

bool ResolutionState::advance() {
    if (!begun_ && resolver_ != nullptr) begin();
    while (addresses().empty() && !open()) {
        if (failed() || next_candidate_ == candidates_.size()) return false;
        ask(candidates_[next_candidate_++]);
    }
    return true;
}

void ResolutionState::begin() {
    const std::string name = lower_case(host_);
    if (auto known = resolver_->local_answer(name, port_, preference_)) {
        untaken_ = std::move(*known);
        ++resolver_->statistics.answered_locally;
    } else {
        candidates_ = resolver_->candidates(name);
    }
    begun_ = true;
}

void ResolutionState::ask(const std::string& candidate) {
    for (Inquiry& inquiry : inquiries_) {
        if (inquiry.answered() && !is_no_such_name(inquiry.answer()->error())) exists_ = true;
        inquiry.drop();
    }
    for (Inquiry& inquiry : inquiries_) {
        if (wants(inquiry.family())) resolver_->ask(inquiry, candidate);
    }
}

/// Whether an answer was one that says nothing about the name.
bool ResolutionState::failed() const noexcept {
    return std::ranges::any_of(inquiries_, [](const Inquiry& inquiry) {
        if (!inquiry.answered()) return false;
        const SharedAnswer& answer = inquiry.answer();
        return answer == nullptr || (!answer->has_value() && !is_absence(answer->error()));
    });
}

Error ResolutionState::failure() const {
    std::optional<Error> worst;
    bool exists = exists_;
    for (const Inquiry& inquiry : inquiries_) {
        if (!inquiry.answered()) continue;
        if (inquiry.answer() == nullptr) throw std::bad_alloc{};
        Error error = inquiry.answer()->error();
        error.with_peer(host_);
        if (is_absence(error)) {
            exists = exists || !is_no_such_name(error);
        } else if (!worst) {
            worst = std::move(error);
        } else if (worst->message() != error.message()) {
            worst->attach(std::make_exception_ptr(error));
        }
    }
    if (!worst && !exists) worst = no_such_name();
    if (!worst && !(wants(AF_INET) && wants(AF_INET6))) worst = no_address(wants(AF_INET) ? AF_INET : AF_INET6);
    if (!worst) worst = Error{errc::not_found, phase::resolve, "resolve", "the name has no address"};
    return std::move(worst->with_peer(host_));
}

std::vector<Error> ResolutionState::missing() const {
    std::vector<Error> all;
    const auto add = [&](std::error_code code, int family, std::string_view why) {
        std::string sentence = std::string{name_of(family)} + " addresses: " + std::string{why};
        all.push_back(Error{code, phase::resolve, "resolve", std::move(sentence)}.with_peer(host_));
    };
    for (const Inquiry& inquiry : inquiries_) {
        if (inquiry.open()) {
            add(make_error_code(errc::timed_out), inquiry.family(), "the name servers have not answered yet");
        } else if (inquiry.answered() && inquiry.answer() == nullptr) {
            add(std::make_error_code(std::errc::not_enough_memory), inquiry.family(), "out of memory");
        } else if (inquiry.answered() && !inquiry.answer()->has_value() && !is_absence(inquiry.answer()->error())) {
            const Error& error = inquiry.answer()->error();
            add(error.code(), inquiry.family(), error.message());
        }
    }
    return all;
}

std::span<const Address> ResolutionState::addresses() {
    take_in();
    return untaken_;
}

void ResolutionState::take_in() {
    bool more = false;
    for (std::size_t index = 0; index < inquiries_.size(); ++index) {
        const Inquiry& inquiry = inquiries_[index];
        if (taken_in_[index] || inquiry.answer() == nullptr || !inquiry.answer()->has_value()) continue;
        more = taken_in_[index] = true;
        for (const Address& address : **inquiry.answer()) untaken_.push_back(address.with_port(port_));
    }
    if (!more) return;
    Driver& driver = resolver_->executor().driver();
    order_destinations(untaken_, [&driver](const Address& destination) { return source_of(driver, destination); });
    if (preference_ == family_preference::v4_first || preference_ == family_preference::v6_first) {
        std::vector<Address> arranged;
        arranged.reserve(untaken_.size());
        for (const bool first : {true, false}) {
            std::ranges::copy_if(untaken_, std::back_inserter(arranged),
                                 [&](const Address& address) { return (address.is_v4() == v4_begins()) == first; });
        }
        untaken_ = std::move(arranged);
    }
}

const Address* ResolutionState::only() {
    const bool one = addresses().size() == 1 && !open() && missing().empty();
    return one ? &untaken_.front() : nullptr;
}

std::optional<Address> ResolutionState::next() {
    take_in();
    if (untaken_.empty()) return std::nullopt;
    auto chosen = untaken_.begin();
    if (!in_order_) {
        const auto other =
            std::ranges::find_if(untaken_, [this](const Address& address) { return address.family() != last_family_; });
        if (other != untaken_.end()) chosen = other;
    }
    const Address taken = *chosen;
    untaken_.erase(chosen);
    last_family_ = taken.family();
    return taken;
}

}  // namespace torc::net::dns
