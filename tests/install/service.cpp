// A service outside torc's tree, as small as one can be: it proves that what was installed is enough to build on.
#include <cstdio>
#include <torc/runtime/error.hpp>

int main() {
    const torc::Error error = torc::error_from_result(-111, torc::phase::connect);
    std::puts(error.what());
    return error.where() == torc::phase::connect ? 0 : 1;
}
