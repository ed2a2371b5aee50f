#pragma once

#include <system_error>

#include <torc/net/stream.hpp>

namespace torc::net {

/// One attempt at one address, without a limit of time.
[[nodiscard]] task<TcpStream> connect_once(Address address, ConnectOptions options);

[[nodiscard]] Error connect_error(std::error_code code, const Address& peer);

}  // namespace torc::net
