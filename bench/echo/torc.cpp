// An echo server as a user of torc writes it.

#include <csignal>
#include <torc/net.hpp>

#include "../common/contestant.hpp"

using namespace torc;

namespace {

task<> echo(net::TcpStream client) {
    for (;;) {
        BufferSlice piece = co_await client.receive();
        if (piece.empty()) co_return;
        co_await client.send(piece.bytes());
    }
}

task<> serve(unsigned port) {
    net::TcpListener listener = net::TcpListener::bind(net::Address::loopback(static_cast<std::uint16_t>(port)));
    bench::say_listening(listener.local().port());
    co_await with_scope([&](scope& clients) -> task<> {
        for (;;) {
            net::TcpStream client = co_await listener.accept();
            clients.spawn(echo(std::move(client)));
        }
    });
}

}  // namespace

int main(int count, char** arguments) {
    std::signal(SIGTERM, [](int) { std::_Exit(0); });
    return run(serve(count > 1 ? static_cast<unsigned>(std::atoi(arguments[1])) : 0));
}
