#include <openssl/rand.h>

#include <mutex>
#include <span>

#include <torc/runtime/executor.hpp>

#include "tls_random.hpp"

// Theory of operation. On the thread of a simulated executor random bytes come from its driver; everywhere else from
// OpenSSL as always. Ours is installed when a simulated executor first needs TLS, so other programs never have it.

// The one place in OpenSSL 3 where randomness can be replaced for a whole process is the interface of OpenSSL 1.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace torc::net::tls {
namespace {

int random_bytes(unsigned char* bytes, int count) {
    Executor* const executor = Executor::current();
    if (executor == nullptr || !executor->driver().simulated()) return RAND_OpenSSL()->bytes(bytes, count);
    executor->driver().fill_random(std::as_writable_bytes(std::span{bytes, static_cast<std::size_t>(count)}));
    return 1;
}

int status() { return RAND_OpenSSL()->status(); }

}  // namespace

void use_simulated_randomness() {
    Executor* const executor = Executor::current();
    if (executor == nullptr || !executor->driver().simulated()) return;
    static const RAND_METHOD method{nullptr, random_bytes, nullptr, nullptr, random_bytes, status};
    static std::once_flag installed;
    std::call_once(installed, [] { RAND_set_rand_method(&method); });
}

}  // namespace torc::net::tls

#pragma GCC diagnostic pop
