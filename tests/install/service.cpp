// A service outside torc's tree, as small as one can be: it serves one page, fetches it from itself, and stops. It
// proves that what was installed is enough to build on.
#include <cstdio>
#include <string>
#include <torc/http.hpp>

using namespace torc;

task<> fetch(http::Server& server, std::string& page) {
    http::AsyncSession session{"http://" + server.local().to_string()};
    http::Response& response = co_await session;
    page = co_await response.text();
    server.stop();
}

task<int> service() {
    http::Server server{
        net::TcpListener::bind(net::Address::loopback(0)),
        [](http::ServerRequest&, http::Responder& response) -> task<> { co_await response.send(200, "served\n"); }};
    std::string page;
    co_await gather(server.serve(), fetch(server, page));
    std::fputs(page.c_str(), stdout);
    co_return page == "served\n" ? 0 : 1;
}

int main() { return run(service()); }
