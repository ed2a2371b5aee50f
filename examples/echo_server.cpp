// An echo server: one task for each connection, all in one scope.
//
//   echo_server PORT     serves on the loopback until Ctrl-C; port 0 is any that is free
//   echo_server          serves three clients of its own and ends

#include <fmt/core.h>

#include <charconv>
#include <cstring>
#include <optional>
#include <string>
#include <torc/net.hpp>

using namespace torc;

task<> echo(net::TcpStream client) {
    try {
        for (;;) {
            BufferSlice piece = co_await client.receive();  // lent by the executor: an idle client holds no memory
            if (piece.empty()) co_return;
            co_await client.send(piece.bytes());
        }
    } catch (const Error& error) {  // one client's trouble is not the others'
        fmt::print(stderr, "{}\n", error.what());
    }
}

task<> serve(net::TcpListener& listener) {
    co_await with_scope([&](scope& clients) -> task<> {
        for (;;) {
            net::TcpStream client = co_await listener.accept();
            clients.spawn(echo(std::move(client)));
        }
    });
}

task<std::string> ask(net::Address server, std::string words) {
    net::TcpStream stream = co_await net::TcpStream::connect(server);
    co_await stream.send(words);
    co_await stream.shutdown_write();
    std::string answer;
    for (;;) {
        BufferSlice piece = co_await stream.receive();
        if (piece.empty()) co_return answer;
        answer.append(reinterpret_cast<const char*>(piece.bytes().data()), piece.size());
    }
}

task<> three_clients(net::Address server) {
    const auto [one, two, three] = co_await gather(ask(server, "first come"), ask(server, "first served"),
                                                   ask(server, std::string(1'000'000, '.')));
    fmt::print("{}\n{}\n{} bytes\n", one, two, three.size());
}

task<> program(std::optional<std::uint16_t> port) {
    net::TcpListener listener = net::TcpListener::bind(net::Address::loopback(port.value_or(0)));
    if (port) {
        fmt::print("echoing on {}\n", listener.local().to_string());
        std::fflush(stdout);
        co_await serve(listener);
    } else {
        co_await race(serve(listener), three_clients(listener.local()));  // the server loses, and is cancelled
    }
}

int main(int count, char** arguments) {
    if (count == 1) return run(program(std::nullopt));
    std::uint16_t port = 0;
    const char* const end = arguments[1] + std::strlen(arguments[1]);
    const auto [last, error] = std::from_chars(arguments[1], end, port);
    if (error != std::errc{} || last != end || count > 2) {
        fmt::print(stderr, "echo_server takes one port from 0 to 65535, not '{}'\n", arguments[1]);
        return 2;
    }
    return run(program(port));
}
