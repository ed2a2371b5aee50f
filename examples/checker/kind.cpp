#include <fmt/format.h>

#include <string.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <torc/http/error.hpp>
#include <torc/net/tls_error.hpp>

#include "report.hpp"

// Theory of operation. Names for programs: each is the name of an enumerator, so that who reads the output and who
// reads the headers mean the same. The tables stand in the order of the enumerations; the checks below notice a new
// member.

namespace checker {
namespace {

constexpr std::array<std::string_view, 8> torc_kinds{
    "timed_out", "closed", "busy", "end_of_stream", "invalid_argument", "unsupported", "not_found", "resolver_failed",
};
static_assert(torc_kinds.size() == static_cast<std::size_t>(torc::errc::resolver_failed));

constexpr std::array<std::string_view, 20> http_kinds{
    "bad_url",          "unknown_scheme",      "bad_header",          "bad_message",
    "bad_framing",      "unsupported_version", "unknown_method",      "line_too_long",
    "head_too_large",   "too_many_headers",    "trailers_too_large",  "body_too_large",
    "too_many_interim", "bad_coding",          "expansion_too_large", "too_many_redirects",
    "bad_redirect",     "insecure_redirect",   "unexpected_eof",      "after_close",
};
static_assert(http_kinds.size() == static_cast<std::size_t>(torc::http::errc::after_close));

constexpr std::array<std::string_view, 21> tls_kinds{
    "certificate_expired",
    "certificate_not_yet_valid",
    "wrong_host",
    "self_signed",
    "untrusted_root",
    "missing_intermediate",
    "certificate_revoked",
    "certificate_invalid",
    "no_certificate",
    "client_certificate_required",
    "certificate_refused_by_peer",
    "protocol_version_refused",
    "nothing_in_common",
    "application_protocol_refused",
    "alert_received",
    "not_tls",
    "truncated",
    "bad_record",
    "protocol_error",
    "bad_credentials",
    "bad_option",
};
static_assert(tls_kinds.size() == static_cast<std::size_t>(torc::net::tls_errc::bad_option));

struct SystemKind {
    std::errc code;
    std::string_view name;
};
constexpr SystemKind system_kinds[] = {
    {std::errc::connection_refused, "connection_refused"},
    {std::errc::connection_reset, "connection_reset"},
    {std::errc::connection_aborted, "connection_aborted"},
    {std::errc::timed_out, "timed_out"},
    {std::errc::host_unreachable, "host_unreachable"},
    {std::errc::network_unreachable, "network_unreachable"},
    {std::errc::network_down, "network_down"},
    {std::errc::broken_pipe, "broken_pipe"},
    {std::errc::permission_denied, "permission_denied"},
    {std::errc::operation_not_permitted, "operation_not_permitted"},
    {std::errc::address_not_available, "address_not_available"},
    {std::errc::too_many_files_open, "too_many_files_open"},
    {std::errc::not_enough_memory, "not_enough_memory"},
};

std::string system_kind(int error) {
    for (const SystemKind& each : system_kinds) {
        if (static_cast<int>(each.code) == error) return std::string{each.name};
    }
    if (const char* const name = ::strerrorname_np(error)) return name;
    return fmt::format("errno_{}", error);
}

}  // namespace

std::string kind_of(const std::error_code& code) {
    std::span<const std::string_view> names;
    if (code.category() == torc::torc_category()) names = torc_kinds;
    if (code.category() == torc::http::http_category()) names = http_kinds;
    if (code.category() == torc::net::tls_category()) names = tls_kinds;
    const auto index = static_cast<std::size_t>(code.value()) - 1;
    if (index < names.size()) return std::string{names[index]};
    if (code.category() == std::generic_category() || code.category() == std::system_category()) {
        return system_kind(code.value());
    }
    return fmt::format("{}_{}", code.category().name(), code.value());
}

}  // namespace checker
