// An HTTP server as a user of torc writes it: GET /N gives N bytes. `bench-server-torc [PORT [LEAF.PEM LEAF.KEY]]`

#include <charconv>
#include <csignal>
#include <map>
#include <torc/http.hpp>

#include "../common/contestant.hpp"

using namespace torc;

namespace {

task<> answer(http::ServerRequest& request, http::Responder& response) {
    static std::map<std::string, std::string, std::less<>> pages;
    const std::string_view path = request.path();
    auto page = pages.find(path);
    if (page == pages.end()) {
        std::size_t size_bytes = 0;
        std::from_chars(path.data() + 1, path.data() + path.size(), size_bytes);
        page = pages.emplace(path, std::string(std::min<std::size_t>(size_bytes, 1 << 20), 'x')).first;
    }
    co_await response.send(200, std::as_bytes(std::span{page->second}), "text/plain");  // pages stay
}

task<> serve(unsigned port, std::optional<net::TlsContext> tls) {
    http::ServerOptions options;
    options.tls = std::move(tls);
    options.max_connections = 100'000;
    http::Server server{net::TcpListener::bind(net::Address::loopback(static_cast<std::uint16_t>(port))), answer,
                        std::move(options)};
    bench::say_listening(server.local().port());
    task<> serving = server.serve();
    co_await std::move(serving);
}

}  // namespace

int main(int count, char** arguments) {
    std::signal(SIGTERM, [](int) { std::_Exit(0); });
    std::optional<net::TlsContext> tls;
    if (count > 3) {
        net::TlsServerOptions options;
        net::TlsIdentity& own = options.identities.emplace_back();
        own.chain_file = arguments[2];
        own.key_file = arguments[3];
        tls = net::TlsContext::server(options);
    }
    return run(serve(count > 1 ? static_cast<unsigned>(std::atoi(arguments[1])) : 0, std::move(tls)));
}
