#pragma once

#include <string_view>

namespace torc::http {

/// The registry's words for a status: "Not Found" for 404; empty for one that is not registered.
std::string_view reason_phrase(int status) noexcept;

/// 301, 302, 303, 307 and 308: those that name another place to ask. 300, 304, 305 and 306 are not followed by anyone.
constexpr bool is_redirect(int status) noexcept {
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

/// No response with this status has a body, whatever its headers say: 1xx, 204 and 304.
constexpr bool is_bodiless(int status) noexcept { return status / 100 == 1 || status == 204 || status == 304; }

}  // namespace torc::http
