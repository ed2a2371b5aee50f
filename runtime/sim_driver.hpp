#pragma once

#include <semaphore.h>

#include <string>
#include <unordered_map>
#include <vector>

#include <torc/runtime/driver.hpp>
#include <torc/runtime/sim.hpp>

#include "sim_agenda.hpp"
#include "sim_network.hpp"

/// The sim driver: operations on the simulated network, in virtual time.
namespace torc::sim {

class SimDriver final : public Driver {
   public:
    /// With `alone` there is nobody but the driver to tell why a run had to be ended, and the date is the machine's:
    /// the program was not written for the simulation.
    SimDriver(std::uint64_t seed, const Options& options, bool alone = false);
    ~SimDriver() override;

    void turn(Clock::time_point deadline) override;
    void wake() noexcept override;
    [[nodiscard]] Clock::time_point now() const noexcept override { return agenda_.now(); }
    [[nodiscard]] Clock::time_point roughly_now() const noexcept override { return agenda_.now(); }
    [[nodiscard]] std::chrono::system_clock::time_point wall_now() const noexcept override;
    [[nodiscard]] std::string_view name() const noexcept override { return "sim"; }
    [[nodiscard]] bool chains_open() const noexcept override { return options_.chains_open; }

    [[nodiscard]] int bind(const binding& what, descriptor& file) noexcept override;
    [[nodiscard]] int local_address(const descriptor& file, sockaddr* address,
                                    std::uint32_t* address_bytes) const noexcept override;
    [[nodiscard]] int peer_address(const descriptor& file, sockaddr* address,
                                   std::uint32_t* address_bytes) const noexcept override;
    int set_option(const descriptor& file, int level, int name, int value) noexcept override;
    [[nodiscard]] bool simulated() const noexcept override { return true; }
    [[nodiscard]] int source_address(const sockaddr* to, std::uint32_t to_bytes, sockaddr* address,
                                     std::uint32_t* address_bytes) noexcept override;
    [[nodiscard]] name_answer look_up(std::string_view name, int family) override {
        return network_.look_up(name, family);
    }
    void fill_random(std::span<std::byte> bytes) noexcept override;

    [[nodiscard]] Agenda& agenda() noexcept { return agenda_; }
    [[nodiscard]] Network& network() noexcept { return network_; }
    [[nodiscard]] Random& random() noexcept { return program_random_; }
    [[nodiscard]] std::uint64_t seed() const noexcept { return seed_; }
    /// Why the run had to be ended, or nothing.
    [[nodiscard]] const std::string& failure() const noexcept { return failure_; }
    /// What a person needs to understand and repeat a failed run.
    [[nodiscard]] std::string story() const;

    /// Where the tasks below `task` run.
    void stay(const detail::task_state* task, Host& host) { stays_.emplace_back(task, &host); }
    void leave(const detail::task_state* task) noexcept;

   private:
    /// An operation that has begun.
    struct Pending {
        std::uint64_t serial = 0;
        std::uint64_t guard = 0;  // of the memory it owns
        std::string bytes;        // received, not yet written to its memory
        int file = -1;
        bool over = false;  // its completion is on the way
    };

    void cancel_in_flight(operation& op) noexcept override;
    void close_now(const descriptor& file) noexcept override { network_.close(file.value); }
    void submitted(operation& first) noexcept override;

    void take_chains();
    void begin(operation& op);
    void attempt(operation& op, Pending& pending);
    void attempt_multishot(operation& op, Pending& pending);
    std::optional<int> call(operation& op, Pending& pending);
    std::optional<int> call_send(operation& op);
    std::optional<int> receive_into_buffer(operation& op, int& buffer_id);
    void complete(operation& op, int result, int buffer_id = -1);
    void land(operation& op, int result, int buffer_id);
    void land_cancel(operation& op);
    void changed(int file);
    void later(Clock::duration mean, operation& op, std::move_only_function<void()> work);
    [[nodiscard]] int drawn_failure(op_kind kind) noexcept;
    [[nodiscard]] Host& current_host() noexcept;
    [[nodiscard]] bool take_wakes() noexcept;
    [[nodiscard]] bool wait_for_threads() noexcept;
    void give_up(const char* why);

    const std::uint64_t seed_;
    const Options options_;
    const bool alone_;
    const std::chrono::system_clock::time_point first_date_;
    Agenda agenda_;
    Random program_random_;
    Random entropy_;
    Network network_;
    std::unordered_map<const operation*, Pending> pending_;
    std::unordered_map<const operation*, Host*> openers_;
    std::vector<operation*> waiting_;  // in the order in which they began to wait
    std::vector<std::pair<const detail::task_state*, Host*>> stays_;
    std::uint64_t serial_ = 0;
    std::string failure_;
    sem_t wakes_;  // posted by threads and by signal handlers
};

}  // namespace torc::sim
