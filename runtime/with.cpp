#include <torc/runtime/with.hpp>

namespace torc::detail {

void rethrow_with(std::exception_ptr body, const Error* close) {
    if (close == nullptr) std::rethrow_exception(body);
    try {
        std::rethrow_exception(body);
    } catch (Error& error) {
        error.attach(std::make_exception_ptr(*close));
        throw;
    }
}

}  // namespace torc::detail
