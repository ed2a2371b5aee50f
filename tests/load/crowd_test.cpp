#include <doctest/doctest.h>

#include <algorithm>
#include <blocking_peer.hpp>
#include <chrono>
#include <cstdio>
#include <memory>
#include <utility>
#include <vector>

#include "crowd.hpp"
#include "crowd_server.hpp"
#include "load.hpp"

// A crowd before our server: 20,000 connections at once, each of which makes requests, and a part of which is killed:
// by a reset at a moment of the seed's choice, or with the whole process by SIGKILL. Whatever the moment, everybody
// else is answered, and afterwards the server holds what it held before anybody came.
//
// Site and visitors are processes of their own, so that there are descriptors for all; where one process may not have
// enough of them for all connections, two share the port.

using namespace torc;
using namespace torc::load;

namespace {

constexpr std::size_t spare_descriptors = 256;
constexpr std::size_t doomed_visitors = 25;  // of one process that is going to die

class Barrier {
   public:
    Barrier() { REQUIRE(::pipe2(ends_, O_CLOEXEC) == 0); }
    Barrier(const Barrier&) = delete;
    Barrier& operator=(const Barrier&) = delete;
    ~Barrier() {
        open();
        ::close(ends_[0]);
    }
    void open() {
        if (ends_[1] >= 0) ::close(std::exchange(ends_[1], -1));
    }
    /// In a child process: blocks until it is opened.
    void wait() {
        open();
        char nothing = 0;
        [[maybe_unused]] const ssize_t end = ::read(ends_[0], &nothing, 1);
    }

   private:
    int ends_[2] = {-1, -1};
};

std::unique_ptr<test::Forked> start_visitors(const CrowdPlan& plan, Barrier& barrier) {
    return std::make_unique<test::Forked>(
        [&plan, &barrier] {
            allow_all_descriptors();
            const CrowdReport report = visit(plan, [&barrier] {
                std::printf("connected\n");
                std::fflush(stdout);
                barrier.wait();
            });
            std::printf("%zu answers, %zu resets, %zu faults %s\n", report.answers, report.resets, report.faults,
                        report.first_fault.c_str());
            return report.faults == 0 ? 0 : 1;
        },
        600);
}

/// Asks all sites again and again until `good` says so; false if that takes far too long.
template <class Good>
bool eventually(Good good) {
    const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{60};
    while (!good()) {
        if (std::chrono::steady_clock::now() > deadline) return false;
    }
    return true;
}

}  // namespace

TEST_SUITE("crowd") {
    TEST_CASE("of a crowd a part is killed at random moments, everybody else is answered, and nothing is left") {
        Chance chance = Chance::announced("the crowd");
        const std::size_t visitors = sized<std::size_t>(20'000, 1'500);
        const std::size_t resets = visitors / 40;
        const std::size_t doomed = visitors / 40 / doomed_visitors;
        const std::size_t allowed = allow_all_descriptors();
        const std::size_t sites = visitors + resets + spare_descriptors > allowed ? 2 : 1;

        std::vector<std::unique_ptr<CrowdServer>> servers;
        for (std::size_t index = 0; index < sites; ++index) {
            const std::uint16_t port = servers.empty() ? std::uint16_t{0} : servers.front()->port();
            servers.push_back(std::make_unique<CrowdServer>(port, 2 * visitors));
        }
        std::vector<std::string> at_rest;
        for (const auto& server : servers) at_rest.push_back(server->now().held);
        const auto connections = [&servers] {
            std::size_t sum = 0;
            for (const auto& server : servers) sum += server->now().connections;
            return sum;
        };

        Barrier barrier;
        std::vector<CrowdPlan> plans;
        const net::Address site = net::Address::loopback(servers.front()->port());
        // Some reset their connections while they connect; with as many more, all are there at once at least.
        std::size_t left = visitors + resets - doomed * doomed_visitors;
        for (std::size_t index = 0; index < doomed; ++index) {
            plans.push_back({site, doomed_visitors, 0, chance.next(), chance.between(1, doomed_visitors * 12)});
        }
        for (std::size_t parts = 2; parts > 0; --parts) {
            plans.push_back({site, left / parts, resets / 2, chance.next(), 0});
            left -= left / parts;
        }
        std::vector<std::unique_ptr<test::Forked>> processes;
        for (const CrowdPlan& plan : plans) processes.push_back(start_visitors(plan, barrier));
        for (const auto& process : processes) {
            REQUIRE_MESSAGE(process->wait_for("connected\n"), process->output());
        }

        std::size_t most = 0;
        CHECK(eventually([&] {
            most = std::max(most, connections());
            return most >= visitors;
        }));
        std::size_t resident_kib = 0;
        for (const auto& server : servers) resident_kib += server->now().resident_kib;
        std::printf("%zu connections at once, %zu KiB resident in %zu server processes\n", most, resident_kib, sites);

        barrier.open();
        std::size_t killed = 0;
        for (std::size_t index = 0; index < processes.size(); ++index) {
            const int status = processes[index]->wait();
            INFO(processes[index]->output());
            CHECK(status == (plans[index].events_to_live > 0 ? -SIGKILL : 0));
            if (status == -SIGKILL) ++killed;
            if (status == 0) {
                std::size_t answers = 0;
                std::size_t resets_made = 0;
                const std::string& words = processes[index]->output();
                std::sscanf(words.c_str() + words.find('\n') + 1, "%zu answers, %zu resets", &answers, &resets_made);
                CHECK(resets_made == plans[index].resets);
                CHECK(answers >= 2 * (plans[index].visitors - plans[index].resets));
            }
        }
        CHECK(killed == doomed);

        CHECK(eventually([&] { return connections() == 0; }));
        for (std::size_t index = 0; index < sites; ++index) {
            std::string held;
            CHECK_MESSAGE(eventually([&] {
                              held = servers[index]->now().held;
                              return held == at_rest[index];
                          }),
                          "it held ", at_rest[index], ", and now ", held);
        }

        // And it still answers.
        for (int again = 0; again < 32; ++again) {
            const CrowdReport report = visit({site, 1, 0, chance.next(), 0}, [] {});
            CHECK(report.answers == 2);
            CHECK_MESSAGE(report.faults == 0, report.first_fault);
        }
        for (const auto& server : servers) {
            const int status = server->stop();
            CHECK_MESSAGE(status == 0, server->output());
        }
    }
}
