#pragma once

#include <doctest/doctest.h>

#include <string>
#include <utility>

#include <torc/net/listener.hpp>
#include <torc/net/tls_error.hpp>
#include <torc/net/tls_stream.hpp>
#include <torc/runtime/as_result.hpp>
#include <torc/runtime/gather.hpp>

#include "certificates.hpp"
#include "leak_check.hpp"

/// A TLS server and a TLS client that meet on loopback, on one executor.
namespace torc::testing {

inline const CertificateWorld& world() {
    static const CertificateWorld made;
    return made;
}

/// How a meeting is held. By default both sides speak everything and the certificate is good.
struct Meeting {
    net::TlsContext server = net::TlsContext::server(world().server({"site.test"}));
    net::TlsContext client = net::TlsContext::client(world().client());
    net::tls::ClientSide side{"site.test"};

    static Meeting of(net::TlsVersion version) {
        net::TlsServerOptions server = world().server({"site.test"});
        net::TlsClientOptions client = world().client();
        server.algorithms.max_version = version;
        client.algorithms.max_version = version;
        return {net::TlsContext::server(server), net::TlsContext::client(client)};
    }

    [[nodiscard]] task<net::TlsStream> connect(net::Address address) const {
        net::TcpStream tcp = co_await net::TcpStream::connect(address);
        net::TlsStream made = co_await net::TlsStream::connect(std::move(tcp), client, side);
        co_return made;
    }
    [[nodiscard]] task<net::TlsStream> accept(net::TcpListener& listener) const {
        net::TcpStream tcp = co_await listener.accept();
        net::TlsStream made = co_await net::TlsStream::accept(std::move(tcp), server);
        co_return made;
    }
};

/// Both are callable with a TlsStream& and return a task<>. When one fails the other is cancelled.
template <class Server, class Client>
task<> meet(Meeting meeting, Server server, Client client) {
    net::TcpListener listener = net::TcpListener::bind(net::Address::loopback(0));
    auto serve = [&]() -> task<> {
        net::TlsStream stream = co_await meeting.accept(listener);
        co_await server(stream);
    };
    auto visit = [&]() -> task<> {
        net::TlsStream stream = co_await meeting.connect(listener.local());
        co_await client(stream);
    };
    co_await gather(serve(), visit());
}

/// Everything up to the orderly end.
template <class Stream>
task<std::string> receive_all(Stream& stream) {
    std::string all;
    for (;;) {
        const BufferSlice slice = co_await stream.receive();
        if (slice.empty()) co_return all;
        all.append(reinterpret_cast<const char*>(slice.bytes().data()), slice.size());
    }
}

template <class Stream>
task<std::string> receive_exactly(Stream& stream, std::size_t size_bytes) {
    std::string all(size_bytes, '\0');
    for (std::size_t got = 0; got < size_bytes;) {
        const std::size_t n = co_await stream.receive(std::as_writable_bytes(std::span{all}.subspan(got)));
        if (n == 0) throw Error{errc::end_of_stream, phase::none, "receive"};
        got += n;
    }
    co_return all;
}

/// The error that awaiting `work` ends with; an empty one (code 0) if there is none.
template <class T>
task<Error> error_of(task<T> work) {
    auto settled = co_await as_result(std::move(work));
    if (settled) co_return Error{std::error_code{}};
    co_return settled.error();
}

inline std::string pattern(std::size_t size_bytes) {
    std::string text(size_bytes, '\0');
    for (std::size_t i = 0; i < size_bytes; ++i) text[i] = static_cast<char>('a' + (i * 7 + i / 251) % 26);
    return text;
}

}  // namespace torc::testing
