#include "fuzz.hpp"
#include "messages.hpp"

// What a server sends, see messages.hpp.

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    torc::fuzz::check_messages(torc::http::Parser::role::response, data, size);
    return 0;
}
