// What suspended tasks hold: `bench-memory-tasks task|pair|check` tells bytes and frames of a task that waits, of one
// that waits for another, or of a check of a site.
//
// The heap is asked before and after a great many of them were started. One kind for each process, because frames that
// were given up are kept for others.

#include <malloc.h>

#include <cstdio>
#include <torc/http.hpp>
#include <vector>

using namespace torc;

namespace {

constexpr std::size_t many = 100'000;
constexpr std::size_t checks = 1'000;

struct Held {
    std::size_t bytes = ::mallinfo2().uordblks;
    std::ptrdiff_t frames = Executor::here().statistics().frames;
};

void report(const char* what, const Held& before, std::size_t count) {
    const Held now;
    std::printf("{\"what\": \"%s\", \"bytes\": %.1f, \"frames\": %.2f}\n", what,
                static_cast<double>(now.bytes - before.bytes) / static_cast<double>(count),
                static_cast<double>(now.frames - before.frames) / static_cast<double>(count));
}

task<> wait_for(event& what) { co_await what.wait(); }
task<> wait_for_another(event& what) { co_await wait_for(what); }

/// `make` gives the task of which `count` are started and suspended.
template <class Make>
task<> hold(const char* what, std::size_t count, Make make) {
    co_await with_scope([&](scope& here) -> task<> {
        const Held before;
        for (std::size_t each = 0; each < count; ++each) here.spawn(make());
        co_await sleep_for(std::chrono::milliseconds{300});  // until all of them are where they wait
        report(what, before, count);
        here.cancel();
    });
}

/// Checks of a server that takes connections and never says anything.
task<> hold_checks() {
    net::TcpListener silent = net::TcpListener::bind(net::Address::loopback(0));
    const std::string url = "http://" + silent.local().to_string() + "/";
    std::vector<net::TcpStream> taken;
    taken.reserve(2 * checks);
    auto take = [&]() -> task<> {
        for (;;) taken.push_back(co_await silent.accept());
    };
    auto check = [&url]() -> task<> {
        http::AsyncSession session{url};
        static_cast<void>(co_await session);
    };
    co_await with_scope([&](scope& here) -> task<> {
        here.spawn(take());
        co_await hold("a check that waits for its answer, with the connection it waits at", checks, check);
        here.cancel();
    });
}

task<> measure(std::string_view kind) {
    event never;
    if (kind == "task") co_await hold("a suspended task", many, [&] { return wait_for(never); });
    if (kind == "pair") co_await hold("a task that waits for another", many, [&] { return wait_for_another(never); });
    if (kind == "check") co_await hold_checks();
}

}  // namespace

int main(int count, char** arguments) { return run(measure(count > 1 ? arguments[1] : "")); }
