#include <brotli/encode.h>
#include <zlib.h>
#include <zstd.h>

#include <torc/http/coding.hpp>
#include <torc/http/session.hpp>

#include "memory_watch.hpp"
#include "session_site.hpp"

// Goal: a server that never stops sending, or sends what grows without end, ends in the error of the limit that is
// meant for it, and never makes a session hold more than a few buffers. Method: what is sent again and again, and
// compressed bodies that are small only as long as they are, while everything that the process allocates is counted.
// Server and session share the process, so the bounds are for both.

using namespace torc;
using namespace torc::testing;
using http::AsyncSession;
using http::Response;
using http::SessionOptions;
using test::memory_watch;

namespace {

constexpr std::size_t KiB = 1024;
constexpr std::size_t MiB = 1024 * KiB;

/// What a server may make both sides hold: a head at its limit, the half of it that it grew from, and a few buffers.
constexpr std::size_t bound_bytes = (64 + 32 + 64) * KiB;

const std::string ok = "HTTP/1.1 200 OK\r\n";
const std::string chunked = ok + "Transfer-Encoding: chunked\r\n\r\n";

std::string filled_with(std::string_view text) {
    std::string piece;
    while (piece.size() < 4 * KiB) piece += text;
    return piece;
}

/// How reading everything of "/row" ends, and what it takes.
struct Outcome {
    Error error{std::error_code{}};
    std::uint64_t body_bytes = 0;
};

task<Outcome> read_row(Site& site, SessionOptions options = {}) {
    Outcome outcome;
    AsyncSession session{site.url(), std::move(options)};
    auto read = [&]() -> task<> {
        Response& response = co_await session;
        while (true) {
            const std::span<const std::byte> piece = co_await response.read_some();
            if (piece.empty()) co_return;
            outcome.body_bytes += piece.size();
        }
    };
    const result<void> read_all = co_await as_result(read());
    if (!read_all) outcome.error = read_all.error();
    CHECK_FALSE(session.connected());
    // The next request is not the worse for it.
    Response& fresh = co_await session.get("/fresh");
    const std::string text = co_await fresh.text();
    CHECK(text == "fresh");
    co_return outcome;
}

/// The first use of anything allocates what is kept for later.
task<> warm_up(Site& site) {
    site.answer = ok + "Content-Length: 0\r\n\r\n";
    AsyncSession session{site.url()};
    Response& response = co_await session;
    CHECK(response.status() == 200);
}

struct Endless {
    std::string what;
    std::string start;  ///< sent once
    std::string piece;  ///< sent until the session has had enough
    http::errc code;
    phase where = phase::head;
};

std::vector<Endless> endless() {
    const std::string letters = filled_with("a");
    const std::string interim = "HTTP/1.1 100 Continue\r\nX: " + std::string(20 * KiB, 'y') + "\r\n\r\n";
    const std::string nothing("\0\0\0\xff\xff", 5);  // an empty block of deflate
    return {
        {"a reason", "HTTP/1.1 200 ", letters, http::errc::line_too_long},
        {"a name", ok, letters, http::errc::line_too_long},
        {"a value", ok + "X: ", letters, http::errc::line_too_long},
        {"short headers", ok, filled_with("X: y\r\n"), http::errc::too_many_headers},
        {"long headers", ok, "X: " + std::string(20 * KiB, 'y') + "\r\n", http::errc::head_too_large},
        {"blank lines", "", filled_with("\r\n"), http::errc::bad_message},
        {"short interim responses", "", filled_with("HTTP/1.1 100 Continue\r\n\r\n"), http::errc::too_many_interim},
        {"long interim responses", "", interim, http::errc::too_many_interim},
        {"a body of known length", ok + "Content-Length: 9000000000\r\n\r\n", letters, http::errc::body_too_large,
         phase::body},
        {"a body until the end of the connection", ok + "\r\n", letters, http::errc::body_too_large, phase::body},
        {"zeros before the size of a chunk", chunked, filled_with("0"), http::errc::line_too_long, phase::body},
        {"a chunk's extension", chunked + "1;", letters, http::errc::line_too_long, phase::body},
        {"extensions of chunks", chunked, filled_with("1;extension=\"of a chunk\"\r\na\r\n"), http::errc::bad_framing,
         phase::body},
        {"a chunk", chunked + "7fffffff\r\n", letters, http::errc::body_too_large, phase::body},
        {"chunks of one byte", chunked, filled_with("1\r\na\r\n"), http::errc::body_too_large, phase::body},
        {"a trailer", chunked + "0\r\nX: ", letters, http::errc::trailers_too_large, phase::body},
        {"short trailers", chunked + "0\r\n", filled_with("X: y\r\n"), http::errc::too_many_headers, phase::body},
        {"long trailers", chunked + "0\r\n", "X: " + std::string(5 * KiB, 'y') + "\r\n", http::errc::trailers_too_large,
         phase::body},
        {"a compressed body that gives nothing", ok + "Content-Encoding: deflate\r\n\r\n\x78\x9c", filled_with(nothing),
         http::errc::body_too_large, phase::body},
        {"redirects", "HTTP/1.1 302 Found\r\nLocation: /row\r\nContent-Length: 0\r\n\r\n", "",
         http::errc::too_many_redirects},
        {"redirects whose bodies do not end",
         "HTTP/1.1 302 Found\r\nLocation: /row\r\nTransfer-Encoding: chunked\r\n\r\n", filled_with("1\r\na\r\n"),
         http::errc::too_many_redirects},
    };
}

// ---- bodies that are small only as long as they are compressed

constexpr std::size_t zeros_bytes = 64 * MiB;
const std::string& zeros() {
    static const std::string all(zeros_bytes, '\0');
    return all;
}

std::string deflated(std::string_view body) {
    z_stream z{};
    REQUIRE(deflateInit2(&z, 9, Z_DEFLATED, 15, 8, Z_DEFAULT_STRATEGY) == Z_OK);
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

std::string zstd(std::string_view body, int window_log) {
    ZSTD_CCtx* context = ZSTD_createCCtx();
    ZSTD_CCtx_setParameter(context, ZSTD_c_windowLog, window_log);
    ZSTD_CCtx_setParameter(context, ZSTD_c_contentSizeFlag, 0);
    std::string out(ZSTD_compressBound(body.size()), '\0');
    ZSTD_outBuffer to{out.data(), out.size(), 0};
    ZSTD_inBuffer from{body.data(), body.size(), 0};
    while (ZSTD_compressStream2(context, &to, &from, ZSTD_e_end) != 0) {
    }
    ZSTD_freeCCtx(context);
    out.resize(to.pos);
    return out;
}

std::string brotli(std::string_view body, int window_log) {
    std::string out(BrotliEncoderMaxCompressedSize(body.size()), '\0');
    std::size_t size = out.size();
    REQUIRE(BrotliEncoderCompress(5, window_log, BROTLI_MODE_GENERIC, body.size(),
                                  reinterpret_cast<const std::uint8_t*>(body.data()), &size,
                                  reinterpret_cast<std::uint8_t*>(out.data())) == BROTLI_TRUE);
    out.resize(size);
    return out;
}

struct Bomb {
    std::string codings;
    std::string body;
    std::size_t window_bytes;  ///< what the format lets a decoder keep
    http::errc code = http::errc::expansion_too_large;
};

std::vector<Bomb> bombs() {
    const std::string gzip = http::gzip_encode(zeros());
    const std::string br = brotli(zeros(), 24);
    const std::string zst = zstd(zeros(), 23);
    return {
        {"gzip", gzip, 32 * KiB},
        {"deflate", deflated(zeros()), 32 * KiB},
        {"br", br, 16 * MiB},
        {"zstd", zst, 8 * MiB},
        // A window that nobody needs to offer.
        {"zstd", zstd(zeros(), 27), 0, http::errc::bad_coding},
        {"gzip, gzip", http::gzip_encode(gzip), 64 * KiB},
        {"br, br", brotli(br, 24), 32 * MiB},
        {"zstd, zstd", zstd(zst, 23), 16 * MiB},
        {"gzip, deflate, br, zstd", zstd(brotli(deflated(gzip), 24), 23), 25 * MiB},
        {"gzip, gzip, gzip, gzip", http::gzip_encode(http::gzip_encode(http::gzip_encode(gzip))), 128 * KiB},
        {"gzip, gzip, gzip, gzip, gzip", "", 0, http::errc::bad_coding},
    };
}

}  // namespace

TEST_SUITE("session: greedy servers") {
    TEST_CASE("what never ends ends in the error of its limit, and little of it is kept") {
        const std::vector<Endless> table = endless();
        with_site([&](Site& site) -> task<> {
            co_await warm_up(site);
            for (const Endless& row : table) {
                CAPTURE(row.what);
                site.answer = row.start;
                site.piece = row.piece;
                SessionOptions options;
                options.limits.max_body_bytes = 64 * KiB;
                const memory_watch memory;
                const Outcome outcome = co_await read_row(site, options);
                CAPTURE(outcome.error.what());
                CHECK(outcome.error.code() == row.code);
                CHECK(outcome.error.where() == row.where);
                CHECK(outcome.error.peer() == site.url().substr(7, site.url().size() - 11));
                CHECK(outcome.body_bytes <= 64 * KiB);
                CHECK(memory.peak_bytes() < bound_bytes);
            }
        });
    }

    TEST_CASE("a redirect that wants a streamed body once more is an error, and one that does not is followed") {
        with_site([](Site& site) -> task<> {
            for (const int status : {307, 303}) {
                CAPTURE(status);
                site.answer = "HTTP/1.1 " + std::to_string(status) +
                              " Elsewhere\r\nLocation: /fresh\r\nContent-Length: 0\r\n\r\n";
                AsyncSession session{site.url()};
                http::Request request;
                request.method = "POST";
                request.stream.emplace();
                request.stream->length = 0;
                request.stream->next = []() -> task<std::span<const std::byte>> { co_return {}; };
                auto asking = session.request(std::move(request));
                const auto answered = co_await as_result(std::move(asking));
                REQUIRE(answered.has_value() == (status == 303));
                CHECK(session.connected() == answered.has_value());
                if (answered) {
                    const std::string text = co_await answered->get().text();
                    CHECK(text == "fresh");
                } else {
                    CHECK(answered.error().code() == http::errc::bad_redirect);
                    CHECK(std::string_view{answered.error().what()}.contains("streamed body can not be sent again"));
                }
            }
        });
    }

    TEST_CASE("a body that is asked for as text is not kept beyond the size asked for") {
        with_site([](Site& site) -> task<> {
            co_await warm_up(site);
            site.answer = ok + "\r\n";
            site.piece = filled_with("a");
            const memory_watch memory;
            AsyncSession session{site.url()};
            Response& response = co_await session;
            task<std::string> reading = response.text(100 * KiB);
            const result<std::string> text = co_await as_result(std::move(reading));
            REQUIRE_FALSE(text.has_value());
            CHECK(text.error().code() == http::errc::body_too_large);
            CHECK_FALSE(session.connected());
            CHECK(memory.peak_bytes() < (100 + 200) * KiB + bound_bytes);
        });
    }

    TEST_CASE("a compressed body that grows beyond reason is stopped on the way, in all codings and in each other") {
        const std::vector<Bomb> table = bombs();
        with_site([&](Site& site) -> task<> {
            co_await warm_up(site);
            for (const Bomb& bomb : table) {
                CAPTURE(bomb.codings);
                site.answer = ok + "Content-Encoding: " + bomb.codings +
                              "\r\nContent-Length: " + std::to_string(bomb.body.size()) + "\r\n\r\n" + bomb.body;
                const memory_watch memory;
                const Outcome outcome = co_await read_row(site);
                CAPTURE(outcome.error.what());
                CHECK(outcome.error.code() == bomb.code);
                CHECK(outcome.error.where() == phase::body);
                CHECK(outcome.body_bytes < zeros_bytes);
                // The site holds its answer twice while it sends it.
                CHECK(memory.peak_bytes() < bomb.window_bytes + 2 * bomb.body.size() + MiB);
            }
        });
    }

    TEST_CASE("what compresses well within reason is read") {
        const std::string_view some = std::string_view{zeros()}.substr(0, 8 * MiB);
        const std::vector<Bomb> table = {{"gzip", http::gzip_encode(some), 0},
                                         {"br", brotli(some, 22), 0},
                                         {"zstd", zstd(some, 23), 0},
                                         {"gzip, gzip", http::gzip_encode(http::gzip_encode(some)), 0}};
        with_site([&](Site& site) -> task<> {
            for (const Bomb& bomb : table) {
                CAPTURE(bomb.codings);
                site.answer = ok + "Connection: close\r\nContent-Encoding: " + bomb.codings +
                              "\r\nContent-Length: " + std::to_string(bomb.body.size()) + "\r\n\r\n" + bomb.body;
                const Outcome outcome = co_await read_row(site);
                CAPTURE(outcome.error.what());
                CHECK_FALSE(outcome.error.code());
                CHECK(outcome.body_bytes == some.size());
            }
        });
    }
}
