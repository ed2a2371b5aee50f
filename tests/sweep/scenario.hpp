#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <torc/net/listener.hpp>
#include <torc/net/udp.hpp>
#include <torc/runtime.hpp>
#include <torc/runtime/sim.hpp>

/// The programs that the sweeps disturb at every point: each plays both sides of something, and says afterwards
/// whether anything was lost.
namespace torc::sweep {

/// What a scenario is played on: simulated hosts, or this machine's loopback.
class Stage {
   public:
    /// Of a simulated run; without it the driver is a real one.
    void set(sim::World& world) { world_ = &world; }
    [[nodiscard]] bool simulated() const noexcept { return world_ != nullptr; }
    [[nodiscard]] sim::World& world() const noexcept { return *world_; }
    /// Operations are going to fail. A connection that says it was reset may be well in truth, so that who waits for
    /// its end waits for its own limit of time: that should be a short one.
    void expect_faults() noexcept { faults_ = true; }
    [[nodiscard]] bool faults() const noexcept { return faults_; }

    /// A listener on the server's machine, and where clients reach it.
    [[nodiscard]] task<net::TcpListener> listen();
    [[nodiscard]] net::Address address_of(const net::TcpListener& listener) const;
    /// A socket for datagrams on the server's machine, and where clients reach it.
    [[nodiscard]] task<net::UdpSocket> bind();
    [[nodiscard]] net::Address address_of(const net::UdpSocket& socket) const;

    /// Runs a part in which these names have these addresses: asked of a server beside it, or simulated.
    [[nodiscard]] task<> with_names(std::map<std::string, std::vector<std::string>> names, task<> part);

    /// Runs the part of a scenario that the sweep may cancel by itself while the rest goes on. It returns normally
    /// then.
    [[nodiscard]] task<> client(task<> part);
    /// For the sweep. Has no effect while there is no such part.
    void cancel_client() noexcept;
    [[nodiscard]] bool client_cancelled() const noexcept { return client_cancelled_; }
    /// Runs what speaks with the client: with a client that was cancelled it may end with an error.
    [[nodiscard]] task<> partner(task<> part);

   private:
    sim::World* world_ = nullptr;
    bool faults_ = false;
    scope* client_ = nullptr;
    bool client_cancelled_ = false;
};

/// How a run ended.
struct Ending {
    bool fault_asked = false;       ///< an operation was to fail
    bool cancel_asked = false;      ///< everything was to be cancelled at some suspension; it may have ended before
    bool cancelled = false;         ///< everything was, and noticed
    bool client_cancelled = false;  ///< the client's part was
    std::optional<Error> error;
    [[nodiscard]] bool completed() const noexcept { return !cancelled && !error; }
    [[nodiscard]] bool undisturbed() const noexcept { return completed() && !cancel_asked && !client_cancelled; }
};

/// One run of a scenario; made anew for each.
class Scenario {
   public:
    Scenario() = default;
    Scenario(const Scenario&) = delete;
    Scenario& operator=(const Scenario&) = delete;
    virtual ~Scenario() = default;
    /// What the network has to be like for it.
    virtual void prepare(sim::Options&) const {}
    virtual task<> play(Stage& stage) = 0;
    /// Checks that nothing was lost. Called when the run is over, however it ended.
    virtual void check(const Ending& ending) = 0;
};

struct NamedScenario {
    const char* name;  ///< a sentence
    std::function<std::unique_ptr<Scenario>()> make;
};

/// All of them.
[[nodiscard]] std::vector<NamedScenario> scenarios();

// The groups they are written in.
using Scenarios = std::vector<NamedScenario>;
void add_shared_things(Scenarios& all);
void add_tasks(Scenarios& all);
void add_connections(Scenarios& all);
void add_datagrams(Scenarios& all);
void add_handovers(Scenarios& all);
void add_tls(Scenarios& all);
void add_http(Scenarios& all);

template <class Made, class... Arguments>
void add(Scenarios& all, const char* name, Arguments... arguments) {
    const auto make = [arguments...]() -> std::unique_ptr<Scenario> { return std::make_unique<Made>(arguments...); };
    all.push_back({name, make});
}

/// Bytes that are not alike anywhere.
[[nodiscard]] std::string pattern(std::size_t size_bytes);
void append(std::string& to, std::span<const std::byte> bytes);

}  // namespace torc::sweep
