#include "simulated.hpp"

#include <algorithm>
#include <cerrno>
#include <forked.hpp>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <steps.hpp>
#include <vector>

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <torc/runtime/io.hpp>

// Goal: the freedoms and failures of the simulated kernel: every error an operation can have, queues that are full,
// buffers that are not there, completions in any order, cancellations that come too late; and what dies with a
// sentence.

using namespace torc;
using namespace torc::test;

namespace {

/// One operation of a kind, awaited for its bare result.
struct bare : torc::detail::io_awaitable<bare> {
    bare(op_kind what, descriptor* target) noexcept : io_awaitable(what, target) {}
    [[nodiscard]] torc::result<int> take() const { return outcome(); }
};

/// Each kind of operation once, on whatever sockets it needs: gives how it ended. What had to be there for it was made
/// without failures, before.
class Kinds {
   public:
    explicit Kinds(net::TcpListener listener, net::TcpStream client, net::TcpStream server)
        : listener_(std::move(listener)), client_(std::move(client)), server_(std::move(server)) {}

    task<int> run(op_kind kind) {
        descriptor opened;
        bare op{kind, kind == op_kind::socket ? &opened : &client_.record().file()};
        char memory[16] = "x";
        const int on = 1;
        iovec part{memory, 1};
        [[maybe_unused]] msghdr message{};  // GCC 12 does not see its uses
        message.msg_iov = &part;
        message.msg_iovlen = 1;
        switch (kind) {
            case op_kind::socket:
                op.flags = AF_INET;
                op.length = SOCK_STREAM;
                break;
            case op_kind::receive:
                co_await server_.send("x");
                op.address = memory;
                op.length = 1;
                break;
            case op_kind::send:
                op.address = memory;
                op.length = 1;
                break;
            case op_kind::send_vector: op.address = &message; break;
            case op_kind::set_option:
                op.offset = static_cast<std::uint64_t>(IPPROTO_TCP) << 32 | TCP_NODELAY;
                op.address = const_cast<int*>(&on);
                op.length = sizeof on;
                break;
            case op_kind::poll: op.flags = POLLOUT; break;
            case op_kind::shutdown: op.flags = SHUT_RD; break;
            default: break;
        }
        const int result = co_await op;
        if (opened.open()) {
            bare close{op_kind::close, &opened};
            static_cast<void>(co_await close);
        }
        co_return result;
    }

   private:
    net::TcpListener listener_;
    net::TcpStream client_;
    net::TcpStream server_;
};

void dies_saying(const std::string& sentence, const std::function<task<>(sim::World&)>& wrong) {
    Forked child{[&] {
        sim::Options options;
        options.replay = "try this again";
        sim::run(77, options, wrong);
        return 0;
    }};
    const int status = child.wait();
    INFO("status ", status, ", said: ", child.output());
    CHECK(status == -SIGABRT);
    CHECK(child.output().find("torc: " + sentence + " (") != std::string::npos);
    CHECK(child.output().find("simulation of seed 77 failed; to repeat it: try this again\n") != std::string::npos);
    CHECK(child.output().find("the last events:\n") != std::string::npos);
}

/// Which errors a connect, an accept, a conversation and a close meet in 200 runs where operations fail.
std::set<int> errors_met(double failure) {
    std::set<int> met;
    sim::Options options = plain();
    options.failure = failure;
    const auto note = [&](const Error& error) { met.insert(error.code().value()); };
    for (std::uint64_t seed = 1; seed <= 200; ++seed) {
        sim::run(seed, options, [&]() -> task<> {
            net::TcpListener listener = net::TcpListener::bind(net::Address::any(80));
            auto serve = [&]() -> task<> {
                auto accepted = co_await as_result(listener.accept());
                if (!accepted) co_return note(accepted.error());
                const auto received = co_await as_result(receive_exactly(*accepted, 1));
                if (!received) note(received.error());
                const auto closed = co_await as_result(accepted->close());
                if (!closed) note(closed.error());
            };
            auto visit = [&]() -> task<> {
                auto stream = co_await as_result(net::TcpStream::connect(net::Address::loopback(80)));
                if (!stream) co_return note(stream.error());
                const auto sent = co_await as_result(stream->send("x"));
                if (!sent) note(sent.error());
                const auto ended = co_await as_result(stream->shutdown_write());
                if (!ended) note(ended.error());
            };
            // One of them may wait for what the other could not do.
            static_cast<void>(co_await as_result(with_timeout(1min, gather(serve(), visit()))));
        });
    }
    return met;
}

}  // namespace

TEST_SUITE("sim: failures") {
    TEST_CASE("each kind of operation fails with each of its errors, and with no other") {
        constexpr op_kind kinds[] = {op_kind::socket,     op_kind::receive, op_kind::send,    op_kind::send_vector,
                                     op_kind::set_option, op_kind::poll,    op_kind::shutdown};
        for (const op_kind kind : kinds) {
            CAPTURE(std::string{to_string(kind)});
            const std::span<const int> possible = sim::possible_errors(kind);
            REQUIRE_FALSE(possible.empty());
            std::set<int> seen;
            for (std::uint64_t seed = 1; seed <= 400; ++seed) {
                sim::Options options;
                options.failure = 0.5;
                sim::run(seed, options, [&]() -> task<> {
                    net::TcpListener listener = net::TcpListener::bind(net::Address::any(80));
                    auto connecting = co_await as_result(net::TcpStream::connect(net::Address::loopback(80)));
                    if (!connecting) co_return;
                    auto accepting = co_await as_result(listener.accept());
                    if (!accepting) co_return;
                    Kinds all{std::move(listener), std::move(*connecting), std::move(*accepting)};
                    const auto result = co_await as_result(all.run(kind));
                    if (result && *result < 0) seen.insert(-*result);
                });
            }
            CHECK(seen == std::set<int>(possible.begin(), possible.end()));
        }
        CHECK(sim::possible_errors(op_kind::nop).empty());
    }

    TEST_CASE("errors of every stage of a connection reach the program, and leave nothing behind") {
        const std::set<int> met = errors_met(0.2);
        std::set<int> possible;
        for (const op_kind kind : {op_kind::socket, op_kind::connect, op_kind::accept, op_kind::receive, op_kind::send,
                                   op_kind::shutdown, op_kind::close}) {
            for (const int error : sim::possible_errors(kind)) possible.insert(error);
        }
        possible.insert(static_cast<int>(errc::timed_out));
        for (const int error : met) CHECK_MESSAGE(possible.contains(error), "error ", error, " is possible");
        for (const int error : {EMFILE, ECONNREFUSED, ECONNABORTED, ECONNRESET, EPIPE, EIO, ENOTCONN}) {
            CHECK_MESSAGE(met.contains(error), "error ", error, " was met");
        }
        CHECK(errors_met(0).empty());
    }

    TEST_CASE("datagrams fail, too, as they can") {
        std::set<int> sending;
        std::set<int> receiving;
        for (std::uint64_t seed = 1; seed <= 200; ++seed) {
            sim::Options options;
            options.failure = 0.3;
            sim::run(seed, options, [&]() -> task<> {
                net::UdpSocket socket = net::UdpSocket::bind(net::Address::loopback(0));
                const std::array<std::byte, 1> bytes{};
                std::array<std::byte, 1> buffer{};
                const auto sent = co_await as_result(socket.send_to(bytes, socket.local()));
                if (!sent) sending.insert(sent.error().code().value());
                if (!sent) co_return;
                const auto received = co_await as_result(socket.receive_from(buffer));
                if (!received) receiving.insert(received.error().code().value());
            });
        }
        const auto all = [](op_kind kind) {
            const std::span<const int> possible = sim::possible_errors(kind);
            return std::set<int>(possible.begin(), possible.end());
        };
        CHECK(sending == all(op_kind::send_message));
        CHECK(receiving == all(op_kind::receive_message));
    }
}

TEST_SUITE("sim: freedoms of the kernel") {
    TEST_CASE("a connect that is cut short is never taken for a connection, with chains and without") {
        for (const bool chains : {false, true}) {
            int connected = 0;
            int cut = 0;
            for (int limit_us = 0; limit_us < 100; ++limit_us) {
                sim::Options options;
                options.chains_open = chains;
                options.completion_delay = 50us;
                options.cancel_delay = 20us;
                sim::run(static_cast<std::uint64_t>(limit_us) + 1, options, [&](sim::World&) -> task<> {
                    net::TcpListener listener = net::TcpListener::bind(net::Address::any(80));
                    auto stream = co_await as_result(with_timeout(std::chrono::microseconds{limit_us},
                                                                  net::TcpStream::connect(net::Address::loopback(80))));
                    ++(stream ? connected : cut);
                    if (stream) CHECK_FALSE(co_await send_failure(*stream));
                });
            }
            CHECK(cut > 0);
            CHECK(connected + cut == 100);
        }
    }

    TEST_CASE("a receive that finds no buffer falls back, and no byte is lost") {
        for (const bool small : {false, true}) {
            sim::Options options = plain();
            options.window_bytes = 2000;
            options.no_buffers = small ? 0 : 0.5;
            if (small) {
                options.executor.buffer_count = 2;
                options.executor.buffer_bytes = 256;
            }
            const sim::Report report = sim::run(1, options, [](sim::World& world) -> task<> {
                Pair pair = co_await connected_pair(world);
                const std::string text = pattern(50'000);
                auto send = [&]() -> task<> {
                    co_await pair.client.send(text);
                    co_await pair.client.shutdown_write();
                };
                std::string received;
                std::vector<BufferSlice> kept;
                auto receive = [&]() -> task<> {
                    for (;;) {
                        BufferSlice slice = co_await pair.server.receive();
                        if (slice.empty()) break;
                        received.append(reinterpret_cast<const char*>(slice.bytes().data()), slice.size());
                        kept.push_back(std::move(slice));
                        if (kept.size() > 3) kept.erase(kept.begin());
                    }
                };
                co_await gather(send(), receive());
                CHECK(received == text);
            });
            CHECK(report.statistics.buffers_starved > 3);
        }
    }

    TEST_CASE("multishot operations end early and are begun again") {
        const auto submitted = [](double ends) {
            sim::Options options = plain();
            options.multishot_end = ends;
            return sim::run(1, options,
                            [](sim::World& world) -> task<> {
                                Pair pair = co_await connected_pair(world);
                                for (int count = 0; count < 50; ++count) {
                                    co_await pair.client.send("0123456789");
                                    const BufferSlice slice = co_await pair.server.receive();
                                    CHECK(slice.size() == 10);
                                }
                                net::TcpListener listener = net::TcpListener::bind(net::Address::any(81));
                                for (int count = 0; count < 50; ++count) {
                                    const net::Address where = net::Address::loopback(81);
                                    auto [one, other] =
                                        co_await gather(net::TcpStream::connect(where), listener.accept());
                                }
                            })
                .statistics.submitted;
        };
        const std::uint64_t never = submitted(0);
        CHECK(submitted(0.5) > never + 30);
        CHECK(submitted(1) > submitted(0.5) + 30);
    }

    TEST_CASE("a full queue takes a few operations a turn; all get their turn") {
        sim::Options options;
        options.full_queue = 1;
        const auto program = [](int& done) -> task<> {
            co_await with_scope([&](scope& here) -> task<> {
                for (int number = 0; number < 200; ++number) {
                    here.spawn([](int& count) -> task<> {
                        co_await driver_turns(3);
                        ++count;
                    }(done));
                }
                co_return;
            });
        };
        int done = 0;
        const sim::Report full = sim::run(1, options, [&] { return program(done); });
        CHECK(done == 200);
        const sim::Report wide = sim::run(1, {}, [&] { return program(done); });
        CHECK(done == 400);
        CHECK(full.statistics.turns > 10 * wide.statistics.turns);
    }

    TEST_CASE("a turn that ends with nothing done disturbs nothing") {
        sim::Options options = plain();
        const auto program = [](sim::World& world) -> task<> {
            Pair pair = co_await connected_pair(world);
            for (int count = 0; count < 50; ++count) {
                co_await pair.client.send("x");
                CHECK(co_await receive_exactly(pair.server, 1) == "x");
                co_await sleep_for(1ms);
            }
        };
        const sim::Report calm = sim::run(1, options, program);
        options.spurious_wake = 0.5;
        const sim::Report restless = sim::run(1, options, program);
        CHECK(restless.statistics.turns > calm.statistics.turns * 3 / 2);
        CHECK(restless.statistics.completions == calm.statistics.completions);
    }

    TEST_CASE("deadlines are met late by as much as they are told, never early") {
        sim::Options options;
        options.timer_lag = 10ms;
        Clock::duration sum{};
        sim::run(1, options, [&]() -> task<> {
            for (int count = 0; count < 200; ++count) {
                const Clock::time_point until = Clock::now() + 50ms;
                co_await sleep_until(until);
                CHECK(Clock::now() >= until);
                sum += Clock::now() - until;
            }
        });
        CHECK(sum / 200 > 5ms);
        CHECK(sum / 200 < 20ms);
    }

    TEST_CASE("cancellations land before, with and after the completion") {
        std::map<std::string, int> ends;
        for (std::uint64_t seed = 1; seed <= 400; ++seed) {
            sim::Options options = plain();
            options.completion_delay = 1ms;
            options.cancel_delay = 1ms;
            const sim::Report report = sim::run(seed, options, [&](sim::World& world) -> task<> {
                Pair pair = co_await connected_pair(world);
                std::array<std::byte, 1> byte{};
                std::optional<std::size_t> received;
                auto receive = [&]() -> task<> { received = co_await pair.server.receive(byte); };
                co_await pair.client.send("x");
                const Clock::time_point arrival = world.now() + 10ms;
                co_await with_scope([&](scope& here) -> task<> {
                    here.spawn(receive());
                    co_await sleep_until(arrival + world.random().around(1ms) - 1ms);
                    here.cancel();
                });
                ++ends[received ? "received" : "cancelled"];
                // It was received, or is still there.
                if (!received) CHECK(co_await receive_exactly(pair.server, 1) == "x");
            });
            if (report.statistics.cancels_too_late > 0) ++ends["too late"];
            if (report.statistics.cancels_landed > 0) ++ends["landed"];
        }
        CHECK(ends["received"] > 5);
        CHECK(ends["cancelled"] > 5);
        CHECK(ends["too late"] > 5);
        CHECK(ends["landed"] > 5);
    }

    TEST_CASE("ready tasks run in the order of becoming ready, or in any") {
        const auto order = [](std::uint64_t seed, bool shuffle) {
            sim::Options options;
            options.shuffle = shuffle;
            std::vector<int> numbers;
            sim::run(seed, options, [&]() -> task<> {
                co_await with_scope([&](scope& here) -> task<> {
                    for (int number = 0; number < 30; ++number) {
                        here.spawn([](std::vector<int>& all, int mine) -> task<> {
                            co_await yield();
                            all.push_back(mine);
                        }(numbers, number));
                    }
                    co_return;
                });
            });
            return numbers;
        };
        const std::vector<int> sorted = order(1, false);
        CHECK(sorted.size() == 30);
        CHECK(std::ranges::is_sorted(sorted));
        const std::vector<int> one = order(1, true);
        CHECK_FALSE(std::ranges::is_sorted(one));
        CHECK(std::ranges::is_permutation(one, sorted));
        CHECK(one == order(1, true));
        CHECK(one != order(2, true));
    }

    TEST_CASE("where chains do not open, connecting takes its steps one by one, to the same end") {
        for (const bool open : {true, false}) {
            sim::Options options = plain();
            options.chains_open = open;
            sim::run(1, options, [](sim::World& world) -> task<> {
                Pair pair = co_await connected_pair(world);
                co_await pair.client.send("x");
                CHECK(co_await receive_exactly(pair.server, 1) == "x");
            });
        }
    }
}

TEST_SUITE("sim: wrong use") {
    TEST_CASE("memory that is used while an operation owns it") {
        dies_saying("memory changed while an operation in flight owned it", [](sim::World& world) -> task<> {
            Pair pair = co_await connected_pair(world);
            std::array<char, 8> memory{};
            auto receive = [&]() -> task<> {
                static_cast<void>(co_await pair.server.receive(std::as_writable_bytes(std::span{memory})));
            };
            auto disturb = [&]() -> task<> {
                co_await sleep_for(1ms);
                memory[3] = 'x';
                co_await pair.client.send("question");
            };
            co_await gather(receive(), disturb());
        });
        dies_saying("memory changed while an operation in flight owned it", [](sim::World& world) -> task<> {
            Pair pair = co_await connected_pair(world);
            std::string text(200'000, 'a');  // more than the window, so that it waits
            auto send = [&]() -> task<> { co_await pair.client.send(text); };
            auto disturb = [&]() -> task<> {
                co_await sleep_for(1s);
                text.back() = 'b';
                static_cast<void>(co_await receive_exactly(pair.server, text.size()));
            };
            co_await gather(send(), disturb());
        });
        dies_saying("memory changed while an operation in flight owned it", [](sim::World&) -> task<> {
            net::UdpSocket socket = net::UdpSocket::bind(net::Address::loopback(0));
            std::array<std::byte, 8> memory{};
            auto receive = [&]() -> task<> { static_cast<void>(co_await socket.receive_from(memory)); };
            auto disturb = [&]() -> task<> {
                co_await driver_turns(3);
                memory[3] = std::byte{1};
            };
            co_await with_timeout(1s, gather(receive(), disturb()));
        });
    }

    TEST_CASE("a descriptor that is closed under an operation") {
        dies_saying("a descriptor was closed while an operation on it was in flight", [](sim::World& world) -> task<> {
            Pair pair = co_await connected_pair(world);
            auto receive = [&]() -> task<> { static_cast<void>(co_await receive_exactly(pair.server, 1)); };
            auto close = [&]() -> task<> {
                co_await sleep_for(1s);
                descriptor same = pair.server.record().file();
                bare closing{op_kind::close, &same};
                static_cast<void>(co_await closing);
            };
            co_await gather(receive(), close());
        });
    }

    TEST_CASE("the world of an executor that is not simulated") {
        Forked child{[] {
            ExecutorOptions options;
            options.kind = driver_kind::epoll;
            Executor executor{options};
            executor.run([]() -> task<> {
                static_cast<void>(sim::World::here());
                co_return;
            }());
            return 0;
        }};
        CHECK(child.wait() == -SIGABRT);
        CHECK(child.output().find("torc: World::here needs an executor that is simulated (") != std::string::npos);
    }
}
