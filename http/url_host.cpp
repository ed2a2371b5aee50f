#include "url_host.hpp"

#include <idn2.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <vector>

#include "bytes.hpp"

// Theory of operation. The host parser of the WHATWG URL standard for special schemes. In brackets it is an IPv6
// address. Otherwise it is percent-decoded, made lower case (ASCII) or mapped and encoded by IDNA 2008 with UTS #46
// non-transitional processing (libidn2), checked against the characters no name may contain, and if its last label is
// a number it has to be an IPv4 address in one of the forms inet_aton() knows: decimal, octal and hexadecimal parts,
// the last one standing for all bytes that remain. Taking "http://0x7f.1/" for a name would let it slip past a check
// for addresses and then reach one.

namespace torc::http {
namespace {

constexpr ByteSet forbidden_in_names = ByteSet{}.range(0, 0x20).these("#/:<>?@[\\]^|%\x7f");

std::unexpected<Error> bad_host(std::string words) { return fail(errc::bad_url, phase::none, std::move(words)); }

bool is_ascii(std::string_view text) {
    for (const char c : text) {
        if (static_cast<std::uint8_t>(c) >= 0x80) return false;
    }
    return true;
}

// One part of an IPv4 address; nothing if it is not a number. Values beyond 2^32 are all alike: too large.
std::optional<std::uint64_t> parse_ipv4_part(std::string_view part) {
    constexpr std::uint64_t too_large = std::uint64_t{1} << 33;
    if (part.empty()) return std::nullopt;
    unsigned base = 10;
    if (part.size() >= 2 && part[0] == '0' && to_lower(part[1]) == 'x') {
        base = 16;
        part.remove_prefix(2);
    } else if (part.size() >= 2 && part[0] == '0') {
        base = 8;
        part.remove_prefix(1);
    }
    std::uint64_t value = 0;
    for (const char c : part) {
        const int digit = hex_value(c);
        if (digit < 0 || static_cast<unsigned>(digit) >= base) return std::nullopt;
        value = std::min(too_large, value * base + static_cast<unsigned>(digit));
    }
    return value;
}

std::vector<std::string_view> split_labels(std::string_view name) {
    std::vector<std::string_view> labels;
    for (std::size_t dot = 0; (dot = name.find('.')) != std::string_view::npos; name.remove_prefix(dot + 1)) {
        labels.push_back(name.substr(0, dot));
    }
    labels.push_back(name);
    if (labels.back().empty() && labels.size() > 1) labels.pop_back();
    return labels;
}

bool ends_in_number(const std::vector<std::string_view>& labels) {
    const std::string_view last = labels.back();
    if (last.empty()) return false;
    if (std::ranges::all_of(last, is_digit)) return true;
    return parse_ipv4_part(last).has_value();
}

result<std::uint32_t> parse_ipv4(std::string_view host, const std::vector<std::string_view>& labels) {
    const auto not_an_address = [&](std::string_view why) {
        return bad_host("the host " + in_quotes(host) +
                        " ends in a number but is not an IPv4 address: " + std::string{why});
    };
    if (labels.size() > 4) return not_an_address("it has more than four parts");
    std::uint64_t address = 0;
    for (std::size_t i = 0; i < labels.size(); ++i) {
        const auto part = parse_ipv4_part(labels[i]);
        if (!part) return not_an_address("the part " + in_quotes(labels[i]) + " is not a number");
        const bool last = i + 1 == labels.size();
        const std::uint64_t bound = last ? std::uint64_t{1} << (8 * (5 - labels.size())) : 256;
        if (*part >= bound) return not_an_address("the part " + in_quotes(labels[i]) + " is too large");
        address += last ? *part : *part << (8 * (3 - i));
    }
    return static_cast<std::uint32_t>(address);
}

std::string ipv4_text(std::uint32_t address) {
    return std::to_string(address >> 24) + '.' + std::to_string(address >> 16 & 255) + '.' +
           std::to_string(address >> 8 & 255) + '.' + std::to_string(address & 255);
}

// The strict dotted form that may end an IPv6 address: four decimal parts without leading zeros.
std::optional<std::uint32_t> parse_dotted_quad(std::string_view text) {
    std::uint32_t address = 0;
    for (int part = 0; part < 4; ++part) {
        std::uint32_t value = 0;
        std::size_t digits = 0;
        while (digits < text.size() && is_digit(text[digits])) {
            if (digits > 0 && value == 0) return std::nullopt;
            value = value * 10 + static_cast<std::uint32_t>(text[digits++] - '0');
            if (value > 255) return std::nullopt;
        }
        if (digits == 0) return std::nullopt;
        address = address << 8 | value;
        text.remove_prefix(digits);
        if (part == 3) break;
        if (text.empty() || text[0] != '.') return std::nullopt;
        text.remove_prefix(1);
    }
    return text.empty() ? std::optional{address} : std::nullopt;
}

using Pieces = std::array<std::uint16_t, 8>;

std::optional<Pieces> parse_ipv6(std::string_view text) {
    Pieces pieces{};
    std::size_t count = 0;
    std::optional<std::size_t> gap;
    if (text.starts_with("::")) {
        gap = 0;
        text.remove_prefix(2);
    }
    while (!text.empty()) {
        if (count == 8) return std::nullopt;
        std::uint32_t value = 0;
        std::size_t digits = 0;
        while (digits < text.size() && digits < 4 && hex_value(text[digits]) >= 0) {
            value = value * 16 + static_cast<std::uint32_t>(hex_value(text[digits++]));
        }
        if (digits < text.size() && text[digits] == '.') {
            const auto quad = count <= 6 ? parse_dotted_quad(text) : std::nullopt;
            if (!quad) return std::nullopt;
            pieces[count++] = static_cast<std::uint16_t>(*quad >> 16);
            pieces[count++] = static_cast<std::uint16_t>(*quad & 0xffff);
            break;
        }
        if (digits == 0) return std::nullopt;
        pieces[count++] = static_cast<std::uint16_t>(value);
        text.remove_prefix(digits);
        if (text.empty()) break;
        if (text[0] != ':') return std::nullopt;
        text.remove_prefix(1);
        if (text.empty()) return std::nullopt;
        if (text[0] == ':') {
            if (gap) return std::nullopt;
            gap = count;
            text.remove_prefix(1);
        }
    }
    if (gap) {
        if (count == 8) return std::nullopt;
        std::move_backward(pieces.begin() + static_cast<std::ptrdiff_t>(*gap),
                           pieces.begin() + static_cast<std::ptrdiff_t>(count), pieces.end());
        std::fill_n(pieces.begin() + static_cast<std::ptrdiff_t>(*gap), 8 - count, std::uint16_t{0});
    } else if (count != 8) {
        return std::nullopt;
    }
    return pieces;
}

// RFC 5952: the longest run of two or more zeros, the first of equals, becomes "::".
std::string ipv6_text(const Pieces& pieces) {
    std::size_t best = 8;
    std::size_t best_size = 1;
    for (std::size_t i = 0; i < 8;) {
        std::size_t size = 0;
        while (i + size < 8 && pieces[i + size] == 0) ++size;
        if (size > best_size) {
            best = i;
            best_size = size;
        }
        i += size + 1;
    }
    std::string text = "[";
    for (std::size_t i = 0; i < 8; ++i) {
        if (i == best) {
            text += "::";
            i += best_size - 1;
            continue;
        }
        if (text.back() != ':' && i != 0) text += ':';
        constexpr std::string_view digits = "0123456789abcdef";
        bool shown = false;
        for (int shift = 12; shift >= 0; shift -= 4) {
            const unsigned digit = pieces[i] >> shift & 15U;
            shown = shown || digit != 0 || shift == 0;
            if (shown) text += digits[digit];
        }
    }
    return text + ']';
}

result<std::string> to_ascii(const std::string& name) {
    if (is_ascii(name)) {
        std::string lower = name;
        std::ranges::transform(lower, lower.begin(), to_lower);
        return lower;
    }
    char* encoded = nullptr;
    const int status = idn2_to_ascii_8z(name.c_str(), &encoded, IDN2_NFC_INPUT | IDN2_NONTRANSITIONAL);
    const std::unique_ptr<char, decltype(&std::free)> owner{encoded, &std::free};
    if (status != IDN2_OK || name.find('\0') != std::string::npos) {
        const std::string why = status != IDN2_OK ? idn2_strerror(status) : "it contains a NUL byte";
        return bad_host("the host " + in_quotes(name) + " is not a valid international name: " + why);
    }
    return std::string{encoded};
}

}  // namespace

std::string percent_decode(std::string_view text) {
    std::string bytes;
    bytes.reserve(text.size());
    for (std::size_t i = 0; i < text.size(); ++i) {
        const bool escape =
            text[i] == '%' && i + 2 < text.size() && hex_value(text[i + 1]) >= 0 && hex_value(text[i + 2]) >= 0;
        if (escape) {
            bytes += static_cast<char>(hex_value(text[i + 1]) * 16 + hex_value(text[i + 2]));
            i += 2;
        } else {
            bytes += text[i];
        }
    }
    return bytes;
}

result<Host> parse_host(std::string_view written) {
    if (written.front() == '[') {
        if (written.back() != ']')
            return bad_host("the IPv6 address " + in_quotes(written) + " has no closing bracket");
        const auto pieces = parse_ipv6(written.substr(1, written.size() - 2));
        if (!pieces) return bad_host(in_quotes(written) + " is not an IPv6 address");
        return Host{ipv6_text(*pieces), false};
    }
    result<std::string> name = to_ascii(percent_decode(written));
    if (!name) return std::unexpected{name.error()};
    if (name->empty())
        return bad_host("the host " + in_quotes(written) + " is empty once its invisible characters are dropped");
    for (const char c : *name) {
        if (forbidden_in_names(c)) {
            return bad_host("the host " + in_quotes(written) + " contains " + in_quotes({&c, 1}) +
                            ", which no host name may contain");
        }
    }
    const auto labels = split_labels(*name);
    if (!ends_in_number(labels)) return Host{std::move(*name), false};
    const result<std::uint32_t> address = parse_ipv4(*name, labels);
    if (!address) return std::unexpected{address.error()};
    return Host{ipv4_text(*address), true};
}

}  // namespace torc::http
