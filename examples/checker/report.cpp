#include "report.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <iterator>

#include "text.hpp"

namespace checker {
namespace {

class JsonObject {
   public:
    explicit JsonObject(std::string& out) : out_(out) { out_ += '{'; }
    ~JsonObject() { out_ += '}'; }
    JsonObject(const JsonObject&) = delete;
    JsonObject& operator=(const JsonObject&) = delete;

    /// Names a member, whose value is then appended to what this returns.
    std::string& member(std::string_view name) {
        if (!std::exchange(first_, false)) out_ += ',';
        append_json(out_, name);
        out_ += ':';
        return out_;
    }
    void text(std::string_view name, std::string_view value) { append_json(member(name), value); }
    /// Null if the value is empty.
    void optional_text(std::string_view name, std::string_view value) {
        if (value.empty()) {
            member(name) += "null";
        } else {
            text(name, value);
        }
    }
    template <class Number>
    void number(std::string_view name, Number value) {
        fmt::format_to(std::back_inserter(member(name)), "{}", value);
    }
    void milliseconds(std::string_view name, torc::Clock::duration value) {
        fmt::format_to(std::back_inserter(member(name)), "{:.3f}",
                       std::chrono::duration<double, std::milli>(value).count());
    }

   private:
    std::string& out_;
    bool first_ = true;
};

void append_timings(std::string& out, const torc::http::Timings& timings) {
    JsonObject object{out};
    object.milliseconds("resolve", timings.resolve);
    object.milliseconds("connect", timings.connect);
    object.milliseconds("tls", timings.tls);
    object.milliseconds("send", timings.send);
    object.milliseconds("wait", timings.wait);
    object.milliseconds("body", timings.body);
    object.milliseconds("total", timings.total());
}

void append_tls(std::string& out, const torc::net::TlsPeerInfo& tls) {
    JsonObject object{out};
    object.text("version", to_string(tls.version));
    object.text("cipher", tls.cipher);
    if (tls.certificate) {
        object.text("certificate_subject", tls.certificate->subject);
        object.text("certificate_issuer", tls.certificate->issuer);
        object.text("certificate_expires",
                    fmt::format("{:%Y-%m-%dT%H:%M:%SZ}",
                                fmt::gmtime(std::chrono::system_clock::to_time_t(tls.certificate->not_after))));
    }
}

std::string_view phase_of(const torc::Error& error) {
    return error.where() == torc::phase::none ? std::string_view{"check"} : to_string(error.where());
}

/// What happened and to whom; the phase stands elsewhere.
std::string words_of(const torc::Error& error) {
    if (error.peer().empty()) return one_line(error.message());
    return one_line(fmt::format("{}: {}", error.peer(), error.message()));
}

void append_error(std::string& out, const torc::Error& error) {
    JsonObject object{out};
    object.text("phase", phase_of(error));
    object.text("kind", kind_of(error.code()));
    object.text("message", words_of(error));
}

}  // namespace

std::string answer_lines(const Outcome& outcome) {
    std::string lines = fmt::format("{}: status -> {}\n", outcome.name, outcome.status);
    if (outcome.has_body) lines += fmt::format("{}: type -> {}\n", outcome.name, outcome.beginning);
    return lines;
}

std::string error_line(const Outcome& outcome) {
    return fmt::format("{}: error -> {}: {}\n", outcome.name, phase_of(*outcome.error), words_of(*outcome.error));
}

std::string json_line(const Outcome& outcome) {
    std::string line;
    {
        JsonObject object{line};
        object.text("url", outcome.name);
        object.optional_text("final_url", outcome.final_url);
        if (outcome.status != 0) {
            object.number("status", outcome.status);
        } else {
            object.member("status") += "null";
        }
        object.number("bytes", outcome.bytes);
        append_timings(object.member("milliseconds"), outcome.timings);
        if (outcome.tls) {
            append_tls(object.member("tls"), *outcome.tls);
        } else {
            object.member("tls") += "null";
        }
        object.optional_text("address", outcome.address);
        if (outcome.error) {
            append_error(object.member("error"), *outcome.error);
        } else {
            object.member("error") += "null";
        }
    }
    line += '\n';
    return line;
}

}  // namespace checker
