#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include <torc/http/error.hpp>
#include <torc/http/headers.hpp>
#include <torc/http/limits.hpp>
#include <torc/http/message.hpp>
#include <torc/http/parser.hpp>
#include <torc/runtime/pool_allocator.hpp>

// The grammar that this library insists on, checked byte by byte before any other parser sees the message. Private.
namespace torc::http {

/// Collects one line at a time, up to and with its CRLF. Refuses every byte that is not text, and a CR or LF that is
/// not part of a CRLF; an error is found at the same byte however the input was split.
class LineScanner {
   public:
    struct Bounds {
        std::size_t line_bytes;
        std::size_t total_bytes;
        errc total_code;
        std::string_view what;   ///< "line", "chunk line"
        std::string_view whole;  ///< "head", "trailers"
    };

    void begin_line(std::size_t at) noexcept {
        begin_ = at;
        carriage_return_ = false;
    }

    /// Nothing of the line that begins at the end of `out` was taken.
    [[nodiscard]] bool at_line_begin(const torc::detail::pooled_string& out) const noexcept {
        return begin_ == out.size() && !carriage_return_;
    }

    /// Moves bytes from `in` to `out`; true once a line is complete.
    result<bool> take(std::span<const std::byte>& in, torc::detail::pooled_string& out, const Bounds& bounds,
                      phase where);

    /// The completed line, without its CRLF.
    [[nodiscard]] std::string_view line(const torc::detail::pooled_string& out) const noexcept {
        return std::string_view{out}.substr(begin_, out.size() - begin_ - 2);
    }

   private:
    bool take_whole(std::span<const std::byte>& in, torc::detail::pooled_string& out, const Bounds& bounds) const;

    std::size_t begin_ = 0;
    bool carriage_return_ = false;
};

/// Reads the lines of a head, or of trailers, straight into a `Headers`: its buffer is what was received.
class HeadReader {
   public:
    enum class kind : std::uint8_t { head, trailers };
    enum class step : std::uint8_t { need_more, start_line, complete };

    void begin(kind what, Headers& into);
    result<step> feed(std::span<const std::byte>& in, Headers& into, const Limits& limits);

    /// Anything but blank lines was seen.
    [[nodiscard]] bool started() const noexcept { return started_; }
    [[nodiscard]] std::string_view start_line(const Headers& headers) const noexcept {
        return std::string_view{headers.buffer_}.substr(0, start_line_size_);
    }
    /// All bytes of the head, its empty line included.
    [[nodiscard]] static std::string_view raw(const Headers& headers) noexcept { return headers.buffer_; }

   private:
    static bool take_usual_fields(std::span<const std::byte>& in, Headers& into, const LineScanner::Bounds& bounds,
                                  std::size_t max_headers);
    result<void> add_field(Headers& into, std::string_view line, const Limits& limits) const;

    LineScanner scanner_;
    kind kind_ = kind::head;
    bool started_ = false;
    bool has_start_line_ = false;
    std::size_t start_line_size_ = 0;
    std::size_t blank_lines_ = 0;
};

result<void> read_request_line(std::string_view line, RequestHead& head);
result<void> read_status_line(std::string_view line, ResponseHead& head);

/// What the headers say about the body; the version matters, and 'Host' for requests.
struct Framing {
    std::optional<std::uint64_t> length;
    bool chunked = false;
};
result<Framing> read_framing(const Headers& headers, int minor_version);
result<void> check_host(const RequestHead& head);

struct ChunkLine {
    std::uint64_t size_bytes;
    std::size_t extension_bytes;
};
result<ChunkLine> read_chunk_line(std::string_view line);

}  // namespace torc::http
