#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fmt/format.h>
#include <CLI/CLI.hpp>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <new>
#include <vector>

#include "programs.hpp"

// Runs random whole programs in the simulation, a seed each, on every core. A seed decides the program, its shape and
// the faults around it. A worker that dies takes only its seed along: the next one goes on behind it.

namespace {

namespace sim = torc::sim;
namespace programs = torc::test::programs;

struct Settings {
    std::uint64_t first = 1;
    std::uint64_t seeds = 2'000;
    std::uint64_t twice_each = 32;
    double minutes = 0;
    unsigned jobs = 1;
    std::string only;
    bool one = false;
    bool verbose = false;
};

/// Shared by the workers, which are processes.
struct Progress {
    std::atomic<std::uint64_t> next{0};
    std::atomic<std::uint64_t> passed{0};
    std::atomic<std::uint64_t> failed{0};
    std::atomic<std::uint64_t> events{0};
    std::atomic<std::int64_t> virtual_ms{0};
    std::atomic<std::uint64_t> at[64];  // by worker: the seed it is at
};

const programs::Program& program_of(const Settings& settings, std::uint64_t seed) {
    const auto all = programs::all();
    if (!settings.only.empty()) {
        return *std::ranges::find(all, settings.only, &programs::Program::name);
    }
    return all[seed % all.size()];
}

/// Errors: what the program or the simulation throws; it was printed.
sim::Report run_seed(const Settings& settings, std::uint64_t seed) {
    const programs::Program& program = program_of(settings, seed);
    sim::Options options = sim::swarm(seed);
    options.longest = std::chrono::hours{24};
    options.most_turns = 5'000'000;
    options.replay = fmt::format("./dev sim --seed {} --program {}", seed, program.name);
    const auto root = [&program](sim::World& world) { return program.root(world); };
    return seed % settings.twice_each == 0 || settings.one ? sim::run_twice(seed, options, root)
                                                           : sim::run(seed, options, root);
}

bool try_seed(const Settings& settings, std::uint64_t seed, Progress& progress) {
    const char* const name = program_of(settings, seed).name.data();
    try {
        const sim::Report report = run_seed(settings, seed);
        ++progress.passed;
        progress.events += report.events;
        progress.virtual_ms += std::chrono::duration_cast<std::chrono::milliseconds>(report.took).count();
        if (settings.verbose || settings.one) {
            fmt::print("seed {}: {}: {} events in {:.3f} virtual seconds, trace {:016x}\n", seed, name, report.events,
                       std::chrono::duration<double>(report.took).count(), report.trace_hash);
        }
        return true;
    } catch (const sim::Failure&) {  // said all
    } catch (const torc::cancelled&) {
        fmt::print(stderr, "seed {}: {}: was cancelled, by nobody\n", seed, name);
    } catch (const std::exception& error) {
        fmt::print(stderr, "seed {}: {}: {}\n", seed, name, error.what());
    }
    ++progress.failed;
    return false;
}

int work(const Settings& settings, Progress& progress, unsigned worker) {
    const auto until = std::chrono::steady_clock::now() + std::chrono::duration<double>{settings.minutes * 60};
    for (;;) {
        const bool enough =
            settings.minutes > 0 ? std::chrono::steady_clock::now() >= until : progress.next >= settings.seeds;
        if (enough || progress.failed >= 20) return 0;
        const std::uint64_t number = progress.next++;
        if (settings.minutes <= 0 && number >= settings.seeds) return 0;
        progress.at[worker] = settings.first + number;
        try_seed(settings, settings.first + number, progress);
    }
}

int run_all(const Settings& settings) {
    void* const memory = ::mmap(nullptr, sizeof(Progress), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) return 1;
    auto& progress = *new (memory) Progress;
    std::vector<pid_t> workers(std::min(settings.jobs, 64U));
    const auto start = [&](unsigned index) {
        std::fflush(nullptr);
        workers[index] = ::fork();
        if (workers[index] != 0) return;
        const int status = work(settings, progress, index);
        std::fflush(nullptr);
        std::_Exit(status);
    };
    const auto began = std::chrono::steady_clock::now();
    for (unsigned index = 0; index < workers.size(); ++index) start(index);
    for (std::size_t left = workers.size(); left > 0;) {
        int status = 0;
        const pid_t ended = ::wait(&status);
        const auto found = std::ranges::find(workers, ended);
        if (ended < 0 || found == workers.end()) break;
        const auto index = static_cast<unsigned>(found - workers.begin());
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
            --left;
            continue;
        }
        ++progress.failed;
        const std::uint64_t seed = progress.at[index];
        fmt::print(stderr, "seed {} ended the process; to repeat it: ./dev sim --seed {} --program {}\n", seed, seed,
                   program_of(settings, seed).name);
        start(index);
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    fmt::print("{} seeds from {}: {} events in {:.1f} virtual hours, {:.1f} s\n", progress.passed + progress.failed,
               settings.first, progress.events.load(), static_cast<double>(progress.virtual_ms) / 3.6e6, seconds);
    fmt::print("{} passed, {} failed, 0 skipped\n", progress.passed.load(), progress.failed.load());
    return progress.failed == 0 ? 0 : 1;
}

}  // namespace

int main(int count, char** arguments) {
    Settings settings;
    settings.jobs = static_cast<unsigned>(std::max(::sysconf(_SC_NPROCESSORS_ONLN), 1L));
    CLI::App app{"Runs random whole programs in the simulation and checks what must hold after each.", "./dev sim"};
    std::uint64_t seed = 0;
    auto* const one = app.add_option("--seed", seed, "run this seed alone, twice, and say what it did");
    app.add_option("--seeds", settings.seeds, "how many seeds")->capture_default_str();
    app.add_option("--from", settings.first, "the first of them")->capture_default_str();
    app.add_option("--minutes", settings.minutes, "run for so long instead")->check(CLI::PositiveNumber);
    app.add_option("--jobs", settings.jobs, "processes")->check(CLI::Range(1, 64))->capture_default_str();
    std::vector<std::string> names;
    for (const programs::Program& program : programs::all()) names.emplace_back(program.name);
    app.add_option("--program", settings.only, "only this one")->check(CLI::IsMember(names));
    app.add_flag("--verbose", settings.verbose, "a line for each seed");
    CLI11_PARSE(app, count, arguments);
    if (!*one) return run_all(settings);
    settings.one = true;
    Progress progress;
    const bool good = try_seed(settings, seed, progress);
    fmt::print("{} passed, {} failed, 0 skipped\n", good ? 1 : 0, good ? 0 : 1);
    return good ? 0 : 1;
}
