#pragma once

#include <system_error>

#include <torc/net/address.hpp>

namespace torc::net {

/// What became of an attempt at one address.
[[nodiscard]] Error connect_error(std::error_code code, const Address& peer);

}  // namespace torc::net
