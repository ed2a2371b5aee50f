#include <doctest/doctest.h>

#include <zlib.h>
#include <zstd.h>

#include <random>
#include <string>
#include <string_view>
#include <vector>

#include <torc/http/coding.hpp>

// Goal: every coding gives back what went in, wherever the input is cut and however little room there is; what is
// damaged, cut short, followed by more, or grows too much is its own error.

using namespace torc::http;

namespace {

std::string zlib_encode(std::string_view body, int window_bits) {
    z_stream z{};
    REQUIRE(deflateInit2(&z, 9, Z_DEFLATED, window_bits, 8, Z_DEFAULT_STRATEGY) == Z_OK);
    std::string out(deflateBound(&z, body.size()), '\0');
    z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(body.data()));
    z.avail_in = static_cast<uInt>(body.size());
    z.next_out = reinterpret_cast<Bytef*>(out.data());
    z.avail_out = static_cast<uInt>(out.size());
    REQUIRE(deflate(&z, Z_FINISH) == Z_STREAM_END);
    out.resize(z.total_out);
    deflateEnd(&z);
    return out;
}

std::string zstd_encode(std::string_view body) {
    std::string out(ZSTD_compressBound(body.size()), '\0');
    out.resize(ZSTD_compress(out.data(), out.size(), body.data(), body.size(), 3));
    return out;
}

// Brotli without its encoder: a stream of uncompressed meta-blocks (RFC 7932, 9.2), WBITS 16.
std::string brotli_encode(std::string_view body) {
    std::string out;
    unsigned bits = 0;
    unsigned count = 0;
    const auto put = [&](unsigned value, unsigned size) {
        for (unsigned i = 0; i < size; ++i) {
            bits |= (value >> i & 1U) << count;
            if (++count == 8) {
                out += static_cast<char>(bits);
                bits = 0;
                count = 0;
            }
        }
    };
    put(0, 1);
    while (!body.empty()) {
        const std::size_t size = std::min<std::size_t>(body.size(), 65536);
        put(0, 1);  // not the last
        put(0, 2);  // four nibbles of length
        put(static_cast<unsigned>(size - 1), 16);
        put(1, 1);  // uncompressed
        if (count != 0) put(0, 8 - count);
        out.append(body.substr(0, size));
        body.remove_prefix(size);
    }
    put(3, 2);  // last, empty
    if (count != 0) put(0, 8 - count);
    return out;
}

struct Coded {
    std::string_view name;
    std::string bytes;
};

std::vector<Coded> every_coding(std::string_view body) {
    return {
        {"gzip", gzip_encode(body)},
        {"x-gzip", gzip_encode(body)},
        {"deflate", zlib_encode(body, 15)},
        {"deflate", zlib_encode(body, -15)},
        {"zstd", zstd_encode(body)},
        {"br", brotli_encode(body)},
        {"identity", std::string{body}},
        {"", std::string{body}},
        {"deflate, gzip", gzip_encode(zlib_encode(body, 15))},
        {"gzip, br, zstd", zstd_encode(brotli_encode(gzip_encode(body)))},
    };
}

// Everything that comes out of `pieces`, with `room` bytes of room each time, or the error.
std::string decode(std::string_view codings, const std::vector<std::string_view>& pieces, std::size_t room,
                   const Limits& limits = {}) {
    auto decoder = Decoder::create(codings, limits);
    if (!decoder) return "error: " + std::string{decoder.error().message()};
    std::string text;
    std::vector<std::byte> out(room);
    const auto push = [&](std::string_view piece) -> std::string {
        auto in = std::as_bytes(std::span{piece});
        while (true) {
            const auto step = decoder->decode(in, out);
            if (!step) return "error: " + std::string{step.error().message()};
            CHECK(step->produced_bytes <= room);
            if (step->consumed_bytes == 0 && step->produced_bytes == 0) {
                CHECK(in.empty());
                return {};
            }
            in = in.subspan(step->consumed_bytes);
            text.append(reinterpret_cast<const char*>(out.data()), step->produced_bytes);
        }
    };
    for (const std::string_view piece : pieces) {
        if (std::string error = push(piece); !error.empty()) return error;
    }
    if (const auto whole = decoder->finish(); !whole) return "error: " + std::string{whole.error().message()};
    return text;
}

std::string decode(std::string_view codings, std::string_view bytes, const Limits& limits = {}) {
    return decode(codings, std::vector{bytes}, 4096, limits);
}

std::string sample(std::size_t size) {
    std::mt19937 random{7};
    std::string text;
    while (text.size() < size) text += std::string(random() % 9 + 1, static_cast<char>('a' + random() % 20));
    text.resize(size);
    return text;
}

}  // namespace

TEST_SUITE("coding") {
    TEST_CASE("gives back what went in") {
        for (const std::size_t size : {0, 1, 100, 70000, 300000}) {
            const std::string body = sample(size);
            for (const Coded& coded : every_coding(body)) {
                CAPTURE(coded.name);
                CHECK(decode(coded.name, coded.bytes) == body);
                const auto whole = decode_all(coded.name, coded.bytes);
                REQUIRE(whole);
                CHECK(*whole == body);
            }
        }
    }

    TEST_CASE("cuts in the input and lack of room change nothing") {
        const std::string body = sample(700);
        for (const Coded& coded : every_coding(body)) {
            CAPTURE(coded.name);
            const std::string_view bytes = coded.bytes;
            std::vector<std::string_view> single;
            for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
                single.push_back(bytes.substr(cut, 1));
                CHECK(decode(coded.name, {bytes.substr(0, cut), bytes.substr(cut)}, 64) == body);
            }
            CHECK(decode(coded.name, single, 1) == body);
            CHECK(decode(coded.name, {bytes}, 1) == body);
        }
    }

    TEST_CASE("a body that is cut short is an error, at every length") {
        const std::string body = sample(300);
        for (const Coded& coded : every_coding(body)) {
            if (coded.name.empty() || coded.name == "identity") continue;
            CAPTURE(coded.name);
            for (std::size_t size = 1; size < coded.bytes.size(); ++size) {
                const std::string outcome = decode(coded.name, std::string_view{coded.bytes}.substr(0, size));
                CHECK_MESSAGE(outcome.ends_with("body is cut short"), outcome);
            }
            CHECK(decode(coded.name, "") == "");
        }
    }

    TEST_CASE("a body followed by more bytes is an error") {
        for (const Coded& coded : every_coding("hello")) {
            if (coded.name.empty() || coded.name == "identity" || coded.name.find(',') != std::string_view::npos)
                continue;
            CAPTURE(coded.name);
            const std::string outcome = decode(coded.name, coded.bytes + "more");
            CHECK_MESSAGE(outcome.ends_with("is followed by more bytes"), outcome);
            const std::string apart = decode(coded.name, {coded.bytes, "more"}, 64);
            CHECK_MESSAGE(apart.ends_with("is followed by more bytes"), apart);
        }
    }

    TEST_CASE("a damaged body is an error") {
        CHECK(decode("gzip", "this is not gzip") == "error: the gzip body is damaged");
        CHECK(decode("deflate", "\x78\x9c\xff\xff\xff") == "error: the deflate body is damaged");
        CHECK(decode("zstd", "this is not zstd") == "error: the zstd body is damaged");
        CHECK(decode("br", "\xff\xff\xff\xff") == "error: the br body is damaged");
        std::string gzip = gzip_encode(sample(1000));
        gzip[gzip.size() - 6] = static_cast<char>(gzip[gzip.size() - 6] ^ 1);
        CHECK(decode("gzip", gzip) == "error: the gzip body is damaged");
    }

    TEST_CASE("a frame of a zstd before RFC 8878 is damaged, a skippable one is nothing") {
        for (const char version : {'\x22', '\x23', '\x24', '\x25', '\x26', '\x27'}) {
            const std::string body = version + std::string{"\xb5\x2f\xfd\x00\x52\x00\x00\x00", 8};
            CAPTURE(static_cast<int>(version));
            CHECK(decode("zstd", body) == "error: the zstd body is damaged");
            const std::string_view whole = body;
            std::vector<std::string_view> bytes;
            for (std::size_t at = 0; at < whole.size(); ++at) bytes.push_back(whole.substr(at, 1));
            CHECK(decode("zstd", bytes, 4096) == "error: the zstd body is damaged");
        }
        const std::string skippable{"\x5f\x2a\x4d\x18\x02\x00\x00\x00??", 10};
        CHECK(decode("zstd", zstd_encode("hello ") + skippable + zstd_encode("world")) == "hello world");
        CHECK(decode("zstd", zstd_encode("hello") + "more") == "error: the zstd body is followed by more bytes");
    }

    TEST_CASE("several gzip members and zstd frames are one body") {
        CHECK(decode("gzip", gzip_encode("hello ") + gzip_encode("") + gzip_encode("world")) == "hello world");
        CHECK(decode("zstd", zstd_encode("hello ") + zstd_encode("world")) == "hello world");
    }

    TEST_CASE("codings that are unknown or too many are refused") {
        CHECK(decode("compress", "x") == "error: the content coding \"compress\" is not known");
        CHECK(decode("gzip, gzip, gzip, gzip, gzip", "") == "error: there are more than 4 content codings");
        CHECK(decode(" , identity ,", "x") == "x");
        CHECK(Decoder::create(Headers{{"Content-Encoding", "gzip"}, {"content-encoding", "BR"}}));
        const auto two = Decoder::create(Headers{{"Content-Encoding", "gzip"}, {"content-encoding", "lzma"}});
        REQUIRE_FALSE(two);
        CHECK(two.error().code() == errc::bad_coding);
        CHECK(Decoder::create(Headers{})->identity());
        CHECK_FALSE(Decoder::create("gzip")->identity());
    }

    TEST_CASE("a body that expands beyond reason is stopped on the way") {
        Limits limits;
        limits.expansion_floor_bytes = 100'000;
        limits.max_expansion_ratio = 100;
        const std::string zeros(1'000'000, '\0');
        for (const Coded& coded : every_coding(zeros)) {
            if (coded.name != "gzip" && coded.name != "deflate" && coded.name != "zstd") continue;
            CAPTURE(coded.name);
            CHECK(decode(coded.name, coded.bytes, limits) ==
                  "error: the compressed body expands to more than 100 times its size");
        }
        CHECK(decode("gzip", gzip_encode(zeros.substr(0, 90'000)), limits) == zeros.substr(0, 90'000));
        limits.max_expansion_ratio = 0;
        CHECK(decode("gzip", gzip_encode(zeros), limits) == zeros);
    }

    TEST_CASE("a body that expands inside, and not outside, is stopped as well") {
        Limits limits;
        limits.max_body_bytes = 100'000;
        const std::string bomb = gzip_encode(std::string(3'000'000, '\0'));
        std::string nothing;
        for (int i = 0; i < 20'000; ++i) nothing += gzip_encode("");
        CHECK(decode("gzip", nothing, limits) == "");
        const std::string inside = gzip_encode(nothing);
        CHECK(decode("gzip, gzip", inside, limits) == "error: the decoded body is larger than 100000 bytes");
        CHECK(decode_all("gzip", bomb, limits).error().code() == errc::body_too_large);
    }

    TEST_CASE("the first error stays") {
        auto decoder = Decoder::create("gzip");
        REQUIRE(decoder);
        std::vector<std::byte> out(10);
        const std::string_view junk = "junk";
        CHECK_FALSE(decoder->decode(std::as_bytes(std::span{junk}), out));
        CHECK_FALSE(decoder->decode({}, out));
        CHECK_FALSE(decoder->finish());
    }
}
