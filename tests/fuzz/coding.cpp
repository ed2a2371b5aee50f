#include <torc/http/coding.hpp>

#include <brotli/encode.h>
#include <zlib.h>
#include <zstd.h>

#include <array>

#include "fuzz.hpp"

// Theory of operation. Six bytes say which codings, whether what follows is a coded body or one that is to be coded
// here (and where to damage it then), which limits, how much room there is for what comes out, and where the input is
// cut.
//
// Required: what is coded comes back; whatever the input, it is accepted in pieces if it is accepted whole, and gives
// the same body; the limits hold after every step; an error is HTTP's own and stays. One thing may depend on the
// pieces: whether a body is found to expand too much, as that is judged while it grows.

namespace torc::fuzz {
namespace {

using http::Decoder;
using http::Limits;

constexpr std::array<std::string_view, 8> chains = {
    "gzip", "deflate", "br", "zstd", "deflate, gzip", "gzip, br, zstd", "identity", "zstd, X-GZip",
};

std::string deflate_encode(std::string_view body, int window_bits) {
    z_stream zlib{};
    require(deflateInit2(&zlib, 6, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY) == Z_OK, "zlib begins");
    std::string out(deflateBound(&zlib, body.size()), '\0');
    zlib.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(body.data()));
    zlib.avail_in = static_cast<uInt>(body.size());
    zlib.next_out = reinterpret_cast<Bytef*>(out.data());
    zlib.avail_out = static_cast<uInt>(out.size());
    require(deflate(&zlib, Z_FINISH) == Z_STREAM_END, "zlib ends");
    out.resize(zlib.total_out);
    deflateEnd(&zlib);
    return out;
}

std::string brotli_encode(std::string_view body) {
    std::size_t size = BrotliEncoderMaxCompressedSize(body.size()) + 16;
    std::string out(size, '\0');
    require(BrotliEncoderCompress(2, 16, BROTLI_MODE_GENERIC, body.size(),
                                  reinterpret_cast<const std::uint8_t*>(body.data()), &size,
                                  reinterpret_cast<std::uint8_t*>(out.data())) == BROTLI_TRUE,
            "brotli encodes");
    out.resize(size);
    return out;
}

std::string zstd_encode(std::string_view body) {
    std::string out(ZSTD_compressBound(body.size()), '\0');
    out.resize(ZSTD_compress(out.data(), out.size(), body.data(), body.size(), 1));
    return out;
}

/// Applies the codings in the order in which they are listed. Raw deflate and zlib's wrapping take turns.
std::string encode(std::string_view codings, std::string body) {
    while (!codings.empty()) {
        const std::string_view coding = codings.substr(0, codings.find(','));
        codings.remove_prefix(std::min(coding.size() + 2, codings.size()));
        if (coding == "gzip" || coding == "X-GZip") body = http::gzip_encode(body);
        if (coding == "deflate") body = deflate_encode(body, body.size() % 2 == 0 ? 15 : -15);
        if (coding == "br") body = brotli_encode(body);
        if (coding == "zstd") body = zstd_encode(body);
    }
    return body;
}

Limits limits_of(bool small) {
    Limits limits;
    limits.max_body_bytes = small ? 400 : 128 * 1024;
    limits.expansion_floor_bytes = small ? 200 : 32 * 1024;
    limits.max_expansion_ratio = small ? 3 : 100;
    return limits;
}

struct Decoded {
    bool accepted = false;
    std::error_code code;
    std::string body;  ///< what came out before the end or the error
};

Decoded decode(std::string_view codings, const std::vector<std::string_view>& pieces, std::size_t room,
               const Limits& limits) {
    auto decoder = Decoder::create(codings, limits);
    require(decoder.has_value(), "the coding is known", codings);
    Decoded found;
    std::uint64_t used_bytes = 0;
    const auto fails = [&](const Error& error) {
        require(error.code().category() == http::http_category() && is_printable(error.message()),
                "an error is HTTP's own");
        std::byte nothing{};
        const auto more = decoder->decode({}, {&nothing, 1});
        require(!more && more.error().message() == error.message(), "an error stays");
        require(!decoder->finish(), "an error stays at the end");
        found.code = error.code();
        return found;
    };
    const auto out = std::make_unique<std::byte[]>(room);
    for (const std::string_view piece : pieces) {
        for (auto in = std::as_bytes(std::span{piece});;) {
            const auto step = decoder->decode(in, {out.get(), room});
            if (!step) return fails(step.error());
            require(step->consumed_bytes <= in.size() && step->produced_bytes <= room, "a step stays within its spans");
            if (step->consumed_bytes == 0 && step->produced_bytes == 0) {
                require(in.empty(), "a decoder that does nothing has taken all there was");
                break;
            }
            in = in.subspan(step->consumed_bytes);
            used_bytes += step->consumed_bytes;
            found.body.append(reinterpret_cast<const char*>(out.get()), step->produced_bytes);
            if (decoder->identity()) continue;
            require(found.body.size() <= limits.max_body_bytes, "a body is no larger than allowed");
            require(found.body.size() <= limits.expansion_floor_bytes ||
                        found.body.size() < limits.max_expansion_ratio * (used_bytes + 1),
                    "a body does not expand more than allowed");
        }
    }
    if (const auto end = decoder->finish(); !end) return fails(end.error());
    found.accepted = true;
    return found;
}

void require_alike(const Decoded& whole, const Decoded& pieces) {
    const auto expands = [](const Decoded& one) { return one.code == http::errc::expansion_too_large; };
    if (!expands(whole) && !expands(pieces)) {
        require(whole.accepted == pieces.accepted, "a body is accepted in pieces if it is accepted whole",
                whole.accepted ? pieces.code.message() : whole.code.message());
    }
    const std::size_t both = std::min(whole.body.size(), pieces.body.size());
    require(whole.body.compare(0, both, pieces.body, 0, both) == 0, "a body is the same whole and in pieces");
    if (whole.accepted && pieces.accepted)
        require(whole.body.size() == pieces.body.size(), "a body is as long in pieces");
}

void run(Input input) {
    const std::uint8_t flags = input.byte();
    const std::string_view codings = chains[flags & 7];
    const bool encodes = (flags & 8) != 0;
    const bool small = (flags & 64) != 0;
    const std::size_t room = (small ? 1 : 300) + input.byte();
    const std::string_view places = input.text(2);
    const std::uint8_t damage_at = input.byte();
    const std::uint8_t damage = input.byte();
    const std::string given{input.rest()};

    std::string coded = encodes ? encode(codings, given) : given;
    const bool damaged = encodes && damage_at != 0 && damage != 0 && !coded.empty();
    if (damaged) {
        char& byte = coded[(damage_at * coded.size()) >> 8];
        byte = static_cast<char>(byte ^ damage);
    }
    const Limits limits = limits_of(small);
    const Decoded whole = decode(codings, {coded}, std::size_t{256} * 1024, limits);
    require_alike(whole, decode(codings, Pieces::cut(coded, places_in(coded.size(), places)).views(), room, limits));
    require_alike(whole, decode(codings, Pieces::of_size(coded, 1 + coded.size() / 2000).views(), room, limits));

    const auto at_once = http::decode_all(codings, coded, limits);
    if (at_once && whole.accepted) require_same(*at_once, whole.body, "a body is the same decoded at once");
    if (encodes && !damaged && given.size() <= limits.expansion_floor_bytes) {
        require(whole.accepted && at_once.has_value(), "what was coded is accepted", whole.code.message());
        require_same(given, whole.body, "what was coded comes back");
    }
}

}  // namespace
}  // namespace torc::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    torc::fuzz::run({data, size});
    return 0;
}
