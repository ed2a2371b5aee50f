#include <torc/net/stream.hpp>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include "bound_socket.hpp"

namespace torc::net {

TcpStream TcpStream::adopt(Executor& executor, descriptor file, const Address& peer) {
    Owner record{take_over<SocketRecord>(executor, file)};
    record->peer() = peer;
    return TcpStream{std::move(record)};
}

UnixStream UnixStream::adopt(Executor& executor, descriptor file, const Address& peer) {
    Owner record{take_over<SocketRecord>(executor, file)};
    record->peer() = peer;
    return UnixStream{std::move(record)};
}

task<> TcpStream::set_no_delay(bool on) {
    class set_option_awaitable final : public side_awaitable {
       public:
        set_option_awaitable(SocketRecord& socket, int name, int value) noexcept
            : side_awaitable(op_kind::set_option, socket), value_(value) {
            offset = std::uint64_t{IPPROTO_TCP} << 32 | static_cast<std::uint32_t>(name);
            address = &value_;
            length = sizeof value_;
        }
        int await_resume() const { return outcome(); }

       private:
        int value_;
    };
    if (!is_open()) throw Error{errc::closed, phase::none, "set TCP_NODELAY"};
    set_option_awaitable setting{*socket_, TCP_NODELAY, on ? 1 : 0};
    const int failed = co_await setting;
    if (failed < 0) throw error_from_result(failed, phase::none, "set TCP_NODELAY");
}

task<> SocketStream::shutdown_write() {
    class shutdown_awaitable final : public side_awaitable {
       public:
        explicit shutdown_awaitable(SocketRecord& socket) noexcept : side_awaitable(op_kind::shutdown, socket) {
            flags = SHUT_WR;
        }
        int await_resume() const { return outcome(); }
    };
    if (!is_open()) throw Error{errc::closed, phase::send, "shut down"};
    shutdown_awaitable shutting_down{*socket_};
    const int failed = co_await shutting_down;
    if (failed < 0) throw error_from_result(failed, phase::send, "shut down");
}

const Address& SocketStream::peer() {
    Address& peer = held().peer();
    if (!peer.empty()) return peer;
    sockaddr_storage name{};
    std::uint32_t size = sizeof name;
    auto* const generic = reinterpret_cast<sockaddr*>(&name);
    const Driver& driver = socket_->executor().driver();
    if (driver.peer_address(socket_->file(), generic, &size) == 0) peer = Address::from_sockaddr(generic, size);
    return peer;
}

Address SocketStream::local() const {
    sockaddr_storage name{};
    std::uint32_t size = sizeof name;
    auto* const generic = reinterpret_cast<sockaddr*>(&name);
    const Driver& driver = held().executor().driver();
    return driver.local_address(socket_->file(), generic, &size) == 0 ? Address::from_sockaddr(generic, size)
                                                                      : Address{};
}

}  // namespace torc::net
