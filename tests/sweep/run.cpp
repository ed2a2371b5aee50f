#include "run.hpp"

#include <doctest/doctest.h>

#include <cstdlib>
#include <system_error>

#include <leak_check.hpp>

// Theory of operation. The root of every run catches what the scenario ends with, so that what it left behind is looked
// at however it ended. On a real driver a timer says that a run hangs; a simulated one knows it.

namespace torc::sweep {
namespace {

using namespace std::chrono_literals;

constexpr auto hanging_after = 20s;

/// Ends a run that would not end, and says what it was waiting for.
class Watchdog : public detail::Timer {
   public:
    explicit Watchdog(bool& hung) : Timer(fired), executor_(Executor::here()), hung_(hung) {
        executor_.timers().arm(*this, executor_.now() + hanging_after);
    }
    Watchdog(const Watchdog&) = delete;
    Watchdog& operator=(const Watchdog&) = delete;
    ~Watchdog() {
        if (armed()) executor_.timers().disarm(*this);
    }

   private:
    static void fired(Timer& timer) noexcept {
        const Watchdog& self = static_cast<Watchdog&>(timer);
        self.hung_ = true;
        FAIL_CHECK("the run hangs:\n" << self.executor_.dump_tasks());
        self.executor_.cancel_root();
    }
    Executor& executor_;
    bool& hung_;
};

task<> play(Scenario& scenario, Stage& stage, Outcome& outcome) {
    Ending& ending = outcome.ending;
    std::optional<Watchdog> watchdog;
    if (!stage.simulated()) watchdog.emplace(outcome.hung);
    try {
        co_await scenario.play(stage);
    } catch (const cancelled&) {
        ending.cancelled = true;
    } catch (const Error& error) {
        ending.error = error;
    }
    ending.client_cancelled = stage.client_cancelled();
}

ExecutorOptions options_for(const Disturbance& disturbance, Stage& stage, Outcome& outcome) {
    ExecutorOptions options;
    options.queue_entries = 32;
    options.buffer_count = 8;
    options.buffer_bytes = 1024;
    options.offload_threads = 2;
    options.cancel_late = disturbance.late;
    if (disturbance.cancel_client_at != 0) {
        options.cancel_at_suspension = disturbance.cancel_client_at;
        options.at_suspension = [&stage, then = disturbance.cancel_all_at] {
            stage.cancel_client();
            return then;
        };
    } else {
        options.cancel_at_suspension = disturbance.cancel_all_at;
    }
    options.fail_at_operation = disturbance.fail_at;
    options.fail_with = [&outcome, which = disturbance.which_error](op_kind kind) {
        const std::span<const int> errors = sim::possible_errors(kind);
        outcome.possible_errors = errors.size();
        if (which >= errors.size()) return 0;
        outcome.failing = to_string(kind) + (": " + std::generic_category().message(errors[which]));
        return errors[which];
    };
    return options;
}

sim::Options network_for(weather network) {
    sim::Options options;
    options.report = false;
    options.longest = 1min;
    options.most_turns = 200'000;
    if (network == weather::calm) return options;
    // No short writes: one may cut off a farewell, and then a stream rightly ends with an error.
    options.short_read = 0.3;
    options.no_buffers = 0.1;
    options.multishot_end = 0.2;
    options.full_queue = 0.2;
    options.spurious_wake = 0.1;
    options.completion_delay = 20us;
    options.cancel_delay = 20us;
    options.timer_lag = 10us;
    options.shuffle = true;
    return options;
}

void run_simulated(Scenario& scenario, Stage& stage, const Disturbance& disturbance, Outcome& outcome) {
    sim::Options options = network_for(disturbance.network);
    options.executor = options_for(disturbance, stage, outcome);
    scenario.prepare(options);
    const auto root = [&](sim::World& world) {
        stage.set(world);
        return play(scenario, stage, outcome);
    };
    try {
        const sim::Report report = sim::run(1, options, root);
        outcome.suspensions = report.statistics.suspensions;
        outcome.operations = report.statistics.submitted;
    } catch (const sim::Failure& failure) {
        outcome.hung = true;
        FAIL_CHECK(std::string{failure.what()});
    }
}

void run_for_real(Scenario& scenario, Stage& stage, const Disturbance& disturbance, Outcome& outcome) {
    const test::leak_check leaks;
    Executor executor{options_for(disturbance, stage, outcome)};
    executor.run(play(scenario, stage, outcome));
    const Statistics after = executor.statistics();
    test::leak_check::check(after);
    outcome.suspensions = after.suspensions;
    outcome.operations = after.submitted;
}

}  // namespace

std::string Disturbance::describe() const {
    std::string text = network == weather::rough ? "in rough weather" : "in calm weather";
    const auto cancelled_at = [&](const char* what, std::uint64_t at) {
        if (at != 0) text += std::string{", "} + what + " cancelled at suspension " + std::to_string(at);
    };
    cancelled_at("the client", cancel_client_at);
    cancelled_at("everything", cancel_all_at);
    if (late) text += ", late";
    if (fail_at != 0) text += ", operation " + std::to_string(fail_at) + " fails";
    return text;
}

bool on_sim() {
    const char* const name = std::getenv("TORC_DRIVER");
    return name != nullptr && std::string_view{name} == "sim";
}

Outcome run(const NamedScenario& scenario, const Disturbance& disturbance) {
    Outcome outcome;
    outcome.ending.fault_asked = disturbance.fail_at != 0;
    outcome.ending.cancel_asked = disturbance.cancel_all_at != 0;
    Stage stage;
    if (disturbance.fail_at != 0) stage.expect_faults();
    const std::unique_ptr<Scenario> made = scenario.make();
    INFO(std::string{scenario.name}, ", ", disturbance.describe());
    (on_sim() ? run_simulated : run_for_real)(*made, stage, disturbance, outcome);
    const Ending& ending = outcome.ending;
    const bool failed = ending.error.has_value();
    const std::string end = failed ? ending.error->what() : ending.cancelled ? "cancelled" : "success";
    INFO("it ended with: ", end, "; ", outcome.failing);
    made->check(ending);
    CHECK_MESSAGE((ending.cancel_asked || !ending.cancelled), "cancelled, which nobody asked for");
    REQUIRE_MESSAGE(!outcome.hung, "one that hangs is enough");
    if (failed) {
        CHECK_MESSAGE(!ending.error->message().empty(), "an error has words");
        CHECK_MESSAGE(disturbance.fail_at != 0, "nothing failed, so nothing ends with an error");
    }
    return outcome;
}

}  // namespace torc::sweep
