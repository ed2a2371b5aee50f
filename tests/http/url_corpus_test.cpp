#include <doctest/doctest.h>

#include <map>
#include <set>
#include <string>
#include <string_view>
#include <vector>

#include <torc/http/url.hpp>

#include "corpora.hpp"

// Goal: agree with the URL cases that browsers are tested with, for every URL whose scheme is ours and every reference
// resolved against such a URL. Method: a reader for just the JSON that the file is made of (an array of strings and
// flat objects), then each case by its fields. Where we differ on purpose the difference is of a kind that has a name
// here and a row in docs/url.md; any other fails.

using torc::http::Url;

namespace {

using Case = std::map<std::string, std::string>;

class CaseReader {
   public:
    explicit CaseReader(std::string_view text) : text_(text) {}

    std::vector<Case> read() {
        std::vector<Case> cases;
        while (at_ < text_.size()) {
            const char c = text_[at_];
            if (c == '{') {
                cases.push_back(read_object());
            } else if (c == '"') {
                read_string();
            } else {
                ++at_;
            }
        }
        return cases;
    }

   private:
    Case read_object() {
        Case fields;
        ++at_;
        while (skip_to_item(), text_[at_] != '}') {
            const std::string key = read_string();
            skip_to_item();
            if (text_[at_] == '"') {
                fields[key] = read_string();
            } else if (text_[at_] == 't') {
                fields[key] = "true";
                at_ += 4;
            } else if (text_[at_] == '[' || text_[at_] == '{') {
                at_ = text_.find(text_[at_] == '[' ? ']' : '}', at_) + 1;
            } else {
                while (text_[at_] >= 'a' && text_[at_] <= 'z') ++at_;
            }
        }
        ++at_;
        return fields;
    }

    void skip_to_item() {
        while (std::string_view{" \n\r\t:,"}.find(text_[at_]) != std::string_view::npos) ++at_;
    }

    std::string read_string() {
        std::string out;
        for (++at_; text_[at_] != '"'; ++at_) {
            if (text_[at_] != '\\') {
                out += text_[at_];
                continue;
            }
            constexpr std::string_view letters = "bfnrt\"\\/";
            constexpr std::string_view meaning = "\b\f\n\r\t\"\\/";
            const char letter = text_[++at_];
            if (letter == 'u') {
                append_code_point(out);
            } else {
                out += meaning[letters.find(letter)];
            }
        }
        ++at_;
        return out;
    }

    unsigned read_unit() {
        const auto unit = static_cast<unsigned>(std::stoul(std::string{text_.substr(at_ + 1, 4)}, nullptr, 16));
        at_ += 4;
        return unit;
    }

    void append_code_point(std::string& out) {
        unsigned point = read_unit();
        if (point >= 0xd800 && point < 0xdc00 && text_.substr(at_ + 1, 2) == "\\u") {
            at_ += 2;
            point = 0x10000 + ((point - 0xd800) << 10) + (read_unit() - 0xdc00);
        }
        const auto byte = [&](unsigned value) { out += static_cast<char>(value); };
        if (point < 0x80) {
            byte(point);
        } else if (point < 0x800) {
            byte(0xc0 | point >> 6);
            byte(0x80 | (point & 63));
        } else if (point < 0x10000) {
            byte(0xe0 | point >> 12);
            byte(0x80 | (point >> 6 & 63));
            byte(0x80 | (point & 63));
        } else {
            byte(0xf0 | point >> 18);
            byte(0x80 | (point >> 12 & 63));
            byte(0x80 | (point >> 6 & 63));
            byte(0x80 | (point & 63));
        }
    }

    std::string_view text_;
    std::size_t at_ = 0;
};

bool is_ours(std::string_view url) {
    for (const std::string_view scheme : {"http:", "https:", "ws:", "wss:"}) {
        if (url.starts_with(scheme)) return true;
    }
    return false;
}

std::string with_mark(char mark, std::string_view text) {
    return text.empty() ? std::string{} : mark + std::string{text};
}

// What is wrong with `url`, a field a line; nothing if it is as expected.
std::string differences(const Url& url, const Case& expected) {
    std::string found;
    const auto compare = [&](const std::string& field, std::string_view ours) {
        const auto theirs = expected.find(field);
        if (theirs == expected.end() || theirs->second == ours) return;
        found += field + ": " + std::string{ours} + " instead of " + theirs->second + "\n";
    };
    compare("href", url.href());
    compare("protocol", std::string{url.scheme()} + ':');
    compare("host", url.authority());
    compare("hostname", url.bracketed_host());
    compare("port", url.has_explicit_port() ? std::to_string(url.port()) : "");
    compare("pathname", url.path());
    compare("search", with_mark('?', url.query()));
    compare("hash", with_mark('#', url.fragment()));
    compare("origin", url.origin());
    return found;
}

// What we make of a case: "" if it is what is expected, else in which way it is not.
std::string outcome_of(const Case& test) {
    const auto base = test.find("base");
    const bool failure = test.contains("failure");
    torc::result<Url> url = Url::parse(test.at("input"));
    if (base != test.end() && is_ours(base->second)) {
        const torc::result<Url> at = Url::parse(base->second);
        REQUIRE(at);
        url = at->resolve(test.at("input"));
    }
    if (url) return failure ? "accepted: " + std::string{url->href()} : differences(*url, test);
    if (failure) return "";
    return url.error().code() == torc::http::errc::unknown_scheme ? "scheme refused" : "refused";
}

// One kind of difference that we chose.
struct Deviation {
    std::string row;  // in docs/url.md, "Where it differs"
    std::string outcome;
    bool (*applies)(const Case&);
    bool in_corpus;
    std::string sample;   // one of its kind
    std::string becomes;  // what we make of that; nothing if it is refused
};

bool never(const Case&) { return false; }
bool has_foreign_scheme(const Case& test) { return !test.contains("failure") && !is_ours(test.at("href")); }
bool has_symbol_in_host(const Case& test) { return test.at("input") == "https://%e2%98%83"; }

const std::vector<Deviation>& deviations() {
    static const std::vector<Deviation> all = {
        {"other schemes (`ftp:`, `file:`, `data:`, `mailto:`, ...)", "scheme refused", has_foreign_scheme, true,
         "ftp://example.com/", ""},
        {"`localhost:8080`, `example.com:443/x`", "scheme refused", never, false, "localhost:8080", ""},
        {"symbols and emoji in host names (`http://\u2603/`)", "refused", has_symbol_in_host, true,
         "http://\xe2\x98\x83/", ""},
        {"international labels of more than 63 bytes, names of more than 255", "refused", never, false,
         "http://\xc3\xbc" + std::string(63, 'a') + "/", ""},
        {"bytes that are not UTF-8 in path, query and fragment", "", never, false, "http://h/\xff?\xff#\xff",
         "http://h/%FF?%FF#%FF"},
        {"more than 1 MiB", "refused", never, false, "http://h/" + std::string(1 << 20, 'a'), ""},
    };
    return all;
}

bool is_to_be_read(const Case& test) {
    const auto base = test.find("base");
    // Absolute ones mean the same at every base.
    return base == test.end() || is_ours(base->second) || is_ours(test.at("input"));
}

}  // namespace

TEST_SUITE("url corpus") {
    TEST_CASE("agrees with the cases that browsers are tested with, but for what the guide lists") {
        const auto text = read_corpus("url/urltestdata.json");
        if (!text) return;
        int checked = 0;
        std::map<std::string, int> met;
        for (const Case& test : CaseReader{*text}.read()) {
            if (!is_to_be_read(test)) continue;
            ++checked;
            const std::string outcome = outcome_of(test);
            const Deviation* chosen = nullptr;
            for (const Deviation& one : deviations()) {
                if (one.applies(test)) chosen = &one;
            }
            CAPTURE(test.at("input"));
            if (test.contains("base")) CAPTURE(test.at("base"));
            CHECK(outcome == (chosen != nullptr ? chosen->outcome : ""));
            if (chosen != nullptr) ++met[chosen->row];
        }
        CHECK(checked > 750);
        for (const Deviation& one : deviations()) {
            CAPTURE(one.row);
            CHECK((met[one.row] != 0) == one.in_corpus);
        }
    }

    TEST_CASE("the guide lists every kind of difference, and each is as it says") {
        std::set<std::string> rows;
        for (const Deviation& one : deviations()) {
            CAPTURE(one.row);
            rows.insert(one.row);
            const auto url = Url::parse(one.sample);
            CHECK(url.has_value() == !one.becomes.empty());
            if (url) CHECK(url->href() == one.becomes);
        }
        CHECK(rows == rows_of_guide("url.md", "## Where it differs"));
    }

    TEST_CASE("what it normalised stays as it is when read again") {
        const auto text = read_corpus("url/urltestdata.json");
        if (!text) return;
        for (const Case& test : CaseReader{*text}.read()) {
            const auto url = Url::parse(test.at("input"));
            if (!url) continue;
            const auto again = Url::parse(url->href());
            REQUIRE(again);
            CHECK(again->href() == url->href());
        }
    }
}
