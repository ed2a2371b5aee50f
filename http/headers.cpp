#include <torc/http/headers.hpp>

#include <algorithm>
#include <functional>
#include <limits>

#include <torc/http/method.hpp>

#include "bytes.hpp"

// Theory of operation. Names and values are appended to one buffer; a table of offsets keeps their order. Removing or
// replacing only forgets the table's entry; when more of the buffer is forgotten than is in use, it is rewritten. A
// search is a walk over the table comparing lengths first: heads have a dozen fields, and no index beats that.
//
// Validation happens on the way in and nowhere else, so that whoever writes a head out need not look again.

namespace torc::http {

Headers::Headers(std::initializer_list<Field> fields) {
    for (const Field& field : fields) add(field.name, field.value);
}

std::string Headers::fault_of(std::string_view name, std::string_view value) {
    if (name.empty()) return "a header's name is empty";
    for (const char c : name) {
        if (!is_token_char(c))
            return "the header name " + in_quotes(name) + " contains a character that is not allowed in names";
    }
    for (const char c : value) {
        if (text_chars(c)) continue;
        if (c == '\r' || c == '\n') return "the value of the header " + in_quotes(name) + " contains a line break";
        if (c == '\0') return "the value of the header " + in_quotes(name) + " contains a NUL byte";
        return "the value of the header " + in_quotes(name) + " contains a control character";
    }
    return {};
}

Headers::Entry Headers::store(std::string_view name, std::string_view value) {
    value = trim_spaces(value);
    if (!is_token(name) || !is_text(value)) {
        throw Error{make_error_code(errc::bad_header), phase::none, {}, fault_of(name, value)};
    }
    if (buffer_.size() + name.size() + value.size() > std::numeric_limits<std::uint32_t>::max()) {
        throw Error{make_error_code(errc::bad_header), phase::none, {}, "the headers are larger than 4 GiB together"};
    }
    // The text may lie in our own buffer, which is about to move.
    const std::less<const char*> before;
    const auto ours = [&](std::string_view text) {
        return !before(text.data(), buffer_.data()) && before(text.data(), buffer_.data() + buffer_.size());
    };
    if (ours(name) || ours(value)) {
        const std::string name_copy{name};
        const std::string value_copy{value};
        return store(name_copy, value_copy);
    }
    Entry entry{};
    entry.name = static_cast<std::uint32_t>(buffer_.size());
    entry.name_size = static_cast<std::uint32_t>(name.size());
    entry.value = static_cast<std::uint32_t>(buffer_.size() + name.size());
    entry.value_size = static_cast<std::uint32_t>(value.size());
    append_all(buffer_, name, value);
    return entry;
}

void Headers::add(std::string_view name, std::string_view value) {
    const Entry entry = store(name, value);
    entries_.push_back(entry);
}

void Headers::set(std::string_view name, std::string_view value) {
    if (!contains(name)) return add(name, value);
    const std::string key{name};
    const Entry fresh = store(name, value);
    bool placed = false;
    std::erase_if(entries_, [&](Entry& entry) {
        if (!equals_ignoring_case({buffer_.data() + entry.name, entry.name_size}, key)) return false;
        unused_bytes_ += entry.name_size + entry.value_size;
        if (placed) return true;
        entry = fresh;
        placed = true;
        return false;
    });
    compact();
}

std::size_t Headers::remove(std::string_view name) {
    const std::size_t removed = std::erase_if(entries_, [&](const Entry& entry) {
        if (!equals_ignoring_case({buffer_.data() + entry.name, entry.name_size}, name)) return false;
        unused_bytes_ += entry.name_size + entry.value_size;
        return true;
    });
    compact();
    return removed;
}

void Headers::clear() noexcept {
    buffer_.clear();
    entries_.clear();
    unused_bytes_ = 0;
}

void Headers::compact() {
    constexpr std::size_t worth_it_bytes = 256;
    if (unused_bytes_ < worth_it_bytes || unused_bytes_ * 2 < buffer_.size()) return;
    Headers packed;
    packed.buffer_.reserve(buffer_.size() - std::min(unused_bytes_, buffer_.size()));
    for (const Field field : *this) packed.entries_.push_back(packed.store(field.name, field.value));
    *this = std::move(packed);
}

std::optional<std::string_view> Headers::get(std::string_view name) const noexcept {
    for (const Field field : *this) {
        if (equals_ignoring_case(field.name, name)) return field.value;
    }
    return std::nullopt;
}

std::string_view Headers::get_or(std::string_view name, std::string_view otherwise) const noexcept {
    return get(name).value_or(otherwise);
}

std::vector<std::string_view> Headers::get_all(std::string_view name) const {
    std::vector<std::string_view> values;
    for (const Field field : *this) {
        if (equals_ignoring_case(field.name, name)) values.push_back(field.value);
    }
    return values;
}

bool Headers::contains(std::string_view name) const noexcept {
    return std::any_of(begin(), end(), [&](const Field& field) { return equals_ignoring_case(field.name, name); });
}

std::size_t Headers::count(std::string_view name) const noexcept {
    return static_cast<std::size_t>(
        std::count_if(begin(), end(), [&](const Field& field) { return equals_ignoring_case(field.name, name); }));
}

bool Headers::has_token(std::string_view name, std::string_view token) const noexcept {
    for (const Field field : *this) {
        if (!equals_ignoring_case(field.name, name)) continue;
        std::string_view rest = field.value;
        while (!rest.empty()) {
            const std::size_t comma = std::min(rest.find(','), rest.size());
            const std::string_view member = rest.substr(0, comma);
            if (equals_ignoring_case(trim_spaces(member.substr(0, member.find(';'))), token)) return true;
            rest.remove_prefix(std::min(comma + 1, rest.size()));
        }
    }
    return false;
}

}  // namespace torc::http
