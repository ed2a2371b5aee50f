#include <torc/http.hpp>

#include <check.hpp>

#include <optional>
#include <vector>

#include "programs.hpp"

// The site checker against sites that answer, redirect, delay, stay silent, break off, or do not exist. Every check has
// an outcome, in time; a good one has what the site says, and a bad one says in which phase it failed.

namespace torc::test::programs {
namespace {

using namespace std::chrono_literals;

constexpr std::string_view page = "\n<!doctype html>\n<title>A simulated site</title>\n";

task<> answer_page(sim::World& world, http::ServerRequest& request, http::Responder& response) {
    const std::string_view path = request.path();
    if (path == "/away") {
        response.headers().set("Location", "/");
        co_await response.send(302);
    } else if (path == "/round") {
        response.headers().set("Location", "/round");
        co_await response.send(302);
    } else if (path == "/slow") {
        co_await sleep_for(some(world, 3s));
        co_await response.send(200, std::string{page}, "text/html");
    } else if (path == "/silent") {
        co_await sleep_for(10min);
    } else if (path == "/half") {
        response.begin(200, 2 * page.size());
        co_await response.write(page);
        throw Error{errc::closed, phase::none, "site", "it breaks off here"};
    } else {
        co_await response.send(path == "/" ? 200 : 404, std::string{page}, "text/html");
    }
}

task<> serve(sim::World& world) {
    http::ServerOptions options;
    options.on_error = [](const http::ServerFault&) {};
    auto answering = [&world](http::ServerRequest& request, http::Responder& response) {
        return answer_page(world, request, response);
    };
    std::optional<http::Server> server;
    server.emplace(net::TcpListener::bind(net::Address::any(80)), answering, std::move(options));
    static_cast<void>(co_await as_result(server->serve()));
}

task<> check_one(sim::World& world, std::string url) {
    checker::Options options;
    options.timeout = 100ms + some(world, 10s);
    const http::SessionOptions session = checker::session_options(options);
    checker::Target target{url, http::Url::parse(url)};
    const Clock::time_point began = world.now();
    const checker::Outcome outcome = co_await checker::check(std::move(target), "GET", session);
    require(world.now() - began <= options.timeout + 3s, "a check outlasted its limit");
    require(outcome.name == url, "an outcome has another site's name");
    if (outcome.error) {
        require(!outcome.error->message().empty(), "a failed check does not say what happened");
        require(outcome.error->where() != phase::none, "a failed check does not say in which phase");
    } else if (outcome.status == 200) {
        require(outcome.beginning == "<!doctype html>", "a page does not begin as it was served");
        require(outcome.bytes == page.size(), "a page was cut and yet called good");
    } else {
        require(outcome.status == 404 || outcome.status == 408 || outcome.status == 500,
                "a status came that no site sent");
    }
}

task<> check_all(sim::World& world) {
    co_await sleep_for(10ms);
    static constexpr const char* paths[] = {"/", "/away", "/round", "/slow", "/silent", "/half", "/missing"};
    std::vector<std::string> urls;
    for (auto count = world.random().below(20); count > 0; --count) {
        const char* const host = world.random().chance(0.8)   ? "server"
                                 : world.random().chance(0.5) ? "nobody"
                                                              : "10.9.9.9";
        urls.push_back(std::string{"http://"} + host + paths[world.random().below(std::size(paths))]);
    }
    const std::size_t most = 1 + world.random().below(8);
    auto each = [&world](std::string& url) { return check_one(world, url); };
    co_await gather_limited(most, urls, each);
}

}  // namespace

task<> checks(sim::World& world) {
    world.add_host("server", {"10.0.0.1", "fd00::1"});
    world.add_host("client", {"10.0.0.2", "fd00::2"});
    task<> serving = world.on("server", serve(world));
    task<> asking = world.on("client", check_all(world));
    task<> both = [](task<> server_side, task<> client_side) -> task<> {
        // A server whose host crashed is gone; the checks go on without.
        co_await with_scope([&](scope& sites) -> task<> {
            sites.spawn(std::move(server_side));
            co_await std::move(client_side);
            sites.cancel();
        });
    }(std::move(serving), std::move(asking));
    co_await in_trouble(world, std::move(both));
}

}  // namespace torc::test::programs
