#pragma once

namespace torc::fuzz {

/// From here on OpenSSL's random numbers are those of a generator that always begins in the same way.
void begin_randomness();

}  // namespace torc::fuzz
