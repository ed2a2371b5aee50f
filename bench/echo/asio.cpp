// An echo server on Boost.Asio with its C++20 coroutines; built once for its epoll reactor and once for io_uring.

#include <boost/asio.hpp>
#include <csignal>
#include <cstdlib>

#include "../common/contestant.hpp"

namespace asio = boost::asio;
using asio::ip::tcp;

namespace {

constexpr std::size_t buffer_bytes = 16 * 1024;

// Errors as values: an exception for every connection that ends would be measured as well.
constexpr auto use_result = asio::as_tuple(asio::use_awaitable);

asio::awaitable<void> echo(tcp::socket client) {
    client.set_option(tcp::no_delay(true));
    std::vector<char> buffer(buffer_bytes);
    for (;;) {
        const auto [failed, got] = co_await client.async_read_some(asio::buffer(buffer), use_result);
        if (failed) co_return;
        const auto [broken, sent] = co_await asio::async_write(client, asio::buffer(buffer.data(), got), use_result);
        if (broken) co_return;
    }
}

asio::awaitable<void> serve(tcp::acceptor acceptor) {
    for (;;) {
        tcp::socket client = co_await acceptor.async_accept(asio::use_awaitable);
        asio::co_spawn(acceptor.get_executor(), echo(std::move(client)), asio::detached);
    }
}

}  // namespace

int main(int count, char** arguments) {
    std::signal(SIGTERM, [](int) { std::_Exit(0); });
    const auto port = static_cast<unsigned short>(count > 1 ? std::atoi(arguments[1]) : 0);
    asio::io_context context{1};  // one thread: no locks
    tcp::acceptor acceptor{context, {asio::ip::address_v4::loopback(), port}};
    acceptor.listen(4096);
    bench::say_listening(acceptor.local_endpoint().port());
    asio::co_spawn(context, serve(std::move(acceptor)), asio::detached);
    context.run();
}
