#include "crowd_server.hpp"

#include <fmt/format.h>

#include <blocking_peer.hpp>
#include <filesystem>
#include <fstream>
#include <stdexcept>
#include <torc/http/server.hpp>
#include <torc/runtime/gather.hpp>

#include "crowd.hpp"
#include "failing_memory.hpp"
#include "load.hpp"

// Theory of operation. The process runs two servers on one executor: the site, and on a port of its own one for whoever
// watches it. The watcher keeps one connection to it all the time, so that what is counted before and after the crowd
// is counted in the same state. The process ends well only if the executor holds nothing when both servers have ended.

namespace torc::load {
namespace {

using namespace std::chrono_literals;

std::size_t open_files() {
    std::size_t count = 0;
    for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
    return count;
}

std::size_t resident_kib() {
    std::ifstream file{"/proc/self/statm"};
    std::size_t all_pages = 0;
    std::size_t resident_pages = 0;
    file >> all_pages >> resident_pages;
    return resident_pages * 4;
}

std::string held_now() {
    const Statistics now = Executor::here().statistics();
    return fmt::format("{} operations, {} descriptors, {} closes, {} timers, {} buffers, {} frames, {} files",
                       now.in_flight, now.open_descriptors, now.open_closes, now.timers, now.buffers_lent, now.frames,
                       open_files());
}

/// "/limit/4096" -> 4096
std::size_t number_in(std::string_view path) {
    return std::strtoul(std::string{path.substr(path.rfind('/') + 1)}.c_str(), nullptr, 10);
}

/// A body of so many times 64 KiB.
task<> answer_at_length(std::size_t pages, http::Responder& response) {
    response.begin(200, pages * page(true).size());
    for (; pages > 0; --pages) co_await response.write(page(true));
    co_await response.finish();
}

task<> answer(http::ServerRequest& request, http::Responder& response) {
    if (request.path().starts_with("/pages/")) {
        co_await answer_at_length(number_in(request.path()), response);
        co_return;
    }
    if (request.path() == "/small") {
        co_await response.send(200, std::string{page(false)});
        co_return;
    }
    constexpr std::size_t piece_bytes = 16 * 1024;
    std::string_view rest = page(true);
    response.begin(200, rest.size());
    for (; !rest.empty(); rest.remove_prefix(piece_bytes)) co_await response.write(rest.substr(0, piece_bytes));
    co_await response.finish();
}

http::ServerOptions site_options(std::size_t most_connections) {
    http::ServerOptions options;
    options.max_connections = most_connections;
    // Longer than any machine takes to bring the crowd together.
    options.head_timeout = options.idle_timeout = options.write_timeout = 10min;
    options.on_error = [](const http::ServerFault&) {};
    return options;
}

task<> serve(std::uint16_t port, std::size_t most_connections) {
    net::ListenOptions listening;
    listening.backlog = 4096;
    listening.reuse_port = true;
    http::Server site{net::TcpListener::bind(net::Address::loopback(port), listening), answer,
                      site_options(most_connections)};
    http::Server* watch = nullptr;
    http::Server watcher{net::TcpListener::bind(net::Address::loopback(0)),
                         [&](http::ServerRequest& request, http::Responder& response) -> task<> {
                             if (request.path() == "/stop") {
                                 site.stop();
                                 watch->stop();
                             }
                             if (request.path().starts_with("/limit/")) {
                                 limit_address_space(number_in(request.path()));
                             }
                             if (request.path() == "/allow") allow_address_space();
                             std::string words =
                                 fmt::format("{} {} {}", site.statistics().connections, resident_kib(), held_now());
                             co_await response.send(200, std::move(words));
                         },
                         site_options(4)};
    watch = &watcher;
    fmt::print("site at {}, watched at {}\n", site.local().port(), watcher.local().port());
    std::fflush(stdout);
    co_await gather(site.serve(), watcher.serve());
}

int serve_in_process(std::uint16_t port, std::size_t most_connections) {
    allow_all_descriptors();
    const std::ptrdiff_t frames = torc::detail::live_frames();
    const std::size_t files = open_files();
    bool clean = true;
    {
        Executor executor;
        executor.run(serve(port, most_connections));
        const Statistics left = executor.statistics();
        clean = left.in_flight == 0 && left.open_descriptors == 0 && left.open_closes == 0 && left.timers == 0 &&
                left.buffers_lent == 0 && left.frames == frames;
        fmt::print("left: {} operations, {} descriptors, {} closes, {} timers, {} buffers, {} frames\n", left.in_flight,
                   left.open_descriptors, left.open_closes, left.timers, left.buffers_lent, left.frames - frames);
    }
    clean = clean && open_files() == files;
    return clean ? 0 : 1;
}

}  // namespace

CrowdServer::CrowdServer(std::uint16_t port, std::size_t most_connections)
    : process_([port, most_connections] { return serve_in_process(port, most_connections); }, 600) {
    unsigned site = 0;
    unsigned watched = 0;
    if (!process_.wait_for("watched at ") || !process_.wait_for("\n") ||
        std::sscanf(process_.output().c_str() + process_.output().find("site at"), "site at %u, watched at %u", &site,
                    &watched) != 2) {
        throw std::runtime_error("the site does not start: " + process_.output());
    }
    port_ = static_cast<std::uint16_t>(site);
    watched_ = net::Address::loopback(static_cast<std::uint16_t>(watched));
}

CrowdServer::~CrowdServer() {
    if (wire_ >= 0) ::close(wire_);
}

std::string CrowdServer::ask(const std::string& path) {
    // A server that is short of memory may have to drop the wire.
    for (int again = 0; again < 100; ++again) {
        if (wire_ < 0) wire_ = test::peer::connect_to(watched_);
        if (wire_ < 0) break;
        if (const auto answer = try_to_ask(path)) return *answer;
        ::close(std::exchange(wire_, -1));
    }
    const int status = process_.wait();
    throw std::runtime_error(fmt::format("the site is gone ({}): {}", status, process_.output()));
}

std::optional<std::string> CrowdServer::try_to_ask(const std::string& path) {
    test::peer::write_all(wire_, "GET " + path + " HTTP/1.1\r\nHost: watch.test\r\n\r\n");
    std::string answer;
    std::size_t wanted_bytes = std::string::npos;
    while (answer.size() < wanted_bytes) {
        const std::string byte = test::peer::read_exactly(wire_, 1);
        if (byte.empty()) return std::nullopt;
        answer += byte;
        if (wanted_bytes == std::string::npos && answer.ends_with("\r\n\r\n")) {
            if (!answer.starts_with("HTTP/1.1 200 ")) return std::nullopt;
            const std::size_t length = answer.find("Content-Length: ");
            wanted_bytes = answer.size() + std::strtoul(answer.c_str() + length + 16, nullptr, 10);
        }
    }
    return answer.substr(answer.find("\r\n\r\n") + 4);
}

CrowdServer::Now CrowdServer::now() {
    const std::string words = ask("/now");
    Now now;
    int at = 0;
    std::sscanf(words.c_str(), "%zu %zu %n", &now.connections, &now.resident_kib, &at);
    now.held = words.substr(static_cast<std::size_t>(at));
    return now;
}

int CrowdServer::stop() {
    ask("/stop");
    ::close(std::exchange(wire_, -1));
    return process_.wait();
}

}  // namespace torc::load
