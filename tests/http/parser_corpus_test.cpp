#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <set>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "corpora.hpp"
#include "transcript.hpp"

// Goal: the cases that llhttp is tested with. What it refuses in strict mode, we refuse, whatever its release; what it
// accepts gives us the same heads and the same body bytes, wherever the input is cut. Method: a reader for its Markdown
// files; the spans of each log are put together and compared with what the parser reports.
//
// Ours is stricter in a few places on purpose. Each such case is named in `refused_by_choice` under its kind, which
// docs/messages.md explains, so that a case that starts to be refused by accident shows.

using torc::http::Parser;

namespace {

struct Case {
    std::string name;
    bool request = true;
    bool lenient = false;
    bool skip_body = false;
    std::string input;
    std::string log;
};

// Real line ends stand for CRLF, "\r" and "\n" for themselves, and a backslash at the end of a line joins it to the
// next.
std::string unescape(std::string_view block) {
    std::string out;
    for (std::size_t i = 0; i < block.size(); ++i) {
        const char c = block[i];
        const char next = i + 1 < block.size() ? block[i + 1] : '\0';
        if (c == '\n') {
            out += "\r\n";
        } else if (c != '\\') {
            out += c;
        } else if (next == 'n' || next == 'r' || next == 't' || next == 'f') {
            out += next == 'n' ? '\n' : next == 'r' ? '\r' : next == 't' ? '\t' : '\f';
            ++i;
        } else if (next == 'x') {
            out += static_cast<char>(std::stoi(std::string{block.substr(i + 2, 2)}, nullptr, 16));
            i += 3;
        } else if (next >= '0' && next <= '7') {
            std::size_t digits = 0;
            while (digits < 3 && block[i + 1 + digits] >= '0' && block[i + 1 + digits] <= '7') ++digits;
            out += static_cast<char>(std::stoi(std::string{block.substr(i + 1, digits)}, nullptr, 8));
            i += digits;
        } else if (next == '\n') {
            ++i;
        } else {
            out += c;
        }
    }
    return out;
}

std::string_view block_behind(std::string_view text, std::string_view fence, std::size_t& at) {
    const std::size_t begin = text.find(fence, at) + fence.size();
    const std::size_t end = text.find("```", begin);
    at = end + 3;
    return text.substr(begin, end - begin);
}

std::vector<Case> read_cases(const std::string& file) {
    const auto content = read_corpus(file);
    std::vector<Case> cases;
    if (!content) return cases;
    const std::string_view text = *content;
    for (std::size_t at = 0; (at = text.find("<!-- meta=", at)) != std::string_view::npos;) {
        const std::string meta{text.substr(at, text.find("-->", at) - at)};
        const std::size_t title = text.rfind("\n#", at);
        const std::size_t name = text.find_first_not_of("\n# ", title);
        Case one;
        one.name = file + ": " + std::string{text.substr(name, text.find('\n', name) - name)};
        one.request = meta.find("request") != std::string::npos;
        one.lenient = meta.find("lenient") != std::string::npos;
        one.skip_body = meta.find("skipBody") != std::string::npos;
        std::string_view input = block_behind(text, "```http\n", at);
        // The line end before the closing fence is the fence's.
        if (input.ends_with('\n')) input.remove_suffix(1);
        one.input = unescape(input);
        one.log = block_behind(text, "```log\n", at);
        cases.push_back(std::move(one));
    }
    return cases;
}

std::vector<Case> all_cases() {
    std::vector<Case> cases;
    for (const std::string folder : {"llhttp/request", "llhttp/response"}) {
        std::error_code none;
        for (const auto& entry : std::filesystem::directory_iterator{corpus_path(folder), none}) {
            const auto more = read_cases(folder + "/" + entry.path().filename().string());
            cases.insert(cases.end(), more.begin(), more.end());
        }
    }
    return cases;
}

// What a log says was found: the spans of each kind, put together, one string for each message.
struct Expected {
    bool refused = false;
    std::string text;
};

std::string value_of(std::string_view line) {
    std::string_view value = line.substr(line.find("]=") + 2);
    if (value == "cr") return "\r";
    if (value == "lf") return "\n";
    value = value.substr(1, value.size() - 2);
    std::string out;
    for (std::size_t i = 0; i < value.size(); ++i) {
        if (value[i] == '\\' && i + 1 < value.size() && (value[i + 1] == 't' || value[i + 1] == 'f')) {
            out += value[++i] == 't' ? '\t' : '\f';
        } else if (value.substr(i, 2) == "\xc3\xbf") {
            out += '\xff';  // bytes that are not UTF-8 are logged as if they were Latin-1
            ++i;
        } else {
            out += value[i];
        }
    }
    return out;
}

std::string trimmed(std::string text) {
    const auto last = text.find_last_not_of(" \t");
    text.resize(last == std::string::npos ? 0 : last + 1);
    return text;
}

class LogReader {
   public:
    explicit LogReader(std::string_view log) : log_(log) {}

    std::vector<std::string> messages() {
        while (!log_.empty()) {
            const std::string_view line = log_.substr(0, log_.find('\n'));
            log_.remove_prefix(std::min(line.size() + 1, log_.size()));
            read(line);
        }
        if (open_) done_.push_back(text());
        return done_;
    }

   private:
    void read(std::string_view line) {
        const auto has = [&](std::string_view what) { return line.find(what) != std::string_view::npos; };
        if (has("] \"") || has("span[")) {
            const std::size_t open = line.find('[') + 1;
            parts_[std::string{line.substr(open, line.find(']') - open)}] += value_of(line);
        } else if (has("message begin")) {
            parts_.clear();
            fields_.clear();
            open_ = false;
        } else if (has("headers complete")) {
            open_ = true;
        } else if (has("header_field complete")) {
            fields_ += std::exchange(parts_["header_field"], {}) + "=";
        } else if (has("header_value complete")) {
            fields_ += trimmed(std::exchange(parts_["header_value"], {})) + "\n";
        } else if (has("message complete")) {
            done_.push_back(text());
            open_ = false;
        }
    }

    std::string text() {
        const std::string start =
            parts_["method"].empty() ? "[" + parts_["status"] + "]" : parts_["method"] + " " + parts_["url"];
        return start + "\n" + fields_ + "body=" + parts_["body"] + "\n";
    }

    std::string_view log_;
    std::map<std::string, std::string> parts_;
    std::string fields_;
    std::vector<std::string> done_;
    bool open_ = false;  // the last message has a head and no end
};

// The same shape from what our parser reports.
std::vector<std::string> messages_of(const Case& one, const Reading& how) {
    std::vector<std::string> messages;
    Parser parser{how.side, how.options};
    parser.expect_response_to(how.answers);
    auto in = std::as_bytes(std::span{one.input});
    std::string body;
    std::string head;
    const auto take_head = [&] {
        const auto& headers = one.request ? parser.request().headers : parser.response().headers;
        head = one.request ? parser.request().method + " " + parser.request().target
                           : "[" + parser.response().reason + "]";
        head += "\n";
        for (const auto& [name, value] : headers) head.append(name).append("=").append(value).append("\n");
    };
    while (true) {
        const auto progress = parser.feed(in);
        if (!progress) return messages;
        if (progress->what == Parser::event::need_more) {
            if (parser.head_done()) messages.push_back(head + "body=" + body + "\n");
            return messages;
        }
        in = in.subspan(progress->consumed_bytes);
        if (progress->what == Parser::event::body) {
            body.append(reinterpret_cast<const char*>(progress->body.data()), progress->body.size());
            continue;
        }
        if (progress->what != Parser::event::end) take_head();
        if (progress->what == Parser::event::head) continue;
        for (const auto& [name, value] : parser.trailers()) head.append(name).append("=").append(value).append("\n");
        messages.push_back(head + "body=" + body + "\n");
        body.clear();
        if (progress->what == Parser::event::interim) continue;
        if (parser.upgrade() && (!parser.keep_alive() || in.empty())) return messages;
        parser.next_message();
    }
}

bool ends_in_error(const Case& one) {
    const std::size_t last = one.log.rfind('\n', one.log.size() - 2);
    const std::string line = one.log.substr(last == std::string::npos ? 0 : last + 1);
    return line.find(" error code=") != std::string::npos;
}

// Code 22 is not a refusal: the parser stops where another protocol begins, as ours does.
bool stops_for_upgrade(const Case& one) { return one.log.find("error code=22") != std::string::npos; }

Reading reading_of(const Case& one) {
    Reading how;
    how.side = one.request ? Parser::role::request : Parser::role::response;
    how.options.require_host = false;  // few of these requests have one
    how.answers = one.skip_body ? "HEAD" : "GET";
    how.at_end = true;
    return how;
}

// The kinds of messages that llhttp reads and we refuse, as docs/messages.md names them, and the cases they are met in.
const std::map<std::string, std::set<std::string>>& refused_by_choice() {
    static const std::map<std::string, std::set<std::string>> kinds = {
        {"protocols other than HTTP/1.0 and HTTP/1.1",
         {
             "llhttp/request/method.md: ANNOUNCE request with RTSP",
             "llhttp/request/method.md: OPTIONS request with RTSP",
             "llhttp/request/method.md: SOURCE request with ICE",
             "llhttp/request/sample.md: No HTTP version",
             "llhttp/response/sample.md: HTTP version 0.9",
             "llhttp/response/sample.md: ICE response",
             "llhttp/response/sample.md: RTSP response",
         }},
        {"CONNECT requests with a body", {"llhttp/request/method.md: CONNECT with body"}},
        {"transfer codings other than `chunked`, once",
         {
             "llhttp/request/transfer-encoding.md: POST with `chunked` as last transfer-encoding",
             "llhttp/request/transfer-encoding.md: POST with `chunked` as last transfer-encoding (multiple headers)",
             "llhttp/response/transfer-encoding.md: `chunked` before other transfer-encoding",
             "llhttp/response/transfer-encoding.md: `chunkedchunked` transfer-encoding does not enable chunked "
             "enconding",
             "llhttp/response/transfer-encoding.md: multiple transfer-encoding where chunked is not the last one",
         }},
    };
    return kinds;
}

std::set<std::string> cases_refused_by_choice() {
    std::set<std::string> names;
    for (const auto& [kind, cases] : refused_by_choice()) names.insert(cases.begin(), cases.end());
    return names;
}

}  // namespace

TEST_SUITE("parser corpus") {
    TEST_CASE("what must be refused is refused") {
        if (!has_corpus("llhttp")) return;
        int checked = 0;
        for (const Case& one : all_cases()) {
            if (one.lenient || !ends_in_error(one) || stops_for_upgrade(one)) continue;
            CAPTURE(one.name);
            ++checked;
            CHECK(read_whole(one.input, reading_of(one)).refused());
        }
        CHECK(checked > 60);
    }

    TEST_CASE("what must be accepted gives the same heads and bodies") {
        if (!has_corpus("llhttp")) return;
        const std::set<std::string> chosen = cases_refused_by_choice();
        int checked = 0;
        std::set<std::string> refused;
        for (const Case& one : all_cases()) {
            if (one.lenient || (ends_in_error(one) && !stops_for_upgrade(one))) continue;
            CAPTURE(one.name);
            CAPTURE(one.input);
            ++checked;
            Reading how = reading_of(one);
            how.at_end = false;
            const Transcript ours = read_whole(one.input, how);
            if (ours.refused()) {
                refused.insert(one.name);
                CHECK_MESSAGE(chosen.contains(one.name), ours.error);
                continue;
            }
            if (one.skip_body && one.request) continue;
            CHECK(messages_of(one, how) == LogReader{one.log}.messages());
        }
        CHECK(checked > 80);
        CHECK(refused == chosen);
    }

    TEST_CASE("the guide names what is refused by choice") {
        const std::set<std::string> rows = rows_of_guide("messages.md", "## What is refused");
        for (const auto& [kind, cases] : refused_by_choice()) {
            CAPTURE(kind);
            CHECK(rows.contains(kind));
        }
    }

    TEST_CASE("where the input is cut changes nothing") {
        if (!has_corpus("llhttp")) return;
        for (const Case& one : all_cases()) {
            CAPTURE(one.name);
            CAPTURE(one.input);
            const auto ways = read_every_way(one.input, reading_of(one));
            CHECK(ways.size() == 1);
            if (ways.size() > 1) CHECK(ways[0] == ways[1]);
        }
    }
}
