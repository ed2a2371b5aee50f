#include <torc/http/headers.hpp>

#include <optional>
#include <utility>

#include <torc/http/message.hpp>
#include <torc/http/parser.hpp>

#include "fuzz.hpp"

// Theory of operation. Each line of the input is something done to a `Headers`, and to a plain list of pairs that does
// the same in the simplest way:
//
//     +name:value    add           -name          remove        @xx:xxx  set the name of one field (that with the
//     number =name:value    set           ?name:token    has_token              of letters) to the value of another,
//     both as lent !              clear         ~              copy and move          by the object itself
//
// The byte 0x1e stands for a line feed in names and values. Required: both stay the same; what may not stand in a
// message does not get in, and leaves everything as it was; and a head with these headers is read as it was written.

namespace torc::fuzz {
namespace {

using http::Headers;
using Pair = std::pair<std::string, std::string>;

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c | 0x20) : c; }

bool is_same_word(std::string_view one, std::string_view other) {
    return std::ranges::equal(one, other, {}, lower, lower);
}

std::string trim(const std::string& text) {
    const std::size_t begin = text.find_first_not_of(" \t");
    return begin == text.npos ? std::string{} : text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

class Model {
   public:
    static bool may_stand(const std::string& name, const std::string& value) {
        constexpr std::string_view more = "!#$%&'*+-.^_`|~";
        const bool token = !name.empty() && std::ranges::all_of(name, [&](char c) {
            return (c >= '0' && c <= '9') || ((c | 0x20) >= 'a' && (c | 0x20) <= 'z') || more.find(c) != more.npos;
        });
        return token &&
               std::ranges::none_of(value, [](unsigned char c) { return (c < 0x20 && c != '\t') || c == 0x7f; });
    }

    void add(const std::string& name, const std::string& value) { fields.emplace_back(name, trim(value)); }

    void set(const std::string& name, const std::string& value) {
        const auto is_it = [&](const Pair& field) { return is_same_word(field.first, name); };
        const auto first = std::ranges::find_if(fields, is_it);
        if (first == fields.end()) {
            add(name, value);
            return;
        }
        *first = {name, trim(value)};
        fields.erase(std::remove_if(first + 1, fields.end(), is_it), fields.end());
    }

    std::size_t remove(const std::string& name) {
        return std::erase_if(fields, [&](const Pair& field) { return is_same_word(field.first, name); });
    }

    [[nodiscard]] std::vector<std::string> values(const std::string& name) const {
        std::vector<std::string> found;
        for (const auto& [field, value] : fields) {
            if (is_same_word(field, name)) found.push_back(value);
        }
        return found;
    }

    [[nodiscard]] bool has_token(const std::string& name, const std::string& token) const {
        for (std::string value : values(name)) {
            value += ',';
            for (std::size_t begin = 0, end = 0; (end = value.find(',', begin)) != value.npos; begin = end + 1) {
                const std::string member = value.substr(begin, end - begin);
                // A list that ends with a comma has no empty member behind it.
                if (member.empty() && end + 1 == value.size()) continue;
                if (is_same_word(trim(member.substr(0, member.find(';'))), token)) return true;
            }
        }
        return false;
    }

    std::vector<Pair> fields;
};

struct Both {
    Headers headers;
    Model model;

    void require_same(const std::string& asked) const {
        require(headers.size() == model.fields.size(), "there are as many fields as were put in");
        require(headers.empty() == model.fields.empty(), "empty means that there is no field");
        std::size_t index = 0;
        for (const auto& [name, value] : headers) {
            const auto& [model_name, model_value] = model.fields[index++];
            fuzz::require_same(model_name, name, "names are as they were given, in their order");
            fuzz::require_same(model_value, value, "values are as they were given, in their order");
        }
        const std::vector<std::string> values = model.values(asked);
        const std::vector<std::string_view> found = headers.get_all(asked);
        require(std::ranges::equal(values, found), "all values of a name are found");
        require(headers.count(asked) == values.size() && headers.contains(asked) == !values.empty(),
                "they are counted");
        require(headers.get(asked).has_value() == !values.empty(), "a name that is there is found");
        fuzz::require_same(values.empty() ? "none" : values.front(), headers.get_or(asked, "none"),
                           "the first of a name is found");
    }

    /// Applies `change` to both, if the header may be there; otherwise sees that it is refused and nothing happens.
    template <class Change>
    void put(const std::string& name, const std::string& value, Change change) {
        const bool fine = Model::may_stand(name, trim(value));
        require(Headers::fault_of(name, trim(value)).empty() == fine, "what is at fault is known beforehand");
        require(is_printable(Headers::fault_of(name, value)), "a fault is a line of text");
        try {
            change(headers);
            require(fine, "what may not stand in a message is refused", name + ": " + value);
            change(model);
        } catch (const Error& error) {
            require(!fine && error.code() == http::errc::bad_header, "what may stand in a message is taken",
                    error.what());
        }
    }
};

Pair pair_of(std::string_view words) {
    const std::size_t colon = std::min(words.find(':'), words.size());
    Pair pair{words.substr(0, colon), words.substr(std::min(colon + 1, words.size()))};
    std::ranges::replace(pair.first, '\x1e', '\n');
    std::ranges::replace(pair.second, '\x1e', '\n');
    return pair;
}

void require_readable(const Headers& headers) {
    http::RequestHead head;
    head.headers = headers;
    std::string written;
    require(append_head(written, head).has_value(), "a head can be written with any headers");
    http::Limits limits;
    limits.max_head_bytes = limits.max_line_bytes = limits.max_headers = std::size_t{1} << 20;
    http::Parser parser{http::Parser::role::request, {limits, false}};
    const auto step = parser.feed(std::as_bytes(std::span{written}));
    if (!step) {
        require(step.error().code() == http::errc::bad_framing, "only headers that frame a body are refused in a head",
                step.error().what());
        return;
    }
    require(step->what == http::Parser::event::head && step->consumed_bytes == written.size(),
            "a head ends where it ends");
    const Headers& read = parser.request().headers;
    require(std::ranges::equal(read, headers,
                               [](const Headers::Field& a, const Headers::Field& b) {
                                   return a.name == b.name && a.value == b.value;
                               }),
            "a head is read as it was written", written);
}

void run(Input input) {
    Both both;
    std::string last = "Host";
    while (!input.empty()) {
        const std::string_view line = input.line();
        if (line.empty()) continue;
        auto [name, value] = pair_of(line.substr(1));
        switch (line[0]) {
            case '+': both.put(name, value, [&](auto& headers) { headers.add(name, value); }); break;
            case '=': both.put(name, value, [&](auto& headers) { headers.set(name, value); }); break;
            case '-':
                require(both.headers.remove(name) == both.model.remove(name), "as many are removed as there were");
                break;
            case '?':
                require(both.headers.has_token(name, value) == both.model.has_token(name, value),
                        "a token is found in a list", name + ": " + value);
                break;
            case '@': {
                if (both.headers.empty()) continue;
                const std::string_view lent = both.headers[name.size() % both.headers.size()].name;
                const std::string_view lent_value = both.headers[value.size() % both.headers.size()].value;
                name = lent;
                const std::string copy{lent_value};
                both.headers.set(lent, lent_value);
                both.model.set(name, copy);
                break;
            }
            case '!':
                both.headers.clear();
                both.model.fields.clear();
                break;
            case '~': {
                Headers copy = both.headers;
                both.headers = std::move(copy);
                break;
            }
            default: continue;
        }
        both.require_same(name);
        both.require_same(std::exchange(last, name));
    }
    require_readable(both.headers);
}

}  // namespace
}  // namespace torc::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    torc::fuzz::run({data, size});
    return 0;
}
