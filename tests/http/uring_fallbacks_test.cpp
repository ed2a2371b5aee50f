#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <certificates.hpp>
#include <kernel_sockets.hpp>
#include <leak_check.hpp>
#include <plug.hpp>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>

#include <torc/http.hpp>
#include <torc/net.hpp>
#include <torc/runtime.hpp>

#include "../load/site_and_visitor.hpp"
#include "../net/streams.hpp"

// Goal: what kernels before this one, and rings that are short of something, make the io_uring driver do without is
// invisible above it, and leaves nothing behind. Method: the same programs, once for each thing that is missing; that
// it really is shows in what the driver submits and in which descriptors the process has.

namespace {

using namespace torc;
using namespace torc::test;
using namespace std::chrono_literals;
using net::Address;
using net::ConnectOptions;
using net::TcpListener;
using net::TcpStream;
using net::UdpSocket;

struct Ring {
    std::string name;
    ExecutorOptions options;
};

template <class Change>
Ring ring(std::string name, Change change) {
    Ring made{std::move(name), {}};
    made.options.kind = driver_kind::uring;
    change(made.options);
    return made;
}

std::vector<Ring> rings() {
    return {
        ring("everything this kernel has", [](ExecutorOptions&) {}),
        ring("no deferred work", [](ExecutorOptions& options) { options.uring.defer_taskrun = false; }),
        ring("no set-up flags at all",
             [](ExecutorOptions& options) { options.uring.defer_taskrun = options.uring.coop_taskrun = false; }),
        ring("no direct descriptors", [](ExecutorOptions& options) { options.uring.direct_descriptors = false; }),
        ring("no options through the ring", [](ExecutorOptions& options) { options.uring.ring_options = false; }),
        ring("no multishot accept", [](ExecutorOptions& options) { options.uring.multishot_accept = false; }),
        ring("no multishot receive", [](ExecutorOptions& options) { options.uring.multishot_receive = false; }),
        ring("the shortest queue", [](ExecutorOptions& options) { options.queue_entries = 0; }),
        ring("two short buffers",
             [](ExecutorOptions& options) {
                 options.buffer_count = 2;
                 options.buffer_bytes = 64;
             }),
        ring("nothing of it all, and little of the rest",
             [](ExecutorOptions& options) {
                 options.uring = {false, false, false, false, false, false};
                 options.queue_entries = 1;
                 options.buffer_count = 1;
                 options.buffer_bytes = 512;
             }),
    };
}

/// Runs what `make` returns on each of the rings, and checks that nothing is left of it.
template <class Make>
void on_each(Make make) {
    for (const Ring& each : rings()) {
        INFO("a ring with ", each.name);
        run_clean([&] { return make(each); }, each.options);
    }
}

task<> send_all(TcpStream& stream, const std::string& text) {
    co_await stream.send(text);
    co_await stream.shutdown_write();
}

/// Lowers the number of descriptors that the process may have.
class DescriptorLimit {
   public:
    explicit DescriptorLimit(rlim_t most) {
        ::getrlimit(RLIMIT_NOFILE, &before_);
        rlimit low = before_;
        low.rlim_cur = most;
        ::setrlimit(RLIMIT_NOFILE, &low);
    }
    DescriptorLimit(const DescriptorLimit&) = delete;
    DescriptorLimit& operator=(const DescriptorLimit&) = delete;
    ~DescriptorLimit() { ::setrlimit(RLIMIT_NOFILE, &before_); }

   private:
    rlimit before_{};
};

/// An operation of the test's own, that keeps what it hears.
struct heard : operation {
    heard(op_kind what, descriptor* target)
        : operation(what, target, [](operation& op) noexcept {
              static_cast<heard&>(op).results.push_back(op.result);
              static_cast<heard&>(op).ended = !op.more;
          }) {}
    std::vector<int> results;
    bool ended = false;
};

/// Lets the driver turn until that is so. Requires: no executor runs.
template <class Done>
void turn_until(Driver& driver, Done done) {
    while (!done()) driver.turn(Clock::never);
}

}  // namespace

TEST_SUITE("uring fallbacks") {
    TEST_CASE("streams carry what they should, both ways at once, whole and in slices") {
        const std::string text = pattern(1 << 20);
        on_each([&](const Ring&) -> task<> {
            StreamPair pair = co_await connected_streams();
            task<std::string> there = read_slices(pair.server, text.size() + 1);
            task<std::string> back = read_into(pair.client, text.size() + 1, 10'000);
            const auto [at_server, at_client, sent, sent_back] = co_await gather(
                std::move(there), std::move(back), send_all(pair.client, text), send_all(pair.server, text));
            CHECK(at_server == text);
            CHECK(at_client == text);
        });
    }

    TEST_CASE("connections come in order; a cancelled accept loses none, a closed listener refuses the rest") {
        on_each([](const Ring&) -> task<> {
            TcpListener listener = TcpListener::bind(Address::loopback(0));
            CHECK_FALSE((co_await as_result(with_timeout(0ns, listener.accept()))).has_value());
            std::vector<TcpStream> clients;
            for (int count = 0; count < 30; ++count) {
                clients.push_back(co_await TcpStream::connect(listener.local()));
                co_await clients.back().send(std::to_string(count));
            }
            for (int count = 0; count < 20; ++count) {
                TcpStream server = co_await listener.accept();
                const std::string said = co_await read_slices(server, std::to_string(count).size());
                CHECK(said == std::to_string(count));
            }
            co_await listener.close();
            std::array<std::byte, 1> nothing;
            const auto ended = co_await as_result(clients.back().receive(nothing));
            CHECK((!ended || *ended == 0));
        });
    }

    TEST_CASE("tasks that are always ready hear of what comes") {
        on_each([](const Ring&) -> task<> {
            TcpListener listener = TcpListener::bind(Address::loopback(0));
            const Address address = listener.local();
            std::atomic<bool> go = false;
            // Another thread, for nothing that this one submits may bring it into the kernel.
            const std::jthread visitor{[&address, &go] {
                const int plain = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
                static_cast<void>(::connect(plain, address.data(), address.size()));
                go.wait(false);
                static_cast<void>(::send(plain, "hello", 5, MSG_NOSIGNAL));
                ::close(plain);
            }};
            TcpStream server = co_await listener.accept();
            bool received = false;
            auto reader = [&]() -> task<> {
                const std::string said = co_await read_slices(server, 5);
                CHECK(said == "hello");
                received = true;
            };
            auto busy = [&]() -> task<> {
                go = true;
                go.notify_one();
                int more = 0;
                while (!received && more < 10'000'000) co_await yield(), ++more;
                CHECK(received);
            };
            co_await gather(reader(), busy());
        });
    }

    TEST_CASE("the options of sockets are set") {
        on_each([](const Ring& on) -> task<> {
            TcpListener listener = TcpListener::bind(Address::loopback(0));
            ConnectOptions options;
            options.keep_alive = true;
            const TcpStream client = co_await TcpStream::connect(listener.local(), options);
            TcpStream server = co_await listener.accept();
            const tcp_end near{server.peer(), server.local()};
            const tcp_end far{server.local(), server.peer()};
            CHECK(timer_of(near) == keep_alive_timer);
            CHECK(option_of(far, IPPROTO_TCP, TCP_NODELAY) == 1);
            const bool direct = on.options.uring.direct_descriptors && on.options.uring.ring_options;
            CHECK(option_of(near, IPPROTO_TCP, TCP_NODELAY) == (direct ? std::nullopt : std::optional{1}));
        });
    }

    TEST_CASE("an option that the kernel refuses fails with the kernel's reason") {
        for (const Ring& each : rings()) {
            INFO("a ring with ", each.name);
            const leak_check leaks;
            const std::unique_ptr<Driver> driver = make_driver(each.options);
            descriptor file;
            const Address any = Address::loopback(0);
            REQUIRE(driver->bind({.address = any.data(), .address_bytes = any.size(), .type = SOCK_STREAM}, file) == 0);
            const int on = 1;
            heard option{op_kind::set_option, &file};
            option.offset = std::uint64_t{IPPROTO_TCP} << 32 | 0xffffU;
            option.address = const_cast<int*>(&on);
            option.length = sizeof on;
            driver->submit(option);
            turn_until(*driver, [&] { return option.ended; });
            CHECK(option.results == std::vector{-ENOPROTOOPT});
            driver->discard(file);
        }
    }

    TEST_CASE("where the ring can not do with one request for many, it asks again and again") {
        for (const Ring& each : rings()) {
            INFO("a ring with ", each.name);
            auto count = [&]() -> task<> {
                constexpr int rounds = 5;
                constexpr int connect_steps = 3;
                const DriverStatistics& counted = Executor::here().driver().statistics();
                TcpListener listener = TcpListener::bind(Address::loopback(0));
                std::vector<TcpStream> all;
                std::uint64_t before = counted.submitted;
                for (int round = 0; round < rounds; ++round) {
                    all.push_back(co_await TcpStream::connect(listener.local()));
                    all.push_back(co_await listener.accept());
                }
                const std::uint64_t accepts = counted.submitted - before - rounds * connect_steps;
                CHECK(accepts == (each.options.uring.multishot_accept ? 1 : 1 + rounds));
                before = counted.submitted;
                for (int round = 0; round < rounds; ++round) {
                    co_await all[0].send("x");
                    CHECK((co_await all[1].receive()).size() == 1);
                }
                const std::uint64_t receives = counted.submitted - before - rounds;
                CHECK(receives == (each.options.uring.multishot_receive ? 1 : 1 + rounds));
            };
            run_clean(count, each.options);
        }
    }

    TEST_CASE("a request that the kernel refuses for many is repeated for one") {
        // This kernel refuses it together with waiting for all bytes; another one always.
        const leak_check leaks;
        const std::unique_ptr<Driver> driver = make_driver(rings().front().options);
        int ends[2];
        REQUIRE(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0);
        descriptor file{ends[0], false};
        heard receive{op_kind::receive, &file};
        receive.multishot = receive.select_buffer = true;
        receive.flags = MSG_WAITALL;
        driver->submit(receive);
        const std::string full(driver->buffers().buffer_bytes(), 'x');
        for (std::size_t times = 1; times <= 3; ++times) {
            REQUIRE(::send(ends[1], full.data(), full.size(), 0) == static_cast<ssize_t>(full.size()));
            turn_until(*driver, [&] { return receive.results.size() == times; });
            CHECK(receive.results.back() == static_cast<int>(full.size()));
            CHECK_FALSE(receive.ended);
            driver->buffers().give_back(static_cast<std::uint16_t>(receive.buffer_id));
        }
        CHECK(driver->statistics().submitted == 5);  // in vain, and then one more than there were answers
        ::close(ends[1]);
        turn_until(*driver, [&] { return receive.ended; });
        CHECK(receive.results.back() == 0);
        ::close(ends[0]);
    }

    TEST_CASE("a request that is wrong in itself costs no other its many answers") {
        const leak_check leaks;
        ExecutorOptions options = rings().front().options;
        options.uring.defer_taskrun = options.uring.coop_taskrun = false;  // what ends is seen before the next request
        const std::unique_ptr<Driver> driver = make_driver(options);
        const Address any = Address::loopback(0);
        const binding mute{.address = any.data(), .address_bytes = any.size(), .type = SOCK_STREAM};
        binding listening = mute;
        listening.backlog = 8;
        descriptor listener;
        descriptor deaf;
        REQUIRE(driver->bind(listening, listener) == 0);
        REQUIRE(driver->bind(mute, deaf) == 0);
        sockaddr_in where{};
        std::uint32_t size = sizeof where;
        REQUIRE(driver->local_address(listener, reinterpret_cast<sockaddr*>(&where), &size) == 0);
        heard accept{op_kind::accept, &listener};
        heard wrong{op_kind::accept, &deaf};
        accept.multishot = wrong.multishot = true;
        std::vector<int> opened;
        auto connect = [&] {
            opened.push_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
            REQUIRE(::connect(opened.back(), reinterpret_cast<const sockaddr*>(&where), size) == 0);
        };
        driver->submit(accept);
        driver->submit(wrong);
        driver->turn(Clock::time_point::min());
        CHECK_FALSE(wrong.ended);  // it is to be repeated
        CHECK(driver->statistics().submitted == 3);
        connect();
        turn_until(*driver, [&] { return wrong.ended && accept.results.size() == 1; });
        CHECK(wrong.results == std::vector{-EINVAL});
        CHECK(driver->statistics().submitted == 3);
        opened.push_back(accept.results.back());
        driver->cancel(accept);
        turn_until(*driver, [&] { return accept.ended; });
        accept.results.clear();
        driver->submit(accept);
        for (std::size_t times = 1; times <= 3; ++times) {
            connect();
            turn_until(*driver, [&] { return accept.results.size() == times; });
            opened.push_back(accept.results.back());
        }
        CHECK(driver->statistics().submitted == 4);
        accept.ended = false;
        driver->cancel(accept);
        turn_until(*driver, [&] { return accept.ended; });
        CHECK(driver->statistics().in_flight == 0);
        for (const int fd : opened) ::close(fd);
        driver->discard(listener);
        driver->discard(deaf);
    }

    TEST_CASE("waits end when they are cancelled, thousands at once, and what came is not lost") {
        on_each([](const Ring&) -> task<> {
            StreamPair pair = co_await connected_streams();
            std::array<std::byte, 4> bytes{};
            for (int round = 0; round < 10; ++round) {
                CHECK_FALSE((co_await as_result(with_timeout(0ns, pair.server.receive(bytes)))).has_value());
                CHECK_FALSE((co_await as_result(with_timeout(0ns, pair.server.receive()))).has_value());
            }
            co_await pair.client.send("kept");
            CHECK(co_await read_slices(pair.server, 4) == "kept");
            std::vector<UdpSocket> sockets;
            for (int count = 0; count < 100; ++count) sockets.push_back(UdpSocket::bind(Address::loopback(0)));
            co_await with_scope([&](scope& here) -> task<> {
                for (UdpSocket& each : sockets) {
                    here.spawn([](UdpSocket& socket) -> task<> {
                        std::array<std::byte, 1> buffer{};
                        static_cast<void>(co_await socket.receive_from(buffer));
                    }(each));
                }
                co_await yield();
                here.cancel();
            });
        });
    }

    TEST_CASE("datagrams arrive, and other threads wake the ring") {
        on_each([](const Ring&) -> task<> {
            UdpSocket one = UdpSocket::bind(Address::loopback(0));
            UdpSocket other = UdpSocket::bind(Address::loopback(0));
            std::array<std::byte, 8> buffer{};
            co_await one.send_to(std::as_bytes(std::span{"datagram", 8}), other.local());
            const net::Datagram got = co_await other.receive_from(buffer);
            CHECK(got.size_bytes == 8);
            CHECK(got.from == one.local());
            const std::thread::id mine = std::this_thread::get_id();
            for (int round = 0; round < 5; ++round) {
                const std::thread::id other_thread = co_await offload([] { return std::this_thread::get_id(); });
                CHECK(other_thread != mine);
            }
        });
    }

    TEST_CASE("a site is visited, plain and over TLS, and the plug may be pulled") {
        const testing::CertificateWorld world;
        const net::TlsServerOptions certificate = world.server({"localhost"});
        for (const Ring& each : rings()) {
            INFO("a ring with ", each.name);
            http::SessionOptions options;
            options.tls = net::TlsContext::client(world.client());
            run_clean([&] { return load::visit_site({}, options); }, each.options);
            const net::TlsContext site = net::TlsContext::server(certificate);
            run_clean([&] { return load::visit_site(site, options); }, each.options);
            plug_options plug{each.options};
            plug.errors_allowed = true;
            plug.most = 10;
            CHECK(pull_the_plug([&] { return load::visit_site(site, options); }, plug) > 10);
        }
    }

    TEST_CASE(
        "when the ring's table of descriptors is full connecting fails in those words, until there is room again") {
        const leak_check leaks;
        std::optional<Executor> executor;
        {
            const DescriptorLimit few{open_files::now().count + 16};
            executor.emplace(rings().front().options);
        }
        executor->run([]() -> task<> {
            TcpListener listener = TcpListener::bind(Address::loopback(0), {.backlog = 512});
            std::vector<TcpStream> clients;
            result<TcpStream> made = co_await as_result(TcpStream::connect(listener.local()));
            for (; made && clients.size() < 500; made = co_await as_result(TcpStream::connect(listener.local()))) {
                clients.push_back(std::move(*made));
            }
            REQUIRE_FALSE(made.has_value());
            CHECK(made.error().code() == std::errc::too_many_files_open);
            CHECK(clients.size() < 500);
            co_await clients.back().close();
            const TcpStream again = co_await TcpStream::connect(listener.local());
            // What needs no place in the table goes on.
            descriptor file;
            heard open{op_kind::socket, &file};
            open.flags = AF_INET;
            open.length = SOCK_STREAM;
            Executor::here().driver().submit(open);
            while (!open.ended) co_await yield();
            CHECK(open.results.back() >= 0);
            CHECK_FALSE(file.direct);
            Executor::here().driver().discard(file);
        }());
        leak_check::check(executor->statistics());
        executor.reset();
    }

    TEST_CASE("more is asked for than the submission queue takes, and nothing is left behind") {
        ExecutorOptions options = rings().front().options;
        options.queue_entries = 8;
        run_clean(
            []() -> task<> {
                TcpListener listener = TcpListener::bind(Address::loopback(0), {.backlog = 512});
                std::vector<TcpStream> clients;
                co_await with_scope([&](scope& here) -> task<> {
                    for (int count = 0; count < 300; ++count) {
                        here.spawn([](std::vector<TcpStream>& all, Address where) -> task<> {
                            TcpStream made = co_await TcpStream::connect(where);
                            co_await made.send("hello");
                            all.push_back(std::move(made));
                        }(clients, listener.local()));
                    }
                    for (int count = 0; count < 300; ++count) {
                        TcpStream server = co_await listener.accept();
                        CHECK(co_await read_slices(server, 5) == "hello");
                    }
                });
                // All of them wait, and all of them are cancelled: more requests than fit as well.
                co_await with_scope([&](scope& here) -> task<> {
                    for (TcpStream& each : clients) here.spawn(discard(each.receive()));
                    co_await yield();
                    here.cancel();
                });
            },
            options);
    }
}
