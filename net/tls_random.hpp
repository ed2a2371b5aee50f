#pragma once

namespace torc::net::tls {

/// Makes OpenSSL draw from the driver on simulated executors, so that a seed gives the same bytes. Does nothing on a
/// thread that runs none.
void use_simulated_randomness();

}  // namespace torc::net::tls
