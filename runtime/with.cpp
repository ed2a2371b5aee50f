#include <torc/runtime/with.hpp>

namespace torc::detail {

void rethrow_with(std::exception_ptr body, const Error* close) {
    if (close == nullptr) std::rethrow_exception(body);
    try {
        std::rethrow_exception(body);
    } catch (const Error& error) {
        Error both = error;
        both.attach(std::make_exception_ptr(*close));
        throw both;
    }
}

}  // namespace torc::detail
