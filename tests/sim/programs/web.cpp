#include <torc/http.hpp>
#include <torc/net/tls_selfsigned.hpp>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <vector>

#include "programs.hpp"

// Clients fetch numbered documents, upload numbered bodies and give up at any moment. Whatever arrives is what was
// asked for and nothing else: a body is a beginning of its document, and all of it when its end was orderly.

namespace torc::test::programs {
namespace {

using namespace std::chrono_literals;

/// "/doc/ID/SIZE" and "/up/ID/SIZE".
struct Path {
    bool upload = false;
    std::uint64_t id = 0;
    std::uint64_t size = 0;

    static Path of(std::string_view text) {
        Path path;
        unsigned long long id = 0;
        unsigned long long size = 0;
        const std::string whole{text};
        path.upload = text.starts_with("/up/");
        const int read = std::sscanf(whole.c_str(), path.upload ? "/up/%llu/%llu" : "/doc/%llu/%llu", &id, &size);
        require(read == 2, "a request arrived that nobody made");
        path.id = id;
        path.size = size;
        return path;
    }
    [[nodiscard]] std::string text() const {
        return std::string{upload ? "/up/" : "/doc/"} + std::to_string(id) + '/' + std::to_string(size);
    }
};

task<> give_document(sim::World& world, Path path, http::Responder& response) {
    if (world.random().chance(0.5)) {
        co_await response.send(200, bytes_of(path.id, 0, path.size), "text/plain");
        co_return;
    }
    if (world.random().chance(0.5)) {
        response.begin(200);
    } else {
        response.begin(200, path.size);
    }
    for (std::uint64_t at = 0; at < path.size;) {
        const std::size_t count = std::min<std::uint64_t>(path.size - at, 1 + world.random().below(20'000));
        const std::string piece = bytes_of(path.id, at, count);
        co_await response.write(piece);
        at += count;
        if (world.random().chance(0.1)) co_await sleep_for(some(world, 20ms));
    }
    co_await response.finish();
}

task<> take_upload(Path path, http::ServerRequest& request, http::Responder& response) {
    std::uint64_t have = 0;
    for (;;) {
        const std::span<const std::byte> part = co_await request.read_some();
        if (part.empty()) break;
        require(are_bytes_of(path.id, have, part), "an uploaded byte is not the one that was sent");
        have += part.size();
    }
    require(have == path.size, "an upload ended in order before its last byte");
    co_await response.send(200, std::to_string(have), "text/plain");
}

task<> answer(sim::World& world, http::ServerRequest& request, http::Responder& response) {
    const Path path = Path::of(request.path());
    if (world.random().chance(0.1)) co_await sleep_for(some(world, 100ms));
    if (world.random().chance(0.05)) co_return;  // without an answer: a 500
    if (path.upload) {
        co_await take_upload(path, request, response);
    } else {
        co_await give_document(world, path, response);
    }
}

task<> fetch(sim::World& world, http::AsyncSession& session, Path path) {
    http::Response& response = co_await session.get(path.text());
    if (response.status() != 200) co_return;
    std::uint64_t have = 0;
    for (;;) {
        const std::span<const std::byte> part = co_await response.read_some();
        if (part.empty()) break;
        require(are_bytes_of(path.id, have, part), "a byte of a document is not its own");
        have += part.size();
        require(have <= path.size, "a document is longer than it is");
        if (world.random().chance(0.02)) co_return;  // not interested any more
    }
    require(have == path.size, "a document ended in order before its last byte");
}

task<> upload(sim::World& world, http::AsyncSession& session, Path path) {
    http::Request request;
    request.method = "PUT";
    request.url = path.text();
    std::string piece;
    std::uint64_t at = 0;
    const bool streams = world.random().chance(0.5);
    if (streams) {
        request.stream.emplace();
        if (world.random().chance(0.5)) request.stream->length = path.size;
        request.stream->next = [&]() -> task<std::span<const std::byte>> {
            const std::size_t count = std::min<std::uint64_t>(path.size - at, 1 + world.random().below(20'000));
            piece = bytes_of(path.id, at, count);
            at += count;
            if (world.random().chance(0.1)) co_await sleep_for(some(world, 20ms));
            co_return std::as_bytes(std::span{piece});
        };
    } else {
        request.body = bytes_of(path.id, 0, path.size);
    }
    task<http::Response&> asking = session.request(std::move(request));
    http::Response& response = co_await std::move(asking);
    if (response.status() != 200) co_return;
    const std::string counted = co_await response.text();
    require(counted == std::to_string(path.size), "an upload was confirmed that had not arrived whole");
}

struct Traffic {
    std::string url;
    std::optional<net::TlsContext> server;
    std::optional<net::TlsContext> client;
};

task<> converse(sim::World& world, const Traffic& plan, std::uint64_t first_id) {
    http::SessionOptions options;
    options.tls = plan.client;
    options.timeouts.connect = 1s + some(world, 5s);
    options.timeouts.total = 1s + some(world, 30s);
    http::AsyncSession session{plan.url, options};
    for (auto count = 1 + world.random().below(5); count > 0; --count) {
        const Path path{world.random().chance(0.4), first_id++,
                        world.random().below(world.random().below(100'000) + 1)};
        const Clock::time_point began = world.now();
        task<> asking = path.upload ? upload(world, session, path) : fetch(world, session, path);
        static_cast<void>(co_await as_result(std::move(asking)));
        require(world.now() - began <= options.timeouts.total + 3s, "a request outlasted its limit");
        if (world.random().chance(0.3)) co_await sleep_for(some(world, 500ms));
    }
    if (world.random().chance(0.3)) static_cast<void>(co_await as_result(session.close()));
}

task<> client(sim::World& world, const Traffic& plan, std::uint64_t first_id) {
    co_await sleep_for(some(world, 50ms));
    task<> conversation = converse(world, plan, first_id);
    if (world.random().chance(0.5)) {
        static_cast<void>(co_await as_result(with_timeout(some(world, 2s), std::move(conversation))));
    } else {
        co_await std::move(conversation);
    }
}

task<> clients(sim::World& world, const Traffic& plan, std::optional<http::Server>& server) {
    while (!server) co_await sleep_for(1ms);
    std::vector<task<>> all;
    for (auto count = 1 + world.random().below(5); count > 0; --count) all.push_back(client(world, plan, 100 * count));
    co_await gather(std::move(all));
    server->stop();
}

task<> serve(sim::World& world, const Traffic& plan, std::optional<http::Server>& server) {
    http::ServerOptions options;
    options.tls = plan.server;
    options.on_error = [](const http::ServerFault& fault) {
        try {
            if (fault.error) std::rethrow_exception(fault.error);
        } catch (const Broken&) {
            throw;
        } catch (...) {  // what a client or the network did
        }
    };
    auto answering = [&world](http::ServerRequest& request, http::Responder& response) {
        return answer(world, request, response);
    };
    server.emplace(net::TcpListener::bind(net::Address::any(80)), answering, std::move(options));
    // It ends by itself when its host has crashed; then the clients go without.
    static_cast<void>(co_await as_result(server->serve()));
}

}  // namespace

task<> web(sim::World& world) {
    world.add_host("server", {"10.0.0.1", "fd00::1"});
    world.add_host("client", {"10.0.0.2", "fd00::2"});
    Traffic plan;
    plan.url = "http://server:80/";
    if (world.random().chance(0.3)) {
        const net::ThrowawayAuthority authority;
        net::TlsServerOptions serving;
        serving.identities.push_back(authority.issue({.common_name = "server", .names = {"server"}}));
        plan.server = net::TlsContext::server(serving);
        net::TlsClientOptions asking;
        asking.trust.ca_pem = authority.certificate_pem();
        plan.client = net::TlsContext::client(asking);
        plan.url = "https://server:80/";
    }
    std::optional<http::Server> server;
    task<> serving = world.on("server", serve(world, plan, server));
    task<> asking = world.on("client", clients(world, plan, server));
    task<> both = [](task<> server_side, task<> client_side) -> task<> {
        co_await gather(std::move(server_side), std::move(client_side));
    }(std::move(serving), std::move(asking));
    co_await in_trouble(world, std::move(both));
}

}  // namespace torc::test::programs
