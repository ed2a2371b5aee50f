// Theory of operation: the check by hand, written with torc's tasks and streams instead of a session: what the runtime
// costs without HTTP. The answer is read as the programs by hand read it, and there are no limits of time.

#include <ranges>

#include <torc/net/stream.hpp>
#include <torc/runtime/gather_limited.hpp>

#include "reply.hpp"
#include "target.hpp"

namespace {

using torc::net::TcpStream;

torc::task<> check(const bench::Target& target, bench::Account& account) {
    const std::uint64_t began_ns = bench::now_ns();
    bench::Reply reply;
    reply.begin();
    auto state = bench::Reply::state::more;
    try {
        const auto* address = reinterpret_cast<const sockaddr*>(&target.address);
        torc::net::ConnectOptions options;
        options.no_delay = false;  // nothing stands before the one write
        TcpStream stream =
            co_await TcpStream::connect(torc::net::Address::from_sockaddr(address, sizeof target.address), options);
        co_await stream.send(target.request);
        while (state == bench::Reply::state::more) {
            state = reply.received(co_await stream.receive(std::as_writable_bytes(reply.room())));
        }
    } catch (const torc::Error&) {
        state = bench::Reply::state::bad;
    }
    if (state == bench::Reply::state::complete) {
        account.good(bench::now_ns() - began_ns, reply.body_bytes());
    } else {
        account.bad();
    }
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 2) bench::die("bench-check-streams URL");
    const bench::Target target = bench::target_of(arguments[1]);
    if (target.secure) bench::die("this program speaks no TLS");
    torc::Executor executor;
    static bench::Account account;
    while (const auto order = bench::next_order()) {
        account.begin();
        executor.run(torc::gather_limited(order->at_once, std::views::iota(std::uint64_t{0}, order->count),
                                          [&](std::uint64_t) { return check(target, account); }));
        account.report();
    }
}
