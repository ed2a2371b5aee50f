#include "demo.hpp"

#include <fmt/format.h>

// Theory of operation. The names end in .test, which RFC 6761 reserves: no name server knows them, so the checker is
// told their addresses the way --resolve does it.

namespace checker {
namespace {

torc::http::ServerOptions options_for(const std::string& name, const torc::net::ThrowawayAuthority& authority) {
    torc::net::TlsServerOptions tls;
    tls.identities.push_back(authority.issue({.common_name = name, .names = {name}}));
    tls.alpn = {"http/1.1"};
    torc::http::ServerOptions options;
    options.tls = torc::net::TlsContext::server(tls);
    return options;
}

torc::http::Server::Handler page_of(const std::string& name) {
    return [page = fmt::format(
                "\n<!doctype html>\n<html lang=\"en\">\n<title>{0}</title>\n<h1>This is {0}</h1>\n</html>\n", name)](
               torc::http::ServerRequest&, torc::http::Responder& response) -> torc::task<> {
        co_await response.send(200, page, "text/html; charset=utf-8");
    };
}

}  // namespace

DemoSites::Site::Site(std::string site_name, const torc::net::ThrowawayAuthority& authority)
    : name(std::move(site_name)),
      server(torc::net::TcpListener::bind(torc::net::Address::loopback(0)), page_of(name),
             options_for(name, authority)) {}

DemoSites::DemoSites() : first_("one.torc.test", authority_), second_("two.torc.test", authority_) {}

void DemoSites::introduce(Options& options) const {
    options.ca_pem = authority_.certificate_pem();
    for (const Site* site : {&first_, &second_}) {
        const torc::net::Address& address = site->server.local();
        options.urls.push_back(fmt::format("https://{}:{}", site->name, address.port()));
        options.resolve.push_back({site->name, address.port(), {address}});
    }
}

void DemoSites::serve(torc::scope& where) {
    where.spawn(first_.server.serve());
    where.spawn(second_.server.serve());
}

void DemoSites::stop() noexcept {
    first_.server.stop();
    second_.server.stop();
}

}  // namespace checker
