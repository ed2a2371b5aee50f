#pragma once

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <iterator>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <torc/http/error.hpp>
#include <torc/runtime/pool_allocator.hpp>

namespace torc::http {

/// The headers of a message: ordered, repeatable, found without regard to case. All text lies in one buffer, a small
/// table beside it says where. Nothing that may not stand in a message can get in: what is sent is what was meant.
/// Lifetime: the views it gives stay valid until it is modified, moved from or destroyed.
/// Errors:   `bad_header` for a name that is not a token, or a value with a control byte (CR, LF and NUL among them).
class Headers {
   public:
    struct Field {
        std::string_view name;
        std::string_view value;
    };
    class const_iterator;

    Headers() = default;
    Headers(std::initializer_list<Field> fields);

    /// Appends a field, whether or not one of this name is there. The value is trimmed of spaces and tabs.
    void add(std::string_view name, std::string_view value);

    /// Replaces the first field of this name and removes its others; appends it where there is none.
    void set(std::string_view name, std::string_view value);

    /// Removes every field of this name and says how many there were.
    std::size_t remove(std::string_view name);
    void clear() noexcept;

    /// The first value of this name; `get_or` answers with `otherwise` where there is none.
    [[nodiscard]] std::optional<std::string_view> get(std::string_view name) const noexcept;
    [[nodiscard]] std::string_view get_or(std::string_view name, std::string_view otherwise) const noexcept;
    [[nodiscard]] std::vector<std::string_view> get_all(std::string_view name) const;
    [[nodiscard]] bool contains(std::string_view name) const noexcept;
    [[nodiscard]] std::size_t count(std::string_view name) const noexcept;

    /// True if one of the comma-separated members of the fields `name` is `token`, ignoring case and parameters:
    /// `has_token("Connection", "close")`.
    [[nodiscard]] bool has_token(std::string_view name, std::string_view token) const noexcept;

    [[nodiscard]] std::size_t size() const noexcept { return entries_.size(); }
    [[nodiscard]] bool empty() const noexcept { return entries_.empty(); }
    [[nodiscard]] Field operator[](std::size_t index) const noexcept {
        const Entry& entry = entries_[index];
        return {{buffer_.data() + entry.name, entry.name_size}, {buffer_.data() + entry.value, entry.value_size}};
    }
    [[nodiscard]] const_iterator begin() const noexcept;
    [[nodiscard]] const_iterator end() const noexcept;

    /// What is wrong with a name or a value, as a sentence; empty if nothing is.
    [[nodiscard]] static std::string fault_of(std::string_view name, std::string_view value);

   private:
    friend class HeadReader;

    struct Entry {
        std::uint32_t name;
        std::uint32_t name_size;
        std::uint32_t value;
        std::uint32_t value_size;
    };

    Entry store(std::string_view name, std::string_view value);
    void compact();

    // A parsed head is adopted as it was received, so the buffer may hold more than the table names.
    torc::detail::pooled_string buffer_;
    torc::detail::pooled_vector<Entry> entries_;
    std::size_t unused_bytes_ = 0;
};

/// Walks the fields in the order they were received or added.
class Headers::const_iterator {
   public:
    using iterator_category = std::input_iterator_tag;
    using value_type = Field;
    using difference_type = std::ptrdiff_t;
    using pointer = void;
    using reference = Field;

    const_iterator() = default;
    const_iterator(const Headers* headers, std::size_t index) noexcept : headers_(headers), index_(index) {}

    Field operator*() const noexcept { return (*headers_)[index_]; }
    const_iterator& operator++() noexcept {
        ++index_;
        return *this;
    }
    const_iterator operator++(int) noexcept {
        const_iterator before = *this;
        ++index_;
        return before;
    }
    bool operator==(const const_iterator&) const noexcept = default;

   private:
    const Headers* headers_ = nullptr;
    std::size_t index_ = 0;
};

inline Headers::const_iterator Headers::begin() const noexcept { return {this, 0}; }
inline Headers::const_iterator Headers::end() const noexcept { return {this, entries_.size()}; }

}  // namespace torc::http
