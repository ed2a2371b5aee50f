#include "randomness.hpp"

#include <openssl/rand.h>

#include <cstdint>

#include "fuzz.hpp"

// Theory of operation. A method set with RAND_set_rand_method() comes before all generators of OpenSSL's providers, for
// public and private numbers alike, so that keys, nonces and tickets are the same in every run. SplitMix64 is random
// enough for a handshake, and of course no more than that.

// RAND_set_rand_method() has no successor that reaches every caller.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wdeprecated-declarations"

namespace torc::fuzz {
namespace {

std::uint64_t state = 0;

int fill(unsigned char* bytes, int size) {
    for (int i = 0; i < size; ++i) {
        state += 0x9e3779b97f4a7c15;
        std::uint64_t mixed = state;
        mixed = (mixed ^ mixed >> 30) * 0xbf58476d1ce4e5b9;
        mixed = (mixed ^ mixed >> 27) * 0x94d049bb133111eb;
        bytes[i] = static_cast<unsigned char>(mixed >> 56);
    }
    return 1;
}

}  // namespace

void begin_randomness() {
    static const RAND_METHOD method = {
        [](const void*, int) { return 1; },          // seed
        fill,                                        // bytes
        nullptr,                                     // cleanup
        [](const void*, int, double) { return 1; },  // add
        fill,                                        // pseudorand
        [] { return 1; },                            // status
    };
    static const bool set = RAND_set_rand_method(&method) == 1;
    require(set, "OpenSSL takes its random numbers from here");
    state = 0;
}

}  // namespace torc::fuzz

#pragma GCC diagnostic pop
