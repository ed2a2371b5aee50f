#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>

namespace bench {

/// A histogram of durations: 128 buckets for each power of two, so that what it tells is at most 0.8 % too long.
/// Shape:    `percentile` gives the top of the bucket that holds the value of that rank; 0 of nothing.
/// Lifetime: allocates nothing; about 30 KB, so not for the stack of many.
class Latency {
   public:
    void add(std::uint64_t ns) noexcept {
        ++counts_[bucket_of(ns)];
        ++total_;
    }

    void clear() noexcept {
        counts_.fill(0);
        total_ = 0;
    }

    [[nodiscard]] std::uint64_t count() const noexcept { return total_; }

    /// `percent` in (0, 100].
    [[nodiscard]] std::uint64_t percentile(double percent) const noexcept {
        if (total_ == 0) return 0;
        const auto rank = static_cast<std::uint64_t>(std::ceil(static_cast<double>(total_) * percent / 100));
        std::uint64_t seen = 0;
        std::size_t bucket = 0;
        for (; bucket < buckets - 1; ++bucket) {
            seen += counts_[bucket];
            if (seen >= std::max<std::uint64_t>(rank, 1)) break;
        }
        return top_of(bucket);
    }

   private:
    // Values below 2^(fine_bits + 1) have a bucket each. Above, a bucket is the value's highest bit and the fine_bits
    // behind it. The last power of two ends at 2^36 ns, more than a minute; what is longer counts as that.
    static constexpr unsigned fine_bits = 7;
    static constexpr unsigned last_power = 35;
    static constexpr std::size_t buckets = (last_power - fine_bits + 2) << fine_bits;

    static std::size_t bucket_of(std::uint64_t ns) noexcept {
        const auto power = static_cast<unsigned>(std::bit_width(ns | 1)) - 1;
        if (power > last_power) return buckets - 1;
        const unsigned shift = power > fine_bits ? power - fine_bits : 0;
        return (std::size_t{shift} << fine_bits) + (ns >> shift);
    }

    static std::uint64_t top_of(std::size_t bucket) noexcept {
        const std::size_t group = bucket >> fine_bits;
        const unsigned shift = group > 1 ? static_cast<unsigned>(group - 1) : 0;
        const std::uint64_t low = (bucket - (std::size_t{shift} << fine_bits)) << shift;
        return low + (std::uint64_t{1} << shift) - 1;
    }

    std::array<std::uint64_t, buckets> counts_{};
    std::uint64_t total_ = 0;
};

}  // namespace bench
