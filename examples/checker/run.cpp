#include "run.hpp"

#include <fmt/format.h>
#include <sys/resource.h>

#include <algorithm>

#include <torc/runtime/race.hpp>
#include <torc/runtime/scope.hpp>
#include <torc/runtime/semaphore.hpp>
#include <torc/runtime/time.hpp>

#include "check.hpp"
#include "demo.hpp"
#include "progress.hpp"
#include "report.hpp"

// Theory of operation. One task takes a place, then the next URL, and spawns a check that holds the place until it has
// reported: memory and descriptors are bounded by the places, and a slow source or reader of lines holds nothing up but
// what depends on it. The writer runs beside all this until everything is said.

namespace checker {
namespace {

// What a check may have open at once: sockets of several addresses that are tried in parallel.
constexpr std::size_t descriptors_per_check = 4;
constexpr std::size_t lookups_at_once = 32;
// Standard streams, lists, the ring, name servers.
constexpr std::size_t descriptors_besides = 32 + 2 * lookups_at_once;

class Run {
   public:
    Run(Options options, Input& input, Console& console)
        : options_(std::move(options)),
          session_options_(session_options(options_)),
          input_(input),
          console_(console),
          places_(options_.concurrency),
          progress_(torc::Clock::now()) {}

    torc::task<int> operator()() {
        co_await torc::with_scope([this](torc::scope& here) -> torc::task<> {
            here.spawn(console_.serve());
            if (console_.has_status() && !options_.quiet) {
                co_await torc::race(check_each(), show_progress());
                console_.status({});
            } else {
                co_await check_each();
            }
            console_.end();
        });
        co_return progress_.failed() == 0 ? 0 : 1;
    }

   private:
    torc::task<> check_each() {
        co_await torc::with_scope([this](torc::scope& checks) -> torc::task<> {
            for (;;) {
                torc::semaphore::permit place = co_await places_.acquire();
                std::optional<Target> target = co_await input_.next();
                if (!target) break;
                checks.spawn(check_one(std::move(*target), std::move(place)));
            }
        });
    }

    torc::task<> check_one(Target target, torc::semaphore::permit place) {
        Outcome outcome = co_await check(std::move(target), options_.method, session_options_);
        progress_.count(outcome.good());
        report(outcome);
        co_await console_.room();
        place.release();
    }

    void report(const Outcome& outcome) {
        if (options_.quiet && outcome.good()) return;
        if (options_.json) {
            console_.out(json_line(outcome));
        } else if (outcome.error) {
            console_.error(error_line(outcome));
        } else {
            console_.out(answer_lines(outcome));
        }
    }

    torc::task<> show_progress() {
        for (;;) {
            console_.status(progress_.line(torc::Clock::now(), input_.total(), console_.has_colour()));
            co_await torc::sleep_for(std::chrono::milliseconds{100});
        }
    }

    Options options_;
    torc::http::SessionOptions session_options_;
    Input& input_;
    Console& console_;
    torc::semaphore places_;
    Progress progress_;
};

}  // namespace

std::size_t fit_descriptors(std::size_t concurrency) {
    rlimit limit{};
    if (::getrlimit(RLIMIT_NOFILE, &limit) != 0) return concurrency;
    if (limit.rlim_cur < limit.rlim_max) {
        limit.rlim_cur = limit.rlim_max;
        if (::setrlimit(RLIMIT_NOFILE, &limit) != 0) ::getrlimit(RLIMIT_NOFILE, &limit);
    }
    if (limit.rlim_cur == RLIM_INFINITY) return concurrency;
    const std::size_t allowed = limit.rlim_cur;
    const std::size_t left = allowed > descriptors_besides ? allowed - descriptors_besides : 0;
    const std::size_t fitting = std::max<std::size_t>(left / descriptors_per_check, 1);
    if (fitting >= concurrency) return concurrency;
    fmt::print(stderr, "torc-check: {} descriptors are allowed here, so no more than {} sites are checked at once\n",
               allowed, fitting);
    return fitting;
}

torc::task<int> check_all(Options options, Input& input, Console& console) {
    torc::net::ResolverOptions names;
    names.entries = options.resolve;
    names.concurrent_lookups = lookups_at_once;
    torc::net::Resolver::of(torc::Executor::here()).configure(std::move(names));
    Run run{std::move(options), input, console};
    co_return co_await run();
}

torc::task<int> check_demo(Options options, Console& console) {
    DemoSites sites;
    sites.introduce(options);
    Input input{options};
    int status = 1;
    co_await torc::with_scope([&](torc::scope& here) -> torc::task<> {
        sites.serve(here);
        status = co_await check_all(options, input, console);
        sites.stop();
    });
    co_return status;
}

}  // namespace checker
