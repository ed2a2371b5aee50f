#pragma once

#include <sys/socket.h>

#include <cstdint>
#include <expected>

#include <torc/net/stream.hpp>
#include <torc/runtime/io.hpp>

namespace torc::test {

/// Makes the close of a stream a reset, whatever was read and sent before.
inline task<> make_close_a_reset(net::TcpStream& stream) {
    struct set_linger final : detail::io_awaitable<set_linger> {
        explicit set_linger(descriptor& target) : io_awaitable(op_kind::set_option, &target) {
            offset = static_cast<std::uint64_t>(SOL_SOCKET) << 32 | SO_LINGER;
            address = &at_once;
            length = sizeof at_once;
        }
        torc::result<void> take() {
            if (const int code = outcome(); code < 0) return std::unexpected{error_from_result(code)};
            return {};
        }
        linger at_once{1, 0};
    };
    set_linger setting{stream.record().file()};
    co_await setting;
}

}  // namespace torc::test
