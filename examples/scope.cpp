// A scope: tasks that start more tasks, and are all over when it is left, also when one of them fails.

#include <fmt/core.h>

#include <map>
#include <string>
#include <torc/runtime.hpp>
#include <vector>

using namespace torc;
using namespace std::chrono_literals;

// A small web of pages that lead to each other.
const std::map<std::string, std::vector<std::string>> links = {
    {"home", {"news", "about", "shop"}},
    {"news", {"home", "archive"}},
    {"about", {"home"}},
    {"shop", {"cart", "about"}},
    {"archive", {"news"}},
    {"cart", {"shop", "checkout"}},  // and there is no page "checkout"
};

struct Crawler {
    std::map<std::string, bool> read;  // false while it is being read
    int abandoned = 0;

    task<> visit(scope& crawl, std::string page) {
        if (!read.emplace(page, false).second) co_return;
        try {
            co_await sleep_for(1ms);  // fetching it
            const auto found = links.find(page);
            if (found == links.end()) throw Error{errc::not_found, phase::none, {}, "no page is called " + page};
            for (const std::string& next : found->second) crawl.spawn(visit(crawl, next));
            read[page] = true;
            if (page == "archive") co_await sleep_for(24h);  // a very long page
        } catch (const cancelled&) {
            ++abandoned;  // clean up, and let it go on
            throw;
        }
    }
};

task<> program() {
    Crawler crawler;
    try {
        co_await with_scope([&](scope& crawl) -> task<> { co_await crawler.visit(crawl, "home"); });
        fmt::print("read everything\n");
    } catch (const Error& error) {
        fmt::print("stopped: {}\n", error.what());
    }
    for (const auto& [page, done] : crawler.read) fmt::print("{}: {}\n", page, done ? "read" : "not read");
    fmt::print("{} abandoned, {} tasks left\n", crawler.abandoned, Executor::here().statistics().frames - 1);
}

int main() { return run(program()); }
