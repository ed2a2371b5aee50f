// The program of the guide's first page: two sites, checked at the same time.

#include <fmt/core.h>
#include <torc/http.hpp>

using namespace torc;

// clang-format off
task<> check(std::string url) {
    http::AsyncSession session{url};
    http::Response& response = co_await session;                 // connect, TLS, GET
    fmt::print("{}: status -> {}\n", url, response.status());
    std::string html = co_await response.text();
    fmt::print("{}: type -> {}\n", url, trim(html.substr(0, 17)));
}   // the close is submitted to the ring here; check() completes when the socket is closed

task<> check_both() {
    co_await gather(check("https://realpython.com"), check("https://pycoders.com"));
}

int main() { return torc::run(check_both()); }
