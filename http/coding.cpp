#include <torc/http/coding.hpp>

#include <brotli/decode.h>
#include <zlib.h>
#include <zstd.h>
#include <zstd_errors.h>

#include <array>
#include <new>
#include <optional>
#include <utility>
#include <vector>

#include "bytes.hpp"

// Theory of operation. Each coding is a stage that takes bytes and gives bytes and knows whether it stands at a proper
// end. Stages form a chain, the coding applied last being undone first; between two of them lies a small buffer. One
// call pushes as much as fits through the chain, from its end backwards, so that a stage runs only when what it made
// before has been taken: nothing piles up, however much a body expands.
//
// Bounds are looked at where they count: what leaves the chain against what entered it, and what leaves any stage
// against the body limit, for the expansion of an inner coding costs time even if nothing comes out.
//
// A stage that has reached its end accepts another member (gzip, RFC 1952) or frame (zstd, RFC 8878) and refuses
// everything else. Zstandard windows are bounded to 8 MiB (RFC 9659), those of the others by their formats.

namespace torc::http {
namespace {

constexpr std::size_t between_bytes = 16 * 1024;

struct Flow {
    std::span<const std::byte> in;
    std::span<std::byte> out;
    void consumed(std::size_t bytes) { in = in.subspan(bytes); }
    void produced(std::size_t bytes) { out = out.subspan(bytes); }
};

std::unexpected<Error> bad_coding(std::string words) { return fail(errc::bad_coding, phase::body, std::move(words)); }
std::unexpected<Error> damaged(std::string_view coding) {
    return bad_coding("the " + std::string{coding} + " body is damaged");
}
std::unexpected<Error> trailing(std::string_view coding) {
    return bad_coding("the " + std::string{coding} + " body is followed by more bytes");
}

class Stage {
   public:
    explicit Stage(std::string_view name) : name_(name) {}
    virtual ~Stage() = default;
    Stage(const Stage&) = delete;
    Stage& operator=(const Stage&) = delete;

    virtual result<void> run(Flow& flow) = 0;
    [[nodiscard]] bool at_end() const { return at_end_; }
    [[nodiscard]] std::string_view name() const { return name_; }

   protected:
    std::string_view name_;
    bool at_end_ = true;  // an empty body is an end, too: servers label them with codings
};

class Deflate final : public Stage {
   public:
    explicit Deflate(bool gzip) : Stage(gzip ? "gzip" : "deflate"), gzip_(gzip) {}
    ~Deflate() override {
        if (ready_) inflateEnd(&zlib_);
    }

    result<void> run(Flow& flow) override {
        while (true) {
            if (!ready_ && !open(flow)) return {};
            const bool held = start_used_ < start_size_;
            if (at_end_) {
                if (held) return trailing(name_);
                if (flow.in.empty()) return {};
                if (finished_once_) {
                    if (!gzip_ || flow.in[0] != std::byte{0x1f}) return trailing(name_);
                    inflateReset(&zlib_);
                }
                at_end_ = false;
            }
            const auto start = std::span<const std::byte>{start_}.first(start_size_).subspan(start_used_);
            Flow part{held ? start : flow.in, flow.out};
            const std::size_t in_before = part.in.size();
            const std::size_t out_before = part.out.size();
            if (auto good = inflate_some(part); !good) return good;
            const bool moved = part.in.size() != in_before || part.out.size() != out_before;
            flow.out = part.out;
            if (held) {
                start_used_ = start_size_ - part.in.size();
            } else {
                flow.in = part.in;
            }
            if (!at_end_ && !moved) return {};
        }
    }

   private:
    // "deflate" should be wrapped as zlib says (RFC 1950), and is raw from some servers: its first two bytes tell.
    bool open(Flow& flow) {
        if (flow.in.empty()) return false;
        at_end_ = false;
        int window_bits = 15 + 16;
        if (!gzip_) {
            while (start_size_ < start_.size() && !flow.in.empty()) {
                start_[start_size_++] = flow.in[0];
                flow.consumed(1);
            }
            if (start_size_ < start_.size()) return false;
            const auto first = std::to_integer<unsigned>(start_[0]);
            const auto second = std::to_integer<unsigned>(start_[1]);
            window_bits = (first & 15) == 8 && (first << 8 | second) % 31 == 0 ? 15 : -15;
        }
        if (inflateInit2(&zlib_, window_bits) != Z_OK) throw std::bad_alloc{};
        ready_ = true;
        return true;
    }

    result<void> inflate_some(Flow& flow) {
        constexpr std::size_t most = 1 << 30;
        const std::size_t in_size = std::min(flow.in.size(), most);
        const std::size_t out_size = std::min(flow.out.size(), most);
        zlib_.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(flow.in.data()));
        zlib_.avail_in = static_cast<uInt>(in_size);
        zlib_.next_out = reinterpret_cast<Bytef*>(flow.out.data());
        zlib_.avail_out = static_cast<uInt>(out_size);
        const int code = inflate(&zlib_, Z_NO_FLUSH);
        flow.consumed(in_size - zlib_.avail_in);
        flow.produced(out_size - zlib_.avail_out);
        if (code == Z_STREAM_END) {
            at_end_ = true;
            finished_once_ = true;
        } else if (code == Z_MEM_ERROR) {
            throw std::bad_alloc{};
        } else if (code != Z_OK && code != Z_BUF_ERROR) {
            return damaged(name_);
        }
        return {};
    }

    bool gzip_;
    bool ready_ = false;
    bool finished_once_ = false;
    std::array<std::byte, 2> start_{};
    std::size_t start_size_ = 0;
    std::size_t start_used_ = 0;
    z_stream zlib_{};
};

class Brotli final : public Stage {
   public:
    Brotli()
        : Stage("br"), brotli_(BrotliDecoderCreateInstance(nullptr, nullptr, nullptr), &BrotliDecoderDestroyInstance) {
        if (!brotli_) throw std::bad_alloc{};
    }

    result<void> run(Flow& flow) override {
        if (finished_) return flow.in.empty() ? result<void>{} : trailing(name_);
        if (!flow.in.empty()) at_end_ = false;
        std::size_t in_left = flow.in.size();
        std::size_t out_left = flow.out.size();
        const auto* next_in = reinterpret_cast<const std::uint8_t*>(flow.in.data());
        auto* next_out = reinterpret_cast<std::uint8_t*>(flow.out.data());
        const auto code =
            BrotliDecoderDecompressStream(brotli_.get(), &in_left, &next_in, &out_left, &next_out, nullptr);
        flow.consumed(flow.in.size() - in_left);
        flow.produced(flow.out.size() - out_left);
        if (code == BROTLI_DECODER_RESULT_ERROR) {
            const BrotliDecoderErrorCode why = BrotliDecoderGetErrorCode(brotli_.get());
            const bool no_memory =
                why <= BROTLI_DECODER_ERROR_ALLOC_CONTEXT_MODES && why >= BROTLI_DECODER_ERROR_ALLOC_BLOCK_TYPE_TREES;
            if (no_memory) throw std::bad_alloc{};
            return damaged(name_);
        }
        if (code == BROTLI_DECODER_RESULT_SUCCESS) {
            finished_ = true;
            at_end_ = true;
            if (!flow.in.empty()) return trailing(name_);
        }
        return {};
    }

   private:
    std::unique_ptr<BrotliDecoderState, decltype(&BrotliDecoderDestroyInstance)> brotli_;
    bool finished_ = false;
};

class Zstandard final : public Stage {
   public:
    Zstandard() : Stage("zstd"), zstd_(ZSTD_createDCtx(), &ZSTD_freeDCtx) {
        if (!zstd_) throw std::bad_alloc{};
        constexpr int window_log = 23;
        ZSTD_DCtx_setParameter(zstd_.get(), ZSTD_d_windowLogMax, window_log);
    }

    result<void> run(Flow& flow) override {
        // Without input and with nothing left to give it must not be called: it takes too many such calls for an error.
        while (!flow.in.empty() || holds_output_) {
            if (start_size_ < magic_bytes && !can_be_frame(flow.in)) return refuse();
            ZSTD_inBuffer in{flow.in.data(), flow.in.size(), 0};
            ZSTD_outBuffer out{flow.out.data(), flow.out.size(), 0};
            const std::size_t left = ZSTD_decompressStream(zstd_.get(), &out, &in);
            if (ZSTD_isError(left) != 0) {
                if (ZSTD_getErrorCode(left) == ZSTD_error_memory_allocation) throw std::bad_alloc{};
                return refuse();
            }
            note_start(flow.in.first(in.pos));
            frame_bytes_ += out.pos;
            flow.consumed(in.pos);
            flow.produced(out.pos);
            holds_output_ = out.pos == out.size;
            if (in.pos != 0 || out.pos != 0) at_end_ = left == 0;
            if (left == 0 && !end_frame()) return damaged(name_);
            if (flow.out.empty() || (in.pos == 0 && out.pos == 0)) return {};
        }
        return {};
    }

   private:
    static constexpr std::size_t magic_bytes = 4;

    [[nodiscard]] std::unexpected<Error> refuse() const {
        return finished_once_ && at_end_ ? trailing(name_) : damaged(name_);
    }

    // Whether what was taken of a frame and what comes next can be the beginning of one of RFC 8878. libzstd may also
    // read those of its own first versions, and not in pieces as it does whole.
    [[nodiscard]] bool can_be_frame(std::span<const std::byte> next) const {
        constexpr std::array<unsigned, magic_bytes> frame{0x28, 0xb5, 0x2f, 0xfd};
        constexpr std::array<unsigned, magic_bytes> skippable{0x50, 0x2a, 0x4d, 0x18};  // to 0x5f
        bool is_frame = true;
        bool is_skippable = true;
        for (std::size_t at = 0; at < std::min(magic_bytes, start_size_ + next.size()); ++at) {
            const auto byte = std::to_integer<unsigned>(at < start_size_ ? start_[at] : next[at - start_size_]);
            is_frame = is_frame && byte == frame[at];
            is_skippable = is_skippable && (at == 0 ? byte & 0xf0u : byte) == skippable[at];
        }
        return is_frame || is_skippable;
    }

    void note_start(std::span<const std::byte> taken) {
        const std::size_t size = std::min(taken.size(), start_.size() - start_size_);
        std::copy_n(taken.begin(), size, start_.begin() + static_cast<std::ptrdiff_t>(start_size_));
        start_size_ += size;
    }

    // False if the frame gave less than its header announces. In streams libzstd does not look when the last block is
    // empty; in a frame that it has as a whole, it does.
    bool end_frame() {
        const unsigned long long announced = ZSTD_getFrameContentSize(start_.data(), start_size_);
        const bool known = announced != ZSTD_CONTENTSIZE_UNKNOWN && announced != ZSTD_CONTENTSIZE_ERROR;
        const bool complete = !known || announced == frame_bytes_;
        finished_once_ = true;
        start_size_ = 0;
        frame_bytes_ = 0;
        return complete;
    }

    std::unique_ptr<ZSTD_DCtx, decltype(&ZSTD_freeDCtx)> zstd_;
    std::array<std::byte, 18> start_{};  // the longest header there is
    std::size_t start_size_ = 0;
    std::uint64_t frame_bytes_ = 0;
    bool finished_once_ = false;
    bool holds_output_ = false;
};

std::unique_ptr<Stage> make_stage(std::string_view coding) {
    if (equals_ignoring_case(coding, "gzip") || equals_ignoring_case(coding, "x-gzip"))
        return std::make_unique<Deflate>(true);
    if (equals_ignoring_case(coding, "deflate")) return std::make_unique<Deflate>(false);
    if (equals_ignoring_case(coding, "br")) return std::make_unique<Brotli>();
    if (equals_ignoring_case(coding, "zstd")) return std::make_unique<Zstandard>();
    return nullptr;
}

// A stage and what it made that the next one has not taken yet.
struct Link {
    std::unique_ptr<Stage> stage;
    std::vector<std::byte> made;
    std::size_t begin = 0;
    std::size_t end = 0;
    std::uint64_t total_bytes = 0;
};

}  // namespace

struct Decoder::State {
    explicit State(const Limits& bounds) : limits(bounds) {}

    result<void> check(std::uint64_t made) const {
        if (made > limits.max_body_bytes) {
            return fail(errc::body_too_large, phase::body,
                        "the decoded body is larger than " + std::to_string(limits.max_body_bytes) + " bytes");
        }
        const bool large = made > limits.expansion_floor_bytes && limits.max_expansion_ratio != 0;
        if (large && made / limits.max_expansion_ratio > in_bytes) {
            return fail(errc::expansion_too_large, phase::body,
                        "the compressed body expands to more than " + std::to_string(limits.max_expansion_ratio) +
                            " times its size");
        }
        return {};
    }

    result<Step> copy(std::span<const std::byte> in, std::span<std::byte> out) const {
        const std::size_t size = std::min(in.size(), out.size());
        std::copy_n(in.begin(), size, out.begin());
        return Step{size, size};
    }

    // One pass over the chain; true if anything moved.
    result<bool> pass(Flow& flow) {
        bool moved = false;
        for (std::size_t i = links.size(); i-- > 0;) {
            Link& link = links[i];
            const bool last = i + 1 == links.size();
            Link* before = i > 0 ? &links[i - 1] : nullptr;
            if (!last && link.begin != link.end) continue;
            Flow part;
            part.in = before
                          ? std::span<const std::byte>{before->made}.subspan(before->begin, before->end - before->begin)
                          : flow.in;
            part.out = last ? flow.out : std::span<std::byte>{link.made};
            const std::size_t in_size = part.in.size();
            const std::size_t out_size = part.out.size();
            if (out_size == 0) continue;
            const result<void> good = link.stage->run(part);
            const std::size_t taken = in_size - part.in.size();
            const std::size_t given = out_size - part.out.size();
            moved = moved || taken != 0 || given != 0;
            if (before) {
                before->begin += taken;
            } else {
                flow.consumed(taken);
                in_bytes += taken;
            }
            if (last) {
                flow.produced(given);
            } else {
                link.begin = 0;
                link.end = given;
            }
            link.total_bytes += given;
            if (!good) return std::unexpected{good.error()};
            if (auto fits = check(link.total_bytes); !fits) return std::unexpected{fits.error()};
        }
        return moved;
    }

    Limits limits;
    std::vector<Link> links;
    std::uint64_t in_bytes = 0;
    std::optional<Error> error;
};

Decoder::Decoder(std::unique_ptr<State> state) : state_(std::move(state)) {}
Decoder::~Decoder() = default;
Decoder::Decoder(Decoder&&) noexcept = default;
Decoder& Decoder::operator=(Decoder&&) noexcept = default;

result<Decoder> Decoder::create(const Headers& headers, const Limits& limits) {
    std::string codings;
    for (const auto& [name, value] : headers) {
        if (!equals_ignoring_case(name, "Content-Encoding")) continue;
        if (!codings.empty()) codings += ',';
        codings += value;
    }
    return create(codings, limits);
}

result<Decoder> Decoder::create(std::string_view codings, const Limits& limits) {
    auto state = std::make_unique<State>(limits);
    while (!codings.empty()) {
        const std::size_t comma = std::min(codings.find(','), codings.size());
        const std::string_view coding = trim_spaces(codings.substr(0, comma));
        codings.remove_prefix(std::min(comma + 1, codings.size()));
        if (coding.empty() || equals_ignoring_case(coding, "identity")) continue;
        if (state->links.size() == limits.max_codings) {
            return bad_coding("there are more than " + std::to_string(limits.max_codings) + " content codings");
        }
        std::unique_ptr<Stage> stage = make_stage(coding);
        if (!stage) return bad_coding("the content coding " + in_quotes(coding) + " is not known");
        state->links.insert(state->links.begin(), Link{std::move(stage), {}});
    }
    for (std::size_t i = 0; i + 1 < state->links.size(); ++i) state->links[i].made.resize(between_bytes);
    return Decoder{std::move(state)};
}

bool Decoder::identity() const noexcept { return state_->links.empty(); }

result<Decoder::Step> Decoder::decode(std::span<const std::byte> in, std::span<std::byte> out) {
    if (state_->error) return std::unexpected{*state_->error};
    if (identity()) return state_->copy(in, out);
    Flow flow{in, out};
    try {
        while (!flow.out.empty()) {
            const result<bool> moved = state_->pass(flow);
            if (!moved) {
                // What was made before the error is of no use to anybody: a damaged body is not a shorter one.
                state_->error = moved.error();
                return std::unexpected{*state_->error};
            }
            if (!*moved) break;
        }
    } catch (const std::bad_alloc&) {
        state_->error.emplace(std::make_error_code(std::errc::not_enough_memory), phase::body);
        throw;
    }
    return Step{in.size() - flow.in.size(), out.size() - flow.out.size()};
}

result<void> Decoder::finish() {
    if (!state_->error) {
        for (const Link& link : state_->links) {
            if (link.stage->at_end() && link.begin == link.end) continue;
            state_->error = bad_coding("the " + std::string{link.stage->name()} + " body is cut short").error();
            break;
        }
    }
    if (state_->error) return std::unexpected{*state_->error};
    return {};
}

result<std::string> decode_all(std::string_view codings, std::string_view body, const Limits& limits) {
    result<Decoder> decoder = Decoder::create(codings, limits);
    if (!decoder) return std::unexpected{decoder.error()};
    std::string text;
    auto in = std::as_bytes(std::span{body});
    std::vector<std::byte> out(between_bytes);
    while (true) {
        const auto step = decoder->decode(in, out);
        if (!step) return std::unexpected{step.error()};
        if (step->consumed_bytes == 0 && step->produced_bytes == 0) break;
        in = in.subspan(step->consumed_bytes);
        text.append(reinterpret_cast<const char*>(out.data()), step->produced_bytes);
    }
    if (auto whole = decoder->finish(); !whole) return std::unexpected{whole.error()};
    return text;
}

std::string gzip_encode(std::string_view body) {
    z_stream zlib{};
    constexpr int memory_level = 8;
    if (deflateInit2(&zlib, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, memory_level, Z_DEFAULT_STRATEGY) != Z_OK)
        throw std::bad_alloc{};
    const std::unique_ptr<z_stream, decltype(&deflateEnd)> owner{&zlib, &deflateEnd};
    std::string out;
    std::array<char, between_bytes> some;
    int code = Z_OK;
    while (code != Z_STREAM_END) {
        constexpr std::size_t most = 1 << 30;
        const std::size_t size = std::min(body.size(), most);
        zlib.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(body.data()));
        zlib.avail_in = static_cast<uInt>(size);
        zlib.next_out = reinterpret_cast<Bytef*>(some.data());
        zlib.avail_out = static_cast<uInt>(some.size());
        code = deflate(&zlib, size == body.size() ? Z_FINISH : Z_NO_FLUSH);
        body.remove_prefix(size - zlib.avail_in);
        out.append(some.data(), some.size() - zlib.avail_out);
    }
    return out;
}

}  // namespace torc::http
