#include "soak.hpp"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>

#include <steps.hpp>

#include "failing_memory.hpp"

// Soak: mixed load on one executor for as long as is asked for.
//
//     torc-soak [MINUTES]        (10; fractions are allowed; TORC_SEED repeats the choices, TORC_DRIVER as ever)
//
// Theory of operation. Sites and visitors are tasks of one executor. Ten times in all, or every minute if that is more
// often, the visitors finish what they are at and wait; when the sites have no connection left, what the process then
// holds is compared with what it held before the first visitor came. The rules of the verdict:
//
//   descriptors, operations in flight, frames, buffers, timers, closes: at each of these rests exactly as before
//   resident memory: at the rests of the last third never more than 2% or 1 MiB, whichever is more, above the highest
//                    of the middle third; the first third is for the process to grow into its work. In less than a
//                    minute it does not, so that 4 MiB are allowed; sanitizers keep what is freed, and no rule is left
//   visitors: nothing happened that should not have, and every kind of deed was done

namespace {

using namespace torc;
using namespace torc::load;
using namespace std::chrono_literals;

constexpr std::size_t visitors = 32;
constexpr std::size_t least_rests = 10;
constexpr std::size_t kinds_of_deeds = 14;

struct Held {
    std::size_t files = 0;
    Statistics counted;

    static Held now() {
        Held held;
        held.counted = Executor::here().statistics();
        for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++held.files;
        return held;
    }
    [[nodiscard]] bool same_as(const Held& other) const {
        const Statistics& a = counted;
        const Statistics& b = other.counted;
        return files == other.files && a.in_flight == b.in_flight && a.open_descriptors == b.open_descriptors &&
               a.frames == b.frames && a.buffers_lent == b.buffers_lent && a.timers == b.timers &&
               a.open_closes == b.open_closes;
    }
    [[nodiscard]] std::string words() const {
        return fmt::format("{} descriptors, {} operations, {} frames, {} buffers, {} timers, {} closes", files,
                           counted.in_flight, counted.frames, counted.buffers_lent, counted.timers,
                           counted.open_closes);
    }
};

double resident_mib() {
    std::ifstream file{"/proc/self/statm"};
    std::size_t all_pages = 0;
    std::size_t resident_pages = 0;
    file >> all_pages >> resident_pages;
    return static_cast<double>(resident_pages) * static_cast<double>(::sysconf(_SC_PAGESIZE)) / (1024.0 * 1024.0);
}

class Soak {
   public:
    Soak(double minutes, Chance chance) : minutes_(minutes), chance_(chance) {
        for (int index = 0; index < 50; ++index) {
            names_.set(fmt::format("n{}.soak.test", index), {.a = {"127.0.0.1"}, .ttl = 1});
        }
    }

    task<> run() {
        use_name_server(names_);
        SoakSites sites{world_};
        auto load = [&]() -> task<> {
            co_await with_scope([&](scope& here) -> task<> {
                co_await visit_and_rest(sites, here);
                here.cancel();
            });
            sites.stop();
        };
        co_await gather(sites.serve(), load());
    }

    /// Says what came of it. Returns the number of rules that were broken.
    int verdict() {
        judge(differing_ == 0, fmt::format("at rest it held what it held before: {} ({} of {} times)", before_.words(),
                                           resident_.size() - differing_, resident_.size()));
        const bool flat = memory_is_flat();
        if (can_limit_address_space()) judge(flat, memory_words_);
        judge(deeds_.faults == 0, deeds_.faults == 0
                                      ? "nothing happened that should not have"
                                      : fmt::format("{} faults, the first: {}", deeds_.faults, deeds_.first_fault));
        judge(deeds_.done.size() == kinds_of_deeds, fmt::format("{} of {} kinds of deeds were done, {} deeds in all",
                                                                deeds_.done.size(), kinds_of_deeds, deeds_.all()));
        fmt::print("{} passed, {} failed, {} skipped\n", passed_, failed_, can_limit_address_space() ? 0 : 1);
        return failed_;
    }

   private:
    task<> visit_and_rest(const SoakSites& sites, scope& here) {
        for (std::size_t index = 0; index < visitors; ++index) here.spawn(visit(sites, chance_.next()));
        co_await test::turns(20);  // until everybody waits: the sites for visitors, the visitors to be let in
        before_ = Held::now();
        fmt::print("before: {:.1f} MiB resident, {}\n", resident_mib(), before_.words());
        std::fflush(stdout);
        const auto whole = std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>{minutes_ * 60});
        const Clock::duration interval = std::min<Clock::duration>(whole / least_rests, 1min);
        const auto rests = static_cast<std::size_t>(whole / interval);
        for (std::size_t rest = 1; rest <= rests; ++rest) {
            open_.set();
            co_await sleep_for(interval);
            const Held busy = Held::now();
            const double busy_mib = resident_mib();
            open_.reset();
            co_await all_wait_.wait();
            // The sites' side of the last connections ends a little later. (Waited for here: the frame of another task
            // would count among those that are held.)
            const Clock::time_point deadline = Clock::now() + (differing_ == 0 ? 30s : 1s);
            Held held = Held::now();
            while ((sites.connections() > 0 || !held.same_as(before_)) && Clock::now() < deadline) {
                co_await sleep_for(5ms);
                held = Held::now();
            }
            resident_.push_back(resident_mib());
            if (!held.same_as(before_)) ++differing_;
            fmt::print(
                "{:5.1f} min, {} deeds, {} MiB moved\n  busy:    {:.1f} MiB resident, {}\n"
                "  at rest: {:.1f} MiB resident, {}\n",
                static_cast<double>(rest) * std::chrono::duration<double>(interval).count() / 60, deeds_.all(),
                deeds_.bytes >> 20, busy_mib, busy.words(), resident_.back(), held.words());
            std::fflush(stdout);
        }
    }

    task<> visit(const SoakSites& sites, std::uint64_t seed) {
        SoakVisitor visitor{sites, world_, deeds_, seed};
        for (;;) {
            if (++waiting_ == visitors) all_wait_.set();
            co_await open_.wait();
            --waiting_;
            all_wait_.reset();
            co_await visitor.act();
        }
    }

    bool memory_is_flat() {
        const std::size_t third = resident_.size() / 3;
        const auto highest = [this](std::size_t from, std::size_t to) {
            return *std::max_element(resident_.begin() + static_cast<std::ptrdiff_t>(from),
                                     resident_.begin() + static_cast<std::ptrdiff_t>(to));
        };
        const double middle = highest(third, resident_.size() - third);
        const double last = highest(resident_.size() - third, resident_.size());
        const double allowed = middle + std::max(minutes_ < 1 ? 4.0 : 1.0, middle * 0.02);
        memory_words_ = fmt::format(
            "resident memory at rest: at most {:.1f} MiB in the middle third, {:.1f} MiB in the last "
            "(allowed {:.1f})",
            middle, last, allowed);
        return last <= allowed;
    }

    void judge(bool good, const std::string& words) {
        ++(good ? passed_ : failed_);
        fmt::print("{}: {}\n", good ? "passed" : "FAILED", words);
    }

    double minutes_;
    Chance chance_;
    testing::CertificateWorld world_;
    test::DnsServer names_;
    Deeds deeds_;
    event open_;
    event all_wait_;
    std::size_t waiting_ = 0;
    Held before_;
    std::vector<double> resident_;  // MiB, at each rest
    std::size_t differing_ = 0;
    std::string memory_words_;
    int passed_ = 0;
    int failed_ = 0;
};

}  // namespace

int main(int count, char** arguments) {
    double minutes = 10;
    if (count > 1) {
        const char* const end = arguments[1] + std::strlen(arguments[1]);
        const auto [read_to, error] = std::from_chars(arguments[1], end, minutes);
        if (count > 2 || error != std::errc{} || read_to != end || !(minutes > 0 && minutes <= 24 * 60)) {
            fmt::print(stderr, "torc-soak takes a number of minutes, up to a day\n");
            return 2;
        }
    }
    allow_all_descriptors();
    Soak soak{minutes, Chance::announced("soak")};
    if (const int status = torc::run(soak.run()); status != 0) return status;
    return soak.verdict() == 0 ? 0 : 1;
}
