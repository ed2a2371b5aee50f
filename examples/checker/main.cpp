// torc-check: checks web sites, many at once.

#include <fmt/format.h>

#include <exception>

#include <torc/runtime/run.hpp>

#include "run.hpp"

namespace {

void print_statistics() {
    torc::Executor& executor = torc::Executor::here();
    const torc::Statistics counted = executor.statistics();
    fmt::print(stderr,
               "torc-check: {} turns of the loop on {}, {} operations, {} resumes of tasks, {} sockets closed\n",
               counted.turns, executor.driver().name(), counted.submitted, counted.resumes, counted.closes);
}

torc::task<int> program(checker::Options options, checker::Input& input, checker::Console& console) {
    const bool with_statistics = options.statistics;
    try {
        int status = 0;
        if (options.wants_demo()) {
            status = co_await check_demo(std::move(options), console);
        } else {
            status = co_await check_all(std::move(options), input, console);
        }
        if (with_statistics) print_statistics();
        co_return status;
    } catch (const torc::Error& error) {  // not a site's, but this program's own: it can not read, write or begin
        console.error(fmt::format("torc-check: {}\n", error.what()));
    }
    co_return 1;
}

}  // namespace

int main(int count, char** arguments) {
    try {
        std::optional<checker::Options> options = checker::parse_options(count, arguments);
        if (!options) return 0;
        checker::Input input{*options};
        options->concurrency = checker::fit_descriptors(options->concurrency);
        checker::Console console;
        const int status = torc::run(program(std::move(*options), input, console));
        console.finish();
        return status;
    } catch (const checker::UsageError& error) {
        fmt::print(stderr, "torc-check: {}\n", error.what());
        return 2;
    }
}
