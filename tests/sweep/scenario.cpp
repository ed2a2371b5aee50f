#include "scenario.hpp"

#include <torc/runtime/as_result.hpp>

// Theory of operation. On simulated hosts only what opens a socket has to run on the server's: everything accepted from
// there belongs to that host. So a scenario is written the same way for one machine and for two.

namespace torc::sweep {
namespace {

task<net::TcpListener> listen_at(net::Address address) { co_return net::TcpListener::bind(address); }
task<net::UdpSocket> bind_at(net::Address address) { co_return net::UdpSocket::bind(address); }

constexpr const char* server_name = "server";
constexpr const char* server_ip = "10.0.0.1";

}  // namespace

task<net::TcpListener> Stage::listen() {
    if (!simulated()) co_return net::TcpListener::bind(net::Address::any(0));
    world_->add_host(server_name, {server_ip});
    task<net::TcpListener> listening = world_->on(server_name, listen_at(net::Address::any(80)));
    co_return co_await std::move(listening);
}

net::Address Stage::address_of(const net::TcpListener& listener) const {
    const std::uint16_t port = listener.local().port();
    return simulated() ? *net::Address::parse_ip(server_ip, port) : net::Address::loopback(port);
}

task<net::UdpSocket> Stage::bind() {
    if (!simulated()) co_return net::UdpSocket::bind(net::Address::loopback(0));
    world_->add_host(server_name, {server_ip});
    task<net::UdpSocket> binding = world_->on(server_name, bind_at(*net::Address::parse_ip(server_ip, 53)));
    co_return co_await std::move(binding);
}

net::Address Stage::address_of(const net::UdpSocket& socket) const { return socket.local(); }

task<> Stage::client(task<> part) {
    struct Here {
        scope*& known;
        ~Here() { known = nullptr; }
    } const until_left{client_};
    const auto body = [this, &part](scope& here) {
        client_ = &here;
        return std::move(part);
    };
    co_await with_scope(body);
}

void Stage::cancel_client() noexcept {
    if (client_ == nullptr) return;
    client_cancelled_ = true;
    client_->cancel();
}

task<> Stage::partner(task<> part) {
    try {
        co_await std::move(part);
    } catch (const Error&) {
        if (!client_cancelled_) throw;
    }
}

std::vector<NamedScenario> scenarios() {
    Scenarios all;
    add_shared_things(all);
    add_tasks(all);
    add_connections(all);
    add_datagrams(all);
    add_handovers(all);
    add_tls(all);
    add_http(all);
    return all;
}

std::string pattern(std::size_t size_bytes) {
    std::string text(size_bytes, '\0');
    for (std::size_t at = 0; at < size_bytes; ++at) text[at] = static_cast<char>('a' + (at * 7 + at / 251) % 26);
    return text;
}

void append(std::string& to, std::span<const std::byte> bytes) {
    to.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
}

}  // namespace torc::sweep
