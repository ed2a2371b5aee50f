#pragma once

#include <concepts>
#include <cstdint>
#include <functional>
#include <limits>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <torc/runtime/executor.hpp>
#include <torc/runtime/task.hpp>

/// Deterministic simulation: a whole program, servers and clients together, on a virtual clock and a simulated network,
/// all of it drawn from one seed.
///
/// Only the driver differs: TLS, HTTP and the program run unchanged. The clock stands still while tasks run and jumps
/// to the next event when all of them wait, so an hour with nothing to do takes no time. The network reorders
/// completions, splits reads and writes, delays, refuses, resets and stalls, fails operations with errors they can
/// really have, and lets a cancellation land before, with or after the completion. The same seed and program give the
/// same run.
///
///     sim::run(seed, sim::swarm(seed), [](sim::World& world) -> task<> {
///         world.add_host("server", {"10.0.0.1"});
///         co_await gather(world.on("server", serve()), fetch("http://server/"));
///     });
namespace torc::sim {

class Network;
class SimDriver;

/// Random numbers from a seed. A uniform random bit generator.
class Random {
   public:
    using result_type = std::uint64_t;

    explicit Random(std::uint64_t seed) noexcept : state_(seed) {}
    static constexpr result_type min() noexcept { return 0; }
    static constexpr result_type max() noexcept { return std::numeric_limits<result_type>::max(); }
    /// SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
    result_type operator()() noexcept {
        std::uint64_t mixed = state_ += 0x9e3779b97f4a7c15U;
        mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9U;
        mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111ebU;
        return mixed ^ mixed >> 31;
    }
    /// From 0 to `bound` - 1. Requires: bound > 0.
    std::uint64_t below(std::uint64_t bound) noexcept { return (*this)() % bound; }
    /// From `least` to `most`, both included.
    std::uint64_t between(std::uint64_t least, std::uint64_t most) noexcept { return least + below(most - least + 1); }
    /// In [0, 1).
    double unit() noexcept { return static_cast<double>((*this)() >> 11) * 0x1.0p-53; }
    /// True with this probability. Draws nothing for 0.
    bool chance(double probability) noexcept { return probability > 0 && unit() < probability; }
    /// Exponentially distributed around `mean`.
    Clock::duration around(Clock::duration mean) noexcept;

   private:
    std::uint64_t state_;
};

/// What the network does. Probabilities are for each time the thing could happen; 0 is never.
struct Options {
    // The way between two hosts; within one host it takes microseconds.
    Clock::duration latency = std::chrono::microseconds{200};  ///< the least
    Clock::duration jitter = std::chrono::microseconds{100};   ///< the mean of what comes on top
    double spike = 0;                                          ///< a delay of a hundred times that
    std::uint64_t bandwidth_bytes_per_second = 125'000'000;    ///< of each direction of a connection
    std::size_t window_bytes = 64 * 1024;  ///< what may be on the way or unread before a sender has to wait
    Clock::duration connect_patience = std::chrono::seconds{127};  ///< until a connect without answer fails
    Clock::duration send_patience = std::chrono::minutes{15};      ///< until unacknowledged data fails the connection

    // Faults of the network.
    double refuse = 0;      ///< a connect is refused
    double black_hole = 0;  ///< a connect gets no answer
    double reset = 0;       ///< a connection is reset at some moment
    double stall = 0;       ///< a connection goes silent at some moment, for both ends
    double datagram_loss = 0;
    double datagram_copy = 0;  ///< a datagram arrives twice
    double name_failure = 0;   ///< a look-up of a name's addresses of one family fails
    double name_delay = 0;     ///< such a look-up takes seconds

    // Faults and freedoms of the kernel.
    double short_read = 0;               ///< a receive brings less than there is
    double short_write = 0;              ///< a send takes less than there is room for
    double failure = 0;                  ///< an operation fails with one of the errors it can have
    double no_buffers = 0;               ///< a receive finds no buffer to borrow
    double multishot_end = 0;            ///< a multishot operation ends early
    double full_queue = 0;               ///< a turn takes only a few of the operations that are queued
    double spurious_wake = 0;            ///< a turn ends with nothing done
    Clock::duration completion_delay{};  ///< mean time between an operation's end and its completion, so they overtake
    Clock::duration cancel_delay{};      ///< mean time until a cancellation lands, so it comes too late now and then
    Clock::duration timer_lag{};         ///< mean time by which waiting for a deadline comes late
    bool chains_open = true;             ///< operations may follow, in one chain, the one that opens their socket
    bool shuffle = false;                ///< ready tasks run in random order

    // The run.
    Clock::duration longest = std::chrono::hours{24 * 365};  ///< virtual time after which the run has failed
    std::uint64_t most_turns = 100'000'000;  ///< turns after which it has failed: it is going in circles
    /// Real time to wait for other threads of the program before calling it a deadlock. What they do is not simulated.
    std::chrono::milliseconds threads_patience{0};
    bool report = true;  ///< prints to standard error how a run failed
    std::string replay;  ///< the command that repeats this run, for that report
    ExecutorOptions executor;
};

/// The errors, as positive errno, with which an operation of this kind can really end besides ECANCELED.
[[nodiscard]] std::span<const int> possible_errors(op_kind kind) noexcept;

/// Options drawn from the seed: which faults are on, and how strong, so that rare combinations are met.
[[nodiscard]] Options swarm(std::uint64_t seed);

/// What a run did.
struct Report {
    std::uint64_t seed = 0;
    std::uint64_t trace_hash = 0;  ///< of all that happened, in order; equal for equal runs
    std::uint64_t events = 0;
    Clock::duration took{};  ///< virtual
    Statistics statistics;
};

/// The run broke a rule of the simulation: a deadlock, no end in sight, or something left behind. `what()` has the
/// seed, how to replay it, the last events and, for a deadlock, the task tree.
class Failure : public std::runtime_error {
   public:
    using std::runtime_error::runtime_error;
};

/// The simulated machines and the network between them, during a run. There is one host from the beginning, "local"
/// (127.0.0.1, ::1, 10.255.0.1, fdff::1), on which everything runs that is not put elsewhere.
class World {
   public:
    explicit World(SimDriver& driver) noexcept : driver_(&driver) {}

    /// The world of the executor that runs on this thread. Requires: it is a simulated one.
    [[nodiscard]] static World here();

    /// A machine with a name to look up and addresses ("10.0.0.1", "fd00::1").
    /// Errors: invalid_argument for what is no address, or is another host's, or every host's; for a second host of a
    ///         name.
    void add_host(std::string name, const std::vector<std::string>& addresses);
    /// Another name for addresses, of any host or of none.
    void add_name(std::string name, std::vector<std::string> addresses);
    /// From now on looking up the name fails with this code.
    void fail_name(std::string name, std::error_code failure);
    /// From now on the answer about the name's addresses of one family (AF_INET, AF_INET6) takes exactly so long, and
    /// is this failure if there is one. A name server that says nothing is one that fails late.
    /// Errors: not_found if there is no such name; invalid_argument for another family.
    void delay_name(const std::string& name, int family, Clock::duration after, std::error_code failure = {});

    /// Runs `work` on a host: sockets that it and its children open belong there.
    /// Errors: not_found if there is no such host, before `work` begins.
    template <class T>
    [[nodiscard]] task<T> on(std::string host, task<T> work);

    /// Nothing passes between the two any more, in either direction; what is sent waits, as TCP repeats it.
    void partition(std::string_view one, std::string_view other);
    void heal(std::string_view one, std::string_view other);
    /// The same between a host and all others.
    void isolate(std::string_view host);
    void rejoin(std::string_view host);
    /// The host starts anew: the sockets it had are gone. Its own operations on them fail from now on; its peers hear
    /// nothing until they send, and are reset then.
    void crash(std::string_view host);

    [[nodiscard]] Clock::time_point now() const noexcept;
    [[nodiscard]] std::uint64_t seed() const noexcept;
    /// For the program's own decisions; drawing from it does not change what the network does.
    [[nodiscard]] Random& random() noexcept;
    /// A line of the program's own among the events. `what` must be a literal.
    void note(const char* what, std::int64_t value = 0) noexcept;

   private:
    class Staying;
    template <class T>
    static task<T> stay(World world, std::string host, task<T> work);
    SimDriver* driver_;
};

/// Puts the running task, and all it awaits, on a host for as long as it lives.
class World::Staying {
   public:
    Staying(World& world, std::string_view host);
    Staying(const Staying&) = delete;
    Staying& operator=(const Staying&) = delete;
    ~Staying();

   private:
    SimDriver& driver_;
    detail::task_state* task_;
};

template <class T>
task<T> World::on(std::string host, task<T> work) {
    return stay(*this, std::move(host), std::move(work));
}

template <class T>
task<T> World::stay(World world, std::string host, task<T> work) {
    const Staying here{world, host};
    co_return co_await std::move(work);
}

/// Runs a program to its end and checks that it left nothing behind: no operation in flight, no descriptor, buffer,
/// timer, close or coroutine frame.
/// Shape:   `root` is a task<>, or gives one when called, with the `World&` or with nothing.
/// Errors:  what the program threw; `Failure`. Either way the report is printed unless `options.report` is off.
Report run(std::uint64_t seed, const Options& options, std::function<task<>(World&)> root);

template <class Root>
    requires std::same_as<std::invoke_result_t<Root&>, task<>>
Report run(std::uint64_t seed, const Options& options, Root root) {
    return run(seed, options, std::function<task<>(World&)>{[&root](World&) { return root(); }});
}

Report run(std::uint64_t seed, const Options& options, task<> root);

/// The same twice: throws `Failure` as well if the second run is not like the first.
Report run_twice(std::uint64_t seed, const Options& options, const std::function<task<>(World&)>& root);

}  // namespace torc::sim
