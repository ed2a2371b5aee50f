#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include <torc/http/error.hpp>
#include <torc/http/headers.hpp>
#include <torc/http/limits.hpp>

namespace torc::http {

/// What a client says it understands.
inline constexpr std::string_view accept_encoding = "gzip, deflate, br, zstd";

/// Undoes the content codings of a body as it streams by: gzip, deflate (with and without its zlib wrapping), br, zstd,
/// and several of them on top of each other. Keeps no more than its windows and a few KiB per coding.
/// Errors: `bad_coding` for a coding that is unknown, damaged, cut short, or followed by more bytes;
///         `expansion_too_large` and `body_too_large` for what grows beyond the limits. The first error stays.
///         std::bad_alloc, which is an end like the others.
class Decoder {
   public:
    struct Step {
        std::size_t consumed_bytes = 0;
        std::size_t produced_bytes = 0;
    };

    /// For what all Content-Encoding headers together say; "identity" and nothing at all make a decoder that copies.
    static result<Decoder> create(const Headers& headers, const Limits& limits = {});
    static result<Decoder> create(std::string_view codings, const Limits& limits = {});

    ~Decoder();
    Decoder(Decoder&&) noexcept;
    Decoder& operator=(Decoder&&) noexcept;

    /// True if there is nothing to undo; the body may then be used as it is.
    [[nodiscard]] bool identity() const noexcept;

    /// Decodes from `in` into `out`, both as far as they go. Call it with the same input, less what was consumed, and
    /// with an empty one, until it neither consumes nor produces anything; then it needs more input.
    /// Shape: `out` is not empty.
    result<Step> decode(std::span<const std::byte> in, std::span<std::byte> out);

    /// The body has ended, everything was consumed and the last `decode` produced nothing.
    result<void> finish();

   private:
    struct State;
    explicit Decoder(std::unique_ptr<State> state);
    std::unique_ptr<State> state_;
};

/// Decodes a whole body at once. Errors: as `Decoder`.
result<std::string> decode_all(std::string_view codings, std::string_view body, const Limits& limits = {});

/// Compresses a whole body, for servers whose clients accept gzip.
std::string gzip_encode(std::string_view body);

}  // namespace torc::http
