#include <torc/http/parser.hpp>

#include <llhttp.h>

#include <cstdint>
#include <new>
#include <string>
#include <utility>

#include <torc/http/status.hpp>
#include <torc/runtime/frame_pool.hpp>
#include <torc/runtime/pool_allocator.hpp>

#include "bytes.hpp"
#include "guard.hpp"

// Theory of operation. Two parsers read every message. The guard (guard.cpp) goes first, byte by byte, and decides;
// then llhttp is given exactly the bytes that the guard accepted, and has to come to the same result: head complete,
// the same length or chunked, no error, complete at the same byte. If it does not, the message is refused. So what is
// accepted is what both accept, whatever the release of llhttp, and the guard alone says where a message ends.
//
// Two things are not shown to llhttp as they came, for its releases disagree on them and the guard has dealt with them:
// methods beyond the common ones are shown as POST (none of them frames its body differently), and chunk lines are
// shown without their extensions.
//
// States: head -> (length | chunk_line -> chunk_data -> after_chunk -> ... -> trailers | until_close) -> done; an error
// is final. Between messages llhttp is initialised anew, so nothing of one message is left for the next. Every buffer
// is reused; nothing is allocated per message once they have grown, unless the head is taken away.

namespace torc::http {
namespace {

// The second reader. Lives in the parser's one allocation; llhttp points back to it.
class Second {
   public:
    enum class body : std::uint8_t { as_framed, none, tunnel };

    void begin(bool request, body what) {
        llhttp_init(&parser_, request ? HTTP_REQUEST : HTTP_RESPONSE, &settings());
        parser_.data = this;
        body_ = what;
        headers_complete_ = false;
        message_complete_ = false;
    }

    // True if every byte was taken without an error.
    bool run(std::string_view bytes) {
        body_bytes_ = 0;
        const llhttp_errno_t code = llhttp_execute(&parser_, bytes.data(), bytes.size());
        if (code == HPE_OK) return true;
        return code == HPE_PAUSED_UPGRADE && llhttp_get_error_pos(&parser_) == bytes.data() + bytes.size();
    }

    bool finish() { return llhttp_finish(&parser_) == HPE_OK && message_complete_; }

    [[nodiscard]] bool headers_complete() const { return headers_complete_; }
    [[nodiscard]] bool message_complete() const { return message_complete_; }
    [[nodiscard]] std::size_t body_bytes() const { return body_bytes_; }
    [[nodiscard]] std::uint64_t length() const { return parser_.content_length; }
    [[nodiscard]] bool chunked() const { return (parser_.flags & F_CHUNKED) != 0; }
    [[nodiscard]] bool until_close() const { return llhttp_message_needs_eof(&parser_) != 0; }
    [[nodiscard]] std::string reason() const {
        const char* text = llhttp_get_error_reason(&parser_);
        return text != nullptr && *text != '\0' ? text : "the message does not end where its head says";
    }

   private:
    static Second& of(llhttp_t* parser) { return *static_cast<Second*>(parser->data); }

    static const llhttp_settings_t& settings() {
        static const llhttp_settings_t all = [] {
            llhttp_settings_t callbacks;
            llhttp_settings_init(&callbacks);
            callbacks.on_headers_complete = [](llhttp_t* parser) {
                of(parser).headers_complete_ = true;
                return static_cast<int>(of(parser).body_);
            };
            callbacks.on_body = [](llhttp_t* parser, const char*, std::size_t size) {
                of(parser).body_bytes_ += size;
                return 0;
            };
            callbacks.on_message_complete = [](llhttp_t* parser) {
                of(parser).message_complete_ = true;
                return 0;
            };
            return callbacks;
        }();
        return all;
    }

    llhttp_t parser_{};
    body body_ = body::as_framed;
    bool headers_complete_ = false;
    bool message_complete_ = false;
    std::size_t body_bytes_ = 0;
};

bool is_common_method(std::string_view method) {
    for (const std::string_view one :
         {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE", "CONNECT"}) {
        if (method == one) return true;
    }
    return false;
}

std::string_view text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::unexpected<Error> not_agreed(phase where, const std::string& reason) {
    return fail(where == phase::head ? errc::bad_message : errc::bad_framing, where,
                "the message is malformed: " + reason);
}

}  // namespace

struct Parser::State : torc::detail::pooled {
    enum class at : std::uint8_t { head, length, chunk_line, chunk_data, after_chunk, trailers, until_close, done };

    State(role what, Options given) : side(what), options(given) { begin(); }

    [[nodiscard]] bool is_request() const { return side == role::request; }
    [[nodiscard]] Headers& headers() { return is_request() ? request.headers : response.headers; }
    [[nodiscard]] int minor_version() const { return is_request() ? request.minor_version : response.minor_version; }

    void begin() {
        reader.begin(HeadReader::kind::head, headers());
        trailers.clear();
        where = at::head;
        head_done = false;
        interim = false;
        upgrade = false;
        kind = body_kind::none;
        length.reset();
        received_bytes = 0;
        extension_bytes = 0;
    }

    /// Gives back memory that most heads do not need.
    void let_go() {
        constexpr std::size_t kept_bytes = 4 * 1024;
        if (HeadReader::raw(headers()).size() <= kept_bytes) return;
        request = {};
        response = {};
    }

    result<Progress> feed(std::span<const std::byte> in);
    result<Progress> step(std::span<const std::byte>& in);
    result<bool> read_head(std::span<const std::byte>& in);
    result<void> understand_head();
    result<void> show_head();
    result<Progress> read_body(std::span<const std::byte>& in, std::uint64_t most);
    result<bool> read_chunk_start(std::span<const std::byte>& in);
    result<bool> read_chunk_end(std::span<const std::byte>& in);
    result<bool> read_trailers(std::span<const std::byte>& in);
    result<void> finish();

    [[nodiscard]] std::unexpected<Error> too_large() const {
        return fail(errc::body_too_large, phase::body,
                    "the body is larger than " + std::to_string(options.limits.max_body_bytes) + " bytes");
    }

    role side;
    Options options;
    std::string answered_method = "GET";
    RequestHead request;
    ResponseHead response;
    Headers trailers;
    HeadReader reader;
    LineScanner scanner;
    torc::detail::pooled_string chunk_line;
    Second second;
    std::optional<Error> error;

    at where = at::head;
    body_kind kind = body_kind::none;
    std::optional<std::uint64_t> length;
    std::uint64_t left_bytes = 0;      // of the body, or of the chunk
    std::uint64_t received_bytes = 0;  // of the body
    std::size_t extension_bytes = 0;
    std::size_t interim_count = 0;
    std::size_t chunk_end_bytes = 0;
    bool head_done = false;
    bool interim = false;
    bool upgrade = false;
    bool keep_alive = true;
    bool tainted = false;
    bool closed = false;
};

result<Parser::Progress> Parser::State::feed(std::span<const std::byte> in) {
    if (error) return std::unexpected{*error};
    const std::size_t size = in.size();
    try {
        result<Progress> progress = step(in);
        if (progress) {
            progress->consumed_bytes = size - in.size();
        } else {
            error = progress.error();
        }
        return progress;
    } catch (const std::bad_alloc&) {
        // What was taken and what is known of it may differ.
        headers().clear();
        trailers.clear();
        error.emplace(std::make_error_code(std::errc::not_enough_memory),
                      where == at::head ? phase::head : phase::body);
        throw;
    }
}

result<Parser::Progress> Parser::State::step(std::span<const std::byte>& in) {
    const auto event_or_more = [](bool complete, event what) {
        return Progress{complete ? what : event::need_more, 0, {}};
    };
    if (closed && !in.empty()) {
        return fail(errc::after_close, phase::head, "the peer sent more after the message that ended the connection");
    }
    while (true) {
        switch (where) {
            case at::head: {
                if (interim) begin();
                const result<bool> complete = read_head(in);
                if (!complete) return std::unexpected{complete.error()};
                return event_or_more(*complete, interim ? event::interim : event::head);
            }
            case at::length:
                if (*length > options.limits.max_body_bytes) return too_large();
                return read_body(in, left_bytes);
            case at::until_close:
                if (received_bytes == options.limits.max_body_bytes && !in.empty()) return too_large();
                return read_body(in, options.limits.max_body_bytes - received_bytes);
            case at::chunk_data: return read_body(in, left_bytes);
            case at::done: return Progress{event::end, 0, {}};
            case at::chunk_line:
            case at::after_chunk:
            case at::trailers: {
                const result<bool> complete = where == at::chunk_line    ? read_chunk_start(in)
                                              : where == at::after_chunk ? read_chunk_end(in)
                                                                         : read_trailers(in);
                if (!complete) return std::unexpected{complete.error()};
                if (!*complete) return Progress{};
                break;
            }
        }
    }
}

result<bool> Parser::State::read_head(std::span<const std::byte>& in) {
    while (true) {
        const result<HeadReader::step> found = reader.feed(in, headers(), options.limits);
        if (!found) return std::unexpected{found.error()};
        if (*found == HeadReader::step::need_more) return false;
        if (*found == HeadReader::step::complete) break;
        const std::string_view line = reader.start_line(headers());
        const result<void> good = is_request() ? read_request_line(line, request) : read_status_line(line, response);
        if (!good) return std::unexpected{good.error()};
    }
    if (const result<void> good = understand_head(); !good) return std::unexpected{good.error()};
    if (const result<void> good = show_head(); !good) return std::unexpected{good.error()};
    head_done = true;
    return true;
}

result<void> Parser::State::understand_head() {
    const result<Framing> framing = read_framing(headers(), minor_version());
    if (!framing) return std::unexpected{framing.error()};
    length = framing->length;
    keep_alive = wants_keep_alive(minor_version(), headers());
    const bool says_body = framing->chunked || length.value_or(0) != 0;
    bool bodiless = false;
    if (is_request()) {
        if (options.require_host) {
            if (const result<void> good = check_host(request); !good) return good;
        }
        bodiless = request.method == "CONNECT";
        if (bodiless && says_body) return fail(errc::bad_framing, phase::head, "a CONNECT request can not have a body");
        upgrade = bodiless || (headers().has_token("Connection", "upgrade") && headers().contains("Upgrade"));
        if (bodiless) keep_alive = false;
    } else {
        const int status = response.status;
        const bool tunnel = status == 101 || (answered_method == "CONNECT" && status / 100 == 2);
        interim = status / 100 == 1 && status != 101;
        if (interim && ++interim_count > options.limits.max_interim_responses) {
            return fail(
                errc::too_many_interim, phase::head,
                "there are more than " + std::to_string(options.limits.max_interim_responses) + " interim responses");
        }
        upgrade = tunnel;
        bodiless = tunnel || is_bodiless(status) || answered_method == "HEAD";
        // A server that announces a body where there can be none may also send it: what follows is not to be trusted.
        if (says_body && (status / 100 == 1 || status == 204)) tainted = true;
        if (tunnel || tainted) keep_alive = false;
    }
    if (bodiless) {
        kind = body_kind::none;
    } else if (framing->chunked) {
        kind = body_kind::chunked;
    } else if (length) {
        kind = body_kind::length;
    } else {
        kind = is_request() ? body_kind::none : body_kind::until_close;
    }
    if (kind == body_kind::until_close) keep_alive = false;
    return {};
}

result<void> Parser::State::show_head() {
    const bool tunnel = !is_request() && upgrade;
    const bool none = !is_request() && kind == body_kind::none;
    second.begin(is_request(), tunnel ? Second::body::tunnel : none ? Second::body::none : Second::body::as_framed);
    std::string_view raw = HeadReader::raw(headers());
    bool good = true;
    if (is_request() && !is_common_method(request.method)) {
        raw.remove_prefix(request.method.size());
        good = second.run("POST");
    }
    good = good && second.run(raw) && second.headers_complete();
    const bool empty = kind == body_kind::none || (kind == body_kind::length && *length == 0);
    good = good && second.message_complete() == empty;
    switch (kind) {
        case body_kind::none: where = interim ? at::head : at::done; break;
        case body_kind::length:
            good = good && (empty || second.length() == *length);
            left_bytes = *length;
            where = empty ? at::done : at::length;
            break;
        case body_kind::chunked:
            good = good && second.chunked();
            where = at::chunk_line;
            chunk_line.clear();
            scanner.begin_line(0);
            break;
        case body_kind::until_close:
            good = good && second.until_close();
            where = at::until_close;
            break;
    }
    if (!good) return not_agreed(phase::head, second.reason());
    return {};
}

result<Parser::Progress> Parser::State::read_body(std::span<const std::byte>& in, std::uint64_t most) {
    const auto size = static_cast<std::size_t>(std::min<std::uint64_t>(in.size(), most));
    if (size == 0) return Progress{};
    const std::span<const std::byte> bytes = in.first(size);
    in = in.subspan(size);
    received_bytes += size;
    if (kind != body_kind::until_close) left_bytes -= size;
    bool good = second.run(text_of(bytes)) && second.body_bytes() == size;
    if (kind == body_kind::length) good = good && second.message_complete() == (left_bytes == 0);
    if (!good) return not_agreed(phase::body, second.reason());
    if (left_bytes == 0 && kind == body_kind::length) where = at::done;
    if (left_bytes == 0 && kind == body_kind::chunked) {
        where = at::after_chunk;
        chunk_end_bytes = 0;
    }
    return Progress{event::body, 0, bytes};
}

result<bool> Parser::State::read_chunk_start(std::span<const std::byte>& in) {
    const std::size_t most = options.limits.max_chunk_line_bytes;
    const result<bool> complete =
        scanner.take(in, chunk_line, {most, most + 2, errc::line_too_long, "chunk line", "chunk line"}, phase::body);
    if (!complete || !*complete) return complete;
    const result<ChunkLine> chunk = read_chunk_line(scanner.line(chunk_line));
    if (!chunk) return std::unexpected{chunk.error()};
    extension_bytes += chunk->extension_bytes;
    if (extension_bytes > options.limits.max_chunk_extension_bytes) {
        return fail(errc::bad_framing, phase::body,
                    "the chunk extensions are larger than " + std::to_string(options.limits.max_chunk_extension_bytes) +
                        " bytes together");
    }
    if (chunk->size_bytes > options.limits.max_body_bytes - received_bytes) return too_large();
    left_bytes = chunk->size_bytes;
    chunk_line.clear();
    scanner.begin_line(0);
    if (!second.run(ChunkHeader{left_bytes}.view())) return not_agreed(phase::body, second.reason());
    where = left_bytes == 0 ? at::trailers : at::chunk_data;
    if (where == at::trailers) reader.begin(HeadReader::kind::trailers, trailers);
    return true;
}

result<bool> Parser::State::read_chunk_end(std::span<const std::byte>& in) {
    while (chunk_end_bytes < chunk_end.size()) {
        if (in.empty()) return false;
        if (static_cast<char>(in[0]) != chunk_end[chunk_end_bytes]) {
            return fail(errc::bad_framing, phase::body, "a chunk is not followed by a line break: its size is wrong");
        }
        ++chunk_end_bytes;
        in = in.subspan(1);
    }
    if (!second.run(chunk_end)) return not_agreed(phase::body, second.reason());
    where = at::chunk_line;
    return true;
}

result<bool> Parser::State::read_trailers(std::span<const std::byte>& in) {
    const result<HeadReader::step> found = reader.feed(in, trailers, options.limits);
    if (!found) return std::unexpected{found.error()};
    if (*found == HeadReader::step::need_more) return false;
    for (const auto& [name, value] : trailers) {
        if (is_one_of(name, {"Content-Length", "Transfer-Encoding", "Host"}))
            return fail(errc::bad_framing, phase::body, "the header " + in_quotes(name) + " stands among the trailers");
    }
    if (!second.run(HeadReader::raw(trailers)) || !second.message_complete())
        return not_agreed(phase::body, second.reason());
    where = at::done;
    return true;
}

result<void> Parser::State::finish() {
    if (error) return std::unexpected{*error};
    if (where == at::done) return {};
    if (where == at::until_close) {
        where = at::done;
        if (second.finish()) return {};
        error = not_agreed(phase::body, second.reason()).error();
    } else if (where != at::head) {
        std::string missing = kind == body_kind::length ? std::to_string(left_bytes) + " bytes of the body are missing"
                                                        : "the chunked body is not complete";
        error =
            fail(errc::unexpected_eof, phase::body, "the connection ended too early: " + std::move(missing)).error();
    } else if (reader.started() || interim_count > 0) {
        error = fail(errc::unexpected_eof, phase::head, "the connection ended in the middle of the head").error();
    } else {
        return {};
    }
    return std::unexpected{*error};
}

Parser::Parser(role what, Options options) : state_(std::make_unique<State>(what, options)) {}
Parser::Parser(role what) : Parser(what, Options{}) {}
Parser::~Parser() = default;
Parser::Parser(Parser&&) noexcept = default;
Parser& Parser::operator=(Parser&&) noexcept = default;

void Parser::expect_response_to(std::string_view method) { state_->answered_method = method; }
result<Parser::Progress> Parser::feed(std::span<const std::byte> in) { return state_->feed(in); }
result<void> Parser::finish() { return state_->finish(); }

void Parser::next_message() {
    if (!state_->keep_alive) state_->closed = true;
    state_->interim_count = 0;
    state_->let_go();
    state_->begin();
}

bool Parser::started() const noexcept {
    return state_->where != State::at::head || state_->reader.started() || state_->interim_count > 0;
}
bool Parser::head_done() const noexcept { return state_->head_done && !state_->interim; }
bool Parser::done() const noexcept { return state_->where == State::at::done; }
const RequestHead& Parser::request() const noexcept { return state_->request; }
const ResponseHead& Parser::response() const noexcept { return state_->response; }
RequestHead Parser::take_request() { return std::exchange(state_->request, RequestHead{}); }
ResponseHead Parser::take_response() { return std::move(state_->response); }
const Headers& Parser::trailers() const noexcept { return state_->trailers; }
Headers Parser::take_trailers() { return std::move(state_->trailers); }
body_kind Parser::body() const noexcept { return state_->kind; }
std::optional<std::uint64_t> Parser::content_length() const noexcept { return state_->length; }
bool Parser::keep_alive() const noexcept { return state_->keep_alive; }
bool Parser::upgrade() const noexcept { return state_->upgrade; }

}  // namespace torc::http
