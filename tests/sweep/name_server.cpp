#include <algorithm>
#include <array>

#include <torc/net/resolver.hpp>
#include <torc/runtime/scope.hpp>

#include "scenario.hpp"

// Theory of operation. RFC 1035, 4.1: the question is repeated, with the addresses of its type behind. Labels of the
// names that are asked for have one byte of length before them, which is all that is needed to read them.

namespace torc::sweep {
namespace {

using NameTable = std::map<std::string, std::vector<std::string>>;

std::string name_in(std::string_view message) {
    std::string name;
    for (std::size_t at = 12; message[at] != 0; at += static_cast<std::size_t>(message[at]) + 1) {
        if (!name.empty()) name += '.';
        name += message.substr(at + 1, static_cast<std::size_t>(message[at]));
    }
    return name;
}

std::string answer_to(const std::string& message, const NameTable& names) {
    const std::size_t question_end = message.find('\0', 12) + 5;
    const char type = message[question_end - 3];
    constexpr char type_a = 1;
    std::string records;
    char count = 0;
    for (const std::string& text : names.at(name_in(message))) {
        const net::Address address = net::Address::parse_ip(text, 0).value();
        if (address.is_v4() != (type == type_a)) continue;
        const std::size_t offset = address.is_v4() ? 4 : 8;  // in sockaddr_in and sockaddr_in6
        const std::size_t size_bytes = address.is_v4() ? 4 : 16;
        records += std::string{"\xc0\x0c\0", 3} + type + std::string{"\0\1\0\0\0\x3c\0", 7};
        records += static_cast<char>(size_bytes);
        records.append(reinterpret_cast<const char*>(address.data()) + offset, size_bytes);
        ++count;
    }
    std::string answer = message.substr(0, 2) + std::string{"\x81\x80\0\1\0\0\0\0\0\0", 10};
    answer[7] = count;
    return answer + message.substr(12, question_end - 12) + records;
}

task<> serve(net::UdpSocket& server, const NameTable& names) {
    std::array<std::byte, 512> buffer{};
    for (;;) {
        const net::Datagram got = co_await server.receive_from(buffer);
        std::string message;
        append(message, std::span{buffer}.first(got.size_bytes));
        const std::string answer = answer_to(message, names);
        co_await server.send_to(std::as_bytes(std::span{answer}), got.from);
    }
}

}  // namespace

task<> Stage::with_names(NameTable names, task<> part) {
    if (simulated()) {
        for (const auto& [name, addresses] : names) world_->add_name(name, addresses);
        co_await std::move(part);
        co_return;
    }
    net::UdpSocket server = net::UdpSocket::bind(net::Address::loopback(0));
    net::ResolverOptions options;
    options.servers = {server.local()};
    options.hosts_file = options.resolv_conf = "/dev/null";
    net::Resolver::of(Executor::here()).configure(options);
    const auto body = [&server, &names, &part](scope& here) -> task<> {
        here.spawn(serve(server, names));
        co_await std::move(part);
        here.cancel();
    };
    co_await with_scope(body);
}

}  // namespace torc::sweep
