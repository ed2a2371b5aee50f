#include <torc/http/method.hpp>
#include <torc/http/status.hpp>

#include <algorithm>
#include <array>
#include <cstdint>

#include "bytes.hpp"

// Theory of operation. Tables after the IANA registries "HTTP Method Registry" and "HTTP Status Codes". The shortest
// methods come first, for these are what is asked about, and different lengths tell most of the others apart. A method
// is known, and then safe, idempotent or neither. RTSP's methods and HTTP/2's PRI are left out: in an HTTP/1 request
// they mean that somebody speaks another protocol.

namespace torc::http {
namespace {

enum class effect : std::uint8_t { any, idempotent, safe };

struct Row {
    std::string_view name;
    effect what;
};

constexpr std::array methods = {
    Row{"ACL", effect::idempotent},
    Row{"GET", effect::safe},
    Row{"PUT", effect::idempotent},
    Row{"BIND", effect::idempotent},
    Row{"COPY", effect::idempotent},
    Row{"HEAD", effect::safe},
    Row{"LINK", effect::idempotent},
    Row{"LOCK", effect::any},
    Row{"MOVE", effect::idempotent},
    Row{"POST", effect::any},
    Row{"LABEL", effect::idempotent},
    Row{"MERGE", effect::idempotent},
    Row{"MKCOL", effect::idempotent},
    Row{"PATCH", effect::any},
    Row{"PURGE", effect::idempotent},
    Row{"QUERY", effect::safe},
    Row{"TRACE", effect::safe},
    Row{"DELETE", effect::idempotent},
    Row{"NOTIFY", effect::any},
    Row{"REBIND", effect::idempotent},
    Row{"REPORT", effect::safe},
    Row{"SEARCH", effect::safe},
    Row{"SOURCE", effect::any},
    Row{"UNBIND", effect::idempotent},
    Row{"UNLINK", effect::idempotent},
    Row{"UNLOCK", effect::idempotent},
    Row{"UPDATE", effect::idempotent},
    Row{"CHECKIN", effect::idempotent},
    Row{"CONNECT", effect::any},
    Row{"OPTIONS", effect::safe},
    Row{"CHECKOUT", effect::idempotent},
    Row{"M-SEARCH", effect::safe},
    Row{"PROPFIND", effect::safe},
    Row{"PROPPATCH", effect::idempotent},
    Row{"SUBSCRIBE", effect::any},
    Row{"MKACTIVITY", effect::idempotent},
    Row{"MKCALENDAR", effect::idempotent},
    Row{"ORDERPATCH", effect::idempotent},
    Row{"UNCHECKOUT", effect::idempotent},
    Row{"MKWORKSPACE", effect::idempotent},
    Row{"UNSUBSCRIBE", effect::any},
    Row{"MKREDIRECTREF", effect::idempotent},
    Row{"VERSION-CONTROL", effect::idempotent},
    Row{"BASELINE-CONTROL", effect::idempotent},
    Row{"UPDATEREDIRECTREF", effect::idempotent},
};

const Row* find(std::string_view method) noexcept {
    const auto row = std::ranges::find(methods, method, &Row::name);
    return row != methods.end() ? &*row : nullptr;
}

}  // namespace

bool is_token(std::string_view text) noexcept {
    return !text.empty() && std::ranges::all_of(text, [](char c) { return is_token_char(c); });
}

bool is_known_method(std::string_view method) noexcept { return find(method) != nullptr; }

bool is_safe_method(std::string_view method) noexcept {
    const Row* row = find(method);
    return row != nullptr && row->what == effect::safe;
}

bool is_idempotent_method(std::string_view method) noexcept {
    const Row* row = find(method);
    return row != nullptr && row->what != effect::any;
}

std::string_view reason_phrase(int status) noexcept {
    switch (status) {
        case 100: return "Continue";
        case 101: return "Switching Protocols";
        case 102: return "Processing";
        case 103: return "Early Hints";
        case 200: return "OK";
        case 201: return "Created";
        case 202: return "Accepted";
        case 203: return "Non-Authoritative Information";
        case 204: return "No Content";
        case 205: return "Reset Content";
        case 206: return "Partial Content";
        case 207: return "Multi-Status";
        case 208: return "Already Reported";
        case 226: return "IM Used";
        case 300: return "Multiple Choices";
        case 301: return "Moved Permanently";
        case 302: return "Found";
        case 303: return "See Other";
        case 304: return "Not Modified";
        case 305: return "Use Proxy";
        case 307: return "Temporary Redirect";
        case 308: return "Permanent Redirect";
        case 400: return "Bad Request";
        case 401: return "Unauthorized";
        case 402: return "Payment Required";
        case 403: return "Forbidden";
        case 404: return "Not Found";
        case 405: return "Method Not Allowed";
        case 406: return "Not Acceptable";
        case 407: return "Proxy Authentication Required";
        case 408: return "Request Timeout";
        case 409: return "Conflict";
        case 410: return "Gone";
        case 411: return "Length Required";
        case 412: return "Precondition Failed";
        case 413: return "Content Too Large";
        case 414: return "URI Too Long";
        case 415: return "Unsupported Media Type";
        case 416: return "Range Not Satisfiable";
        case 417: return "Expectation Failed";
        case 421: return "Misdirected Request";
        case 422: return "Unprocessable Content";
        case 423: return "Locked";
        case 424: return "Failed Dependency";
        case 425: return "Too Early";
        case 426: return "Upgrade Required";
        case 428: return "Precondition Required";
        case 429: return "Too Many Requests";
        case 431: return "Request Header Fields Too Large";
        case 451: return "Unavailable For Legal Reasons";
        case 500: return "Internal Server Error";
        case 501: return "Not Implemented";
        case 502: return "Bad Gateway";
        case 503: return "Service Unavailable";
        case 504: return "Gateway Timeout";
        case 505: return "HTTP Version Not Supported";
        case 506: return "Variant Also Negotiates";
        case 507: return "Insufficient Storage";
        case 508: return "Loop Detected";
        case 511: return "Network Authentication Required";
        default: return {};
    }
}

}  // namespace torc::http
