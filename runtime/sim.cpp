#include <torc/runtime/sim.hpp>

#include <fmt/format.h>

#include <cmath>
#include <cstdio>

#include "sim_driver.hpp"
#include "uncaught.hpp"

// Theory of operation. A run is an executor on a sim driver, with the program's exceptions passing through and what it
// left behind counted at the end. All that a failed run has to tell is told in one place, by the driver's `story`.

namespace torc::sim {

Clock::duration Random::around(Clock::duration mean) noexcept {
    if (mean <= Clock::duration::zero()) return {};
    return Clock::duration{static_cast<Clock::rep>(-std::log(1 - unit()) * static_cast<double>(mean.count()))};
}

void Agenda::count(std::uint64_t value) noexcept {
    hash_ = (hash_ ^ value) * 0x9e3779b97f4a7c15U;
    hash_ ^= hash_ >> 29;
}

void Agenda::note(const char* what, std::int64_t subject, std::int64_t value) noexcept {
    entries_[noted_++ % entries_.size()] = {now_, what, subject, value};
    count(static_cast<std::uint64_t>(now_.time_since_epoch().count()));
    for (const char* letter = what; *letter != '\0'; ++letter) count(static_cast<unsigned char>(*letter));
    count(static_cast<std::uint64_t>(subject));
    count(static_cast<std::uint64_t>(value));
}

std::string Agenda::last() const {
    std::string text;
    for (std::uint64_t index = noted_ - std::min<std::uint64_t>(noted_, entries_.size()); index < noted_; ++index) {
        const Entry& entry = entries_[index % entries_.size()];
        const double seconds = std::chrono::duration<double>(entry.at.time_since_epoch()).count();
        text += fmt::format("  {:14.9f} s  {}", seconds, entry.what);
        if (entry.subject != 0) text += fmt::format(" {}", entry.subject);
        text += fmt::format(": {}\n", entry.value);
    }
    return text;
}

Options swarm(std::uint64_t seed) {
    // Not the stream that the run itself draws from.
    Random random{seed * 0xda942042e4dd58b5U + 1};
    Options options;
    const auto maybe = [&random](double strongest) {
        return random.chance(0.5) ? strongest * std::pow(random.unit(), 3) : 0.0;
    };
    const auto microseconds = [&random](std::uint64_t most) {
        return std::chrono::microseconds{random.chance(0.5) ? random.below(most + 1) : 0};
    };
    options.latency = std::chrono::microseconds{1 + random.below(1 << random.below(18))};
    options.jitter = options.latency * random.below(4);
    options.spike = maybe(0.1);
    options.bandwidth_bytes_per_second = std::uint64_t{10'000} << random.below(18);
    options.window_bytes = std::size_t{512} << random.below(10);
    options.refuse = maybe(0.3);
    options.black_hole = maybe(0.1);
    options.reset = maybe(0.3);
    options.stall = maybe(0.1);
    options.datagram_loss = maybe(0.3);
    options.datagram_copy = maybe(0.3);
    options.name_failure = maybe(0.3);
    options.name_delay = maybe(0.5);
    options.short_read = maybe(1);
    options.short_write = maybe(1);
    options.failure = maybe(0.05);
    options.no_buffers = maybe(0.3);
    options.multishot_end = maybe(0.5);
    options.full_queue = maybe(0.5);
    options.spurious_wake = maybe(0.3);
    options.completion_delay = microseconds(50);
    options.cancel_delay = microseconds(50);
    options.timer_lag = microseconds(2'000);
    options.chains_open = random.chance(0.5);
    options.shuffle = random.chance(0.7);
    options.executor.buffer_count = std::size_t{1} << random.between(1, 8);
    options.executor.buffer_bytes = std::size_t{256} << random.below(7);
    return options;
}

World World::here() {
    auto* const driver = dynamic_cast<SimDriver*>(&Executor::here().driver());
    TORC_ASSERT(driver != nullptr, "World::here needs an executor that is simulated");
    return World{*driver};
}

void World::add_host(std::string name, const std::vector<std::string>& addresses) {
    driver_->network().add_host(std::move(name), addresses);
}
void World::add_name(std::string name, std::vector<std::string> addresses) {
    driver_->network().add_name(std::move(name), std::move(addresses));
}
void World::fail_name(std::string name, std::error_code failure) {
    driver_->network().fail_name(std::move(name), failure);
}
void World::delay_name(const std::string& name, int family, Clock::duration after, std::error_code failure) {
    driver_->network().delay_name(name, family, after, failure);
}
void World::partition(std::string_view one, std::string_view other) {
    Network& network = driver_->network();
    network.partition(network.host(one), network.host(other));
}
void World::heal(std::string_view one, std::string_view other) {
    Network& network = driver_->network();
    network.heal(network.host(one), network.host(other));
}
void World::isolate(std::string_view host) { driver_->network().isolate(driver_->network().host(host)); }
void World::rejoin(std::string_view host) { driver_->network().rejoin(driver_->network().host(host)); }
void World::crash(std::string_view host) { driver_->network().crash(driver_->network().host(host)); }
Clock::time_point World::now() const noexcept { return driver_->now(); }
std::uint64_t World::seed() const noexcept { return driver_->seed(); }
Random& World::random() noexcept { return driver_->random(); }
void World::note(const char* what, std::int64_t value) noexcept { driver_->agenda().note(what, 0, value); }

World::Staying::Staying(World& world, std::string_view host)
    : driver_(*world.driver_), task_(Executor::here().running()) {
    driver_.stay(task_, driver_.network().host(host));
}
World::Staying::~Staying() { driver_.leave(task_); }

namespace {

/// What a program must not leave behind, in words; empty if it did not.
std::string left_behind(const Statistics& after, std::ptrdiff_t frames, std::size_t sockets) {
    std::string text;
    const auto count = [&text](auto number, const char* what) {
        if (number != 0) text += fmt::format("{}{} {}", text.empty() ? "" : ", ", number, what);
    };
    count(after.in_flight, "operations in flight");
    count(after.open_descriptors, "open descriptors");
    count(sockets, "open sockets");
    count(after.buffers_lent, "buffers lent");
    count(after.waiting_for_buffer, "receives waiting for a buffer");
    count(after.timers, "timers armed");
    count(after.open_closes, "closes under way");
    count(std::max<std::ptrdiff_t>(frames, 0), "coroutine frames");
    return text;
}

/// An error in words, with the chain of awaits that it began in.
std::string words_of(const std::exception_ptr& error, const Executor& executor) {
    auto [what, trace] = torc::detail::uncaught(error, &executor);
    if (!trace.empty()) trace.pop_back();  // the last line's end
    return trace.empty() ? what : what + "\n" + trace;
}

/// `frames_before` are those that were alive before the program had any.
Report run_checked(std::uint64_t seed, const Options& options, const std::function<task<>(World&)>& root,
                   std::ptrdiff_t frames_before) {
    Options chosen = options;
    chosen.executor.offload_threads = 0;  // their order would be the machine's
    if (chosen.shuffle) chosen.executor.shuffle_seed = seed | 1;
    auto owned = std::make_unique<SimDriver>(seed, chosen);
    SimDriver& driver = *owned;
    Executor executor{chosen.executor, std::move(owned)};
    struct LastWords {
        explicit LastWords(const SimDriver& told)
            : before(detail::set_last_words({[](const void* context) noexcept {
                                                 const std::string story =
                                                     static_cast<const SimDriver*>(context)->story();
                                                 std::fputs(story.c_str(), stderr);
                                             },
                                             &told})) {}
        ~LastWords() { detail::set_last_words(before); }
        detail::last_words before;
    } const last_words{driver};

    const auto fail = [&](const std::string& why) {
        const std::string story = why + (why.empty() ? "" : "\n") + driver.story();
        if (options.report) std::fprintf(stderr, "torc: %s", story.c_str());
        return story;
    };
    const Clock::time_point began = driver.now();
    World world{driver};
    try {
        executor.run(root(world));
    } catch (...) {
        if (!driver.failure().empty()) throw Failure{fail({})};
        fail("the program failed: " + words_of(std::current_exception(), executor));
        throw;
    }
    if (!driver.failure().empty()) throw Failure{fail({})};
    // What came after the last turn.
    driver.agenda().count(static_cast<std::uint64_t>(driver.now().time_since_epoch().count()));
    driver.agenda().count(executor.statistics().resumes);
    Report report{seed, driver.agenda().hash(), driver.agenda().noted(), driver.now() - began, executor.statistics()};
    const std::string left =
        left_behind(report.statistics, detail::live_frames() - frames_before, driver.network().open_sockets());
    if (!left.empty()) throw Failure{fail("left behind: " + left)};
    return report;
}

}  // namespace

Report run(std::uint64_t seed, const Options& options, std::function<task<>(World&)> root) {
    return run_checked(seed, options, root, detail::live_frames());
}

Report run(std::uint64_t seed, const Options& options, task<> root) {
    // What the task was given may own frames as well; those are counted only where a function makes it all.
    const std::ptrdiff_t frames_before = detail::live_frames() - 1;
    return run_checked(seed, options, [&root](World&) { return std::move(root); }, frames_before);
}

Report run_twice(std::uint64_t seed, const Options& options, const std::function<task<>(World&)>& root) {
    const Report first = run(seed, options, root);
    const Report second = run(seed, options, root);
    if (first.trace_hash != second.trace_hash || first.events != second.events) {
        const std::string why = fmt::format(
            "two runs of seed {} differ ({} and {} events): the program does something that the seed does not decide, "
            "such as reading a clock or a file of the machine",
            seed, first.events, second.events);
        if (options.report) std::fprintf(stderr, "torc: %s\n", why.c_str());
        throw Failure{why};
    }
    return first;
}

}  // namespace torc::sim
