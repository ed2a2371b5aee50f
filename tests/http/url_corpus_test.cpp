#include <doctest/doctest.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include <torc/http/url.hpp>

#include "corpora.hpp"

// Goal: agree with the URL cases that browsers are tested with, for every URL whose scheme is ours and every reference
// resolved against such a URL. Method: a reader for just the JSON that the file is made of (an array of strings and
// flat objects), then each case by its fields. docs/url.md lists the differences; they are counted here too, so that a
// new one shows.

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

// docs/url.md, "Where it differs": accepted there, refused here.
bool is_refused_by_choice(std::string_view input) { return input == "https://%e2%98%83"; }

bool is_ours(std::string_view url) {
    for (const std::string_view scheme : {"http:", "https:", "ws:", "wss:"}) {
        if (url.starts_with(scheme)) return true;
    }
    return false;
}

std::string with_mark(char mark, std::string_view text) {
    return text.empty() ? std::string{} : mark + std::string{text};
}

void check_fields(const Url& url, const Case& expected) {
    CHECK(url.href() == expected.at("href"));
    CHECK(std::string{url.scheme()} + ':' == expected.at("protocol"));
    CHECK(url.authority() == expected.at("host"));
    CHECK(url.bracketed_host() == expected.at("hostname"));
    CHECK((url.has_explicit_port() ? std::to_string(url.port()) : "") == expected.at("port"));
    CHECK(url.path() == expected.at("pathname"));
    CHECK(with_mark('?', url.query()) == expected.at("search"));
    CHECK(with_mark('#', url.fragment()) == expected.at("hash"));
    if (expected.contains("origin")) CHECK(url.origin() == expected.at("origin"));
}

}  // namespace

TEST_SUITE("url corpus") {
    TEST_CASE("agrees with the cases that browsers are tested with") {
        const auto text = read_corpus("url/urltestdata.json");
        if (!text) return;
        int checked = 0;
        for (const Case& test : CaseReader{*text}.read()) {
            const std::string& input = test.at("input");
            const auto base_text = test.find("base");
            const bool failure = test.contains("failure") || is_refused_by_choice(input);
            const bool relative = base_text != test.end() && is_ours(base_text->second);
            if (base_text != test.end() && !relative) continue;
            if (!failure && !is_ours(test.at("href"))) continue;
            CAPTURE(input);
            ++checked;
            if (!relative) {
                const auto url = Url::parse(input);
                CHECK(url.has_value() != failure);
                if (url && !failure) check_fields(*url, test);
                continue;
            }
            CAPTURE(base_text->second);
            const auto base = Url::parse(base_text->second);
            REQUIRE(base);
            const auto url = base->resolve(input);
            CHECK(url.has_value() != failure);
            if (url && !failure) check_fields(*url, test);
        }
        CHECK(checked > 400);
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
