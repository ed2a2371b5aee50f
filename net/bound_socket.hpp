#pragma once

#include <sys/socket.h>

#include <torc/net/address.hpp>
#include <torc/runtime/driver.hpp>
#include <torc/runtime/error.hpp>
#include <torc/runtime/executor.hpp>

namespace torc::net {

/// A socket that has just been bound, and where.
struct BoundSocket {
    descriptor file;
    Address local;
};

/// Binds a socket to `address`; `what` says the rest.
/// Errors: `Error` with `operation` and the address.
inline BoundSocket bind_socket(Driver& driver, const Address& address, const char* operation, binding what) {
    what.address = address.data();
    what.address_bytes = address.size();
    BoundSocket bound;
    if (const int result = driver.bind(what, bound.file); result < 0) {
        throw error_from_result(result, phase::none, operation).with_peer(address.to_string());
    }
    sockaddr_storage name{};
    std::uint32_t size = sizeof name;
    auto* const generic = reinterpret_cast<sockaddr*>(&name);
    // The name of a socket that was bound this moment is always there.
    if (driver.local_address(bound.file, generic, &size) == 0) bound.local = Address::from_sockaddr(generic, size);
    return bound;
}

/// Makes the record that owns a descriptor from now on. A descriptor that there is no memory for is closed.
template <class Record, class... Rest>
Record* take_over(Executor& executor, descriptor file, const Rest&... rest) {
    try {
        return new Record{executor, file, rest...};
    } catch (...) {
        if (file.open()) executor.driver().discard(file);
        throw;
    }
}

}  // namespace torc::net
