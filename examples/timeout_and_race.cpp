// One question, two mirrors. One of them takes connections and never says a word; the other answers.

#include <fmt/core.h>

#include <string>
#include <torc/net.hpp>

using namespace torc;
using namespace std::chrono_literals;

task<> serve_silence(net::TcpListener& listener) {
    const net::TcpStream first = co_await listener.accept();
    const net::TcpStream second = co_await listener.accept();
    co_await sleep_for(24h);
}

task<> serve_answers(net::TcpListener& listener) {
    for (;;) {
        net::TcpStream client = co_await listener.accept();
        co_await client.send("42");
    }
}

task<std::string> ask(net::Address mirror) {
    net::TcpStream stream = co_await net::TcpStream::connect(mirror);
    const BufferSlice answer = co_await stream.receive();
    co_return std::string{reinterpret_cast<const char*>(answer.bytes().data()), answer.size()};
}

task<> questions(net::Address silent, net::Address talkative) {
    // The first to finish wins. The other is cancelled, and its socket closed, before the race is over.
    const std::variant<std::string, std::string> first = co_await race(ask(silent), ask(talkative));
    std::visit([&](const std::string& answer) { fmt::print("mirror {} says {}\n", first.index(), answer); }, first);

    // A limit of time is an ordinary error of the await that it was set on.
    try {
        const std::string answer = co_await with_timeout(50ms, ask(silent));
        fmt::print("the silent mirror says {}\n", answer);
    } catch (const Error& error) {
        if (error.code() != errc::timed_out) throw;
        fmt::print("the silent mirror timed out\n");
    }
}

task<> program() {
    net::TcpListener silent = net::TcpListener::bind(net::Address::loopback(0));
    net::TcpListener talkative = net::TcpListener::bind(net::Address::loopback(0));
    co_await race(serve_silence(silent), serve_answers(talkative), questions(silent.local(), talkative.local()));
    fmt::print("descriptors still open: the {} listeners\n", Executor::here().statistics().open_descriptors);
}

int main() { return run(program()); }
