#pragma once

#include <chrono>
#include <cinttypes>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <optional>
#include <string_view>

#include "latency.hpp"

/// What the harness and its contestants say to each other on standard input and output.
namespace bench {

inline std::uint64_t now_ns() noexcept {
    return static_cast<std::uint64_t>(std::chrono::steady_clock::now().time_since_epoch() /
                                      std::chrono::nanoseconds{1});
}

/// Wrong use and what can not be measured ends a contestant at once; the harness shows the sentence.
[[noreturn]] inline void die(std::string_view what) {
    std::fprintf(stderr, "%.*s\n", static_cast<int>(what.size()), what.data());
    std::exit(2);
}

/// One line of a client's standard input: so much work, so much of it at the same time.
struct Order {
    std::uint64_t count = 0;
    std::size_t at_once = 0;
};

/// The next order; nothing at the end of the input.
inline std::optional<Order> next_order() {
    char line[128];
    if (std::fgets(line, sizeof line, stdin) == nullptr) return std::nullopt;
    Order order;
    if (std::sscanf(line, "%" SCNu64 " %zu", &order.count, &order.at_once) != 2 || order.at_once == 0) {
        die("an order is COUNT AT-ONCE");
    }
    return order;
}

/// What became of an order, while it is carried out. Make it once and `begin` anew: it is large.
class Account {
   public:
    void begin() noexcept {
        *this = Account{};
        began_ns_ = now_ns();
    }

    /// A check that gave status 200 and a whole body of `body_bytes`.
    void good(std::uint64_t took_ns, std::uint64_t body_bytes) noexcept {
        ++checks_;
        bytes_ += body_bytes;
        latency_.add(took_ns);
    }

    /// One that did not. Its time says nothing about good ones, so it is not among the latencies.
    void bad() noexcept {
        ++checks_;
        ++failed_;
    }

    [[nodiscard]] std::uint64_t checks() const noexcept { return checks_; }

    /// The line the harness waits for.
    void report() const {
        std::printf("{\"checks\": %" PRIu64 ", \"failed\": %" PRIu64 ", \"bytes\": %" PRIu64 ", \"wall_ns\": %" PRIu64
                    ", \"p50_ns\": %" PRIu64 ", \"p99_ns\": %" PRIu64 ", \"p999_ns\": %" PRIu64 "}\n",
                    checks_, failed_, bytes_, now_ns() - began_ns_, latency_.percentile(50), latency_.percentile(99),
                    latency_.percentile(99.9));
        std::fflush(stdout);
    }

   private:
    std::uint64_t began_ns_ = 0;
    std::uint64_t checks_ = 0;
    std::uint64_t failed_ = 0;
    std::uint64_t bytes_ = 0;
    Latency latency_;
};

/// For servers: tells that connections are taken now, and where.
inline void say_listening(unsigned port) {
    std::printf("listening %u\n", port);
    std::fflush(stdout);
}

}  // namespace bench
