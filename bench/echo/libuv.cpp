// An echo server on libuv.
//
// One buffer and one write request for each connection; libuv tries a write at once, and only what the socket does not
// take waits. Reading stops while it does.

#include <uv.h>

#include <array>
#include <csignal>
#include <cstdlib>

#include "../common/contestant.hpp"

namespace {

struct Connection {
    uv_tcp_t handle;
    uv_write_t write;
    std::array<char, 16 * 1024> buffer;
};

Connection& of(uv_handle_t* handle) { return *static_cast<Connection*>(handle->data); }

void lend(uv_handle_t* handle, std::size_t, uv_buf_t* buffer) {
    Connection& connection = of(handle);
    *buffer = uv_buf_init(connection.buffer.data(), static_cast<unsigned>(connection.buffer.size()));
}

void close(Connection& connection) {
    uv_close(reinterpret_cast<uv_handle_t*>(&connection.handle), [](uv_handle_t* handle) { delete &of(handle); });
}

void received(uv_stream_t* stream, ssize_t got, const uv_buf_t*) {
    Connection& connection = of(reinterpret_cast<uv_handle_t*>(stream));
    if (got == 0) return;
    if (got < 0) return close(connection);
    uv_buf_t piece = uv_buf_init(connection.buffer.data(), static_cast<unsigned>(got));
    const int sent = uv_try_write(stream, &piece, 1);
    if (sent == got) return;
    if (sent < 0 && sent != UV_EAGAIN) return close(connection);
    const int taken = sent > 0 ? sent : 0;
    piece = uv_buf_init(connection.buffer.data() + taken, static_cast<unsigned>(got - taken));
    uv_read_stop(stream);
    uv_write(&connection.write, stream, &piece, 1, [](uv_write_t* write, int status) {
        Connection& writer = of(reinterpret_cast<uv_handle_t*>(write->handle));
        if (status < 0) return close(writer);
        uv_read_start(write->handle, lend, received);
    });
}

void connected(uv_stream_t* listener, int status) {
    if (status < 0) return;
    auto* const connection = new Connection;
    uv_tcp_init(listener->loop, &connection->handle);
    connection->handle.data = connection;
    auto* const stream = reinterpret_cast<uv_stream_t*>(&connection->handle);
    if (uv_accept(listener, stream) != 0) return close(*connection);
    uv_tcp_nodelay(&connection->handle, 1);
    uv_read_start(stream, lend, received);
}

}  // namespace

int main(int count, char** arguments) {
    std::signal(SIGTERM, [](int) { std::_Exit(0); });
    uv_tcp_t listener;
    uv_tcp_init(uv_default_loop(), &listener);
    sockaddr_in name{};
    uv_ip4_addr("127.0.0.1", count > 1 ? std::atoi(arguments[1]) : 0, &name);
    uv_tcp_bind(&listener, reinterpret_cast<const sockaddr*>(&name), 0);
    if (uv_listen(reinterpret_cast<uv_stream_t*>(&listener), 4096, connected) != 0) bench::die("libuv can not listen");
    int size = sizeof name;
    uv_tcp_getsockname(&listener, reinterpret_cast<sockaddr*>(&name), &size);
    bench::say_listening(ntohs(name.sin_port));
    return uv_run(uv_default_loop(), UV_RUN_DEFAULT);
}
