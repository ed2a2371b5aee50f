#pragma once

#include <string>
#include <string_view>

#include <torc/runtime/error.hpp>

// The host of a URL, from what was written to what is connected to. Private to the library.
namespace torc::http {

struct Host {
    std::string text;  ///< lower-case ASCII name, dotted IPv4 address, or IPv6 address in brackets
    bool ipv4 = false;
};

/// `written` is not empty and is what stood between userinfo and port.
result<Host> parse_host(std::string_view written);

/// Replaces every %XX by its byte; a '%' without two hex digits stays.
std::string percent_decode(std::string_view text);

}  // namespace torc::http
