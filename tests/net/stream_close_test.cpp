#include <doctest/doctest.h>

#include <array>
#include <blocking_peer.hpp>
#include <leak_check.hpp>
#include <memory>
#include <optional>
#include <plug.hpp>
#include <semaphore>
#include <steps.hpp>
#include <string>
#include <vector>

#include <torc/net/listener.hpp>
#include <torc/net/stream.hpp>
#include <torc/runtime/gather.hpp>
#include <torc/runtime/race.hpp>
#include <torc/runtime/scope.hpp>
#include <torc/runtime/timeout.hpp>
#include <torc/runtime/with.hpp>

// Structured close of real sockets: when the task that owned one has ended, however it ended, the descriptor is gone
// and the peer has seen the end.

namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using torc::as_result;
using torc::errc;
using torc::Error;
using torc::scope;
using torc::task;
using torc::net::TcpListener;
using torc::net::TcpStream;
using namespace torc::test;

std::size_t open_descriptors() { return torc::Executor::here().statistics().open_descriptors; }
std::uint64_t ungraceful() { return torc::Executor::here().statistics().ungraceful_closes; }

enum class way { returns, throws, is_cancelled, times_out };
enum class state { idle, reading, sending, slices_waiting };

/// A whole conversation in one frame, left in one way or another in one state or another.
task<> converse(PeerServer& server, way how, state when) {
    TcpStream stream = co_await TcpStream::connect(server.address());
    {
        TcpStream inner = co_await TcpStream::connect(server.address());
        co_await inner.send("x");
    }
    const std::string big(16 << 20, 'x');
    auto busy = [&]() -> task<> {
        if (when == state::reading) {
            static_cast<void>(co_await stream.receive());
        } else if (when == state::sending) {
            co_await stream.send(big);
        } else {
            co_await forever();
        }
    };
    if (when == state::slices_waiting) {
        co_await stream.send("x");
        static_cast<void>(co_await stream.receive());
        co_await stream.send("xyz");
    }
    if (how == way::returns) co_return;
    if (how == way::throws) {
        co_await torc::gather(busy(), fail_after(2, "thrown"));
    } else {
        co_await busy();
    }
}

}  // namespace

TEST_CASE("when a task has ended its sockets are closed, whatever they were doing and however it ended") {
    for (const way how : {way::returns, way::throws, way::is_cancelled, way::times_out}) {
        for (const state when : {state::idle, state::reading, state::sending, state::slices_waiting}) {
            INFO("way ", static_cast<int>(how), ", state ", static_cast<int>(when));
            PeerServer server{[&](int fd) {
                if (when == state::sending) {
                    peer::read_all(fd);
                } else {
                    peer::echo(fd);
                }
            }};
            run_clean([&]() -> task<> {
                bool ended = false;
                auto observer = [&]() -> task<> {
                    try {
                        co_await converse(server, how, when);
                    } catch (...) {
                        CHECK(open_descriptors() == 0);
                        CHECK(torc::Executor::here().statistics().buffers_lent == 0);
                        ended = true;
                        throw;
                    }
                    CHECK(open_descriptors() == 0);
                    ended = true;
                };
                if (how == way::returns || how == way::throws) {
                    static_cast<void>(co_await as_result(observer()));
                } else if (how == way::times_out) {
                    static_cast<void>(co_await as_result(torc::with_timeout(milliseconds{2}, observer())));
                } else {
                    co_await torc::with_scope([&](scope& here) -> task<> {
                        here.spawn(observer());
                        while (open_descriptors() == 0) co_await torc::yield();
                        here.cancel();
                    });
                }
                CHECK(ended);
            });
            server.wait_for_ends(server.connections());
        }
    }
}

TEST_CASE("the descriptor is gone from the process's table when the task has returned") {
    PeerServer server;
    run_clean([&]() -> task<> {
        TcpListener listener = TcpListener::bind(torc::net::Address::loopback(0));
        const std::size_t before = open_files::now().count;
        auto accepting = [&]() -> task<> {
            // Accepted sockets are the process's own; connected ones may be the ring's alone.
            auto [client, accepted] = co_await torc::gather(TcpStream::connect(listener.local()), listener.accept());
            CHECK(open_files::now().count > before);
            co_await accepted.send("x");
            static_cast<void>(co_await client.receive());
        };
        co_await accepting();
        CHECK(open_files::now().count == before);
    });
}

TEST_CASE("a stream that is passed by value is closed by whoever lets go of it, a returned one by whoever keeps it") {
    PeerServer server;
    run_clean([&]() -> task<> {
        auto child = [](TcpStream mine) -> task<> { co_await mine.send("x"); };
        auto parent = [&]() -> task<> {
            co_await child(co_await TcpStream::connect(server.address()));
            CHECK(open_descriptors() == 1);  // closing
        };
        co_await parent();
        CHECK(open_descriptors() == 0);
        auto open = [&]() -> task<TcpStream> {
            TcpStream made = co_await TcpStream::connect(server.address());
            co_await made.send("x");
            co_return made;
        };
        auto keeper = [&]() -> task<> {
            TcpStream first = co_await open();
            const TcpStream second = std::move(first);
            CHECK(open_descriptors() == 1);
        };
        co_await keeper();
        CHECK(open_descriptors() == 0);
    });
}

TEST_CASE("streams of children are closed when their scope, gather or race is over") {
    PeerServer server;
    run_clean([&]() -> task<> {
        auto use = [&](TcpStream, int wait) -> task<int> {
            TcpStream own = co_await TcpStream::connect(server.address());
            co_await turns(wait);
            co_return wait;
        };
        auto use_and_forget = [&](TcpStream mine) -> task<> { co_await mine.send("x"); };
        TcpStream one = co_await TcpStream::connect(server.address());
        TcpStream two = co_await TcpStream::connect(server.address());
        co_await torc::with_scope([&](scope& here) -> task<> {
            here.spawn(use_and_forget(std::move(one)));
            here.spawn(use_and_forget(std::move(two)));
            co_return;
        });
        CHECK(open_descriptors() == 0);
        auto many = [&]() -> task<> {
            TcpStream three = co_await TcpStream::connect(server.address());
            TcpStream four = co_await TcpStream::connect(server.address());
            co_await torc::gather(use(std::move(three), 1), use(std::move(four), 2));
        };
        co_await many();
        CHECK(open_descriptors() == 0);
        auto connect = [&]() -> task<TcpStream> { return TcpStream::connect(server.address()); };
        auto race = [&]() -> task<> { static_cast<void>(co_await torc::race(connect(), connect(), connect())); };
        co_await race();
        CHECK(open_descriptors() == 0);
    });
}

TEST_CASE("a stream that outlives every task is closed before the executor ends") {
    PeerServer server;
    const leak_check leaks;
    torc::Executor executor;
    std::optional<TcpStream> kept;
    executor.run([](PeerServer& peer, std::optional<TcpStream>& out) -> task<> {
        out.emplace(co_await TcpStream::connect(peer.address()));
    }(server, kept));
    CHECK(executor.statistics().open_descriptors == 1);
    kept.reset();
    executor.run(turns(1));
    CHECK(executor.statistics().open_descriptors == 0);
    {
        const TcpStream late = executor.run(
            [](PeerServer& peer) -> task<TcpStream> { co_return co_await TcpStream::connect(peer.address()); }(server));
    }
}

TEST_CASE("the farewell is the last thing that the peer reads") {
    std::string received;
    PeerServer server{[&](int fd) { received = peer::read_all(fd); }};
    run_clean([&]() -> task<> {
        auto use = [&]() -> task<> {
            TcpStream stream = co_await TcpStream::connect(server.address());
            const std::string bye = "bye";
            stream.record().set_farewell(std::as_bytes(std::span{bye}));
            co_await stream.send("hello ");
        };
        co_await use();
        CHECK(ungraceful() == 0);
    });
    server.wait_for_ends(1);
    CHECK(received == "hello bye");
}

TEST_CASE("a farewell that a peer holds up is cut by the grace, and counted or reported as not graceful") {
    std::binary_semaphore go_on{0};
    PeerServer server{[&](int fd) {
        go_on.acquire();
        peer::read_all(fd);
    }};
    const std::string big(32 << 20, 'x');
    torc::ExecutorOptions options;
    options.close_grace = milliseconds{3};
    run_clean(
        [&]() -> task<> {
            auto use = [&](bool awaited) -> task<> {
                TcpStream stream = co_await TcpStream::connect(server.address());
                stream.record().set_farewell(std::as_bytes(std::span{big}));
                if (awaited) {
                    const auto closed = co_await as_result(stream.close());
                    REQUIRE_FALSE(closed.has_value());
                    CHECK(closed.error().code() == errc::timed_out);
                    CHECK(closed.error().where() == torc::phase::close);
                }
            };
            co_await use(false);
            CHECK(ungraceful() == 1);
            CHECK(open_descriptors() == 0);
            go_on.release();
            co_await use(true);
            CHECK(ungraceful() == 1);
            CHECK(open_descriptors() == 0);
            go_on.release();
        },
        options);
}

TEST_CASE("with no grace at all the farewell falls, but the descriptor is closed") {
    PeerServer server;
    torc::ExecutorOptions options;
    options.close_grace = torc::Clock::duration::zero();
    for (const bool receiving : {false, true}) {
        run_clean(
            [&]() -> task<> {
                auto use = [&]() -> task<> {
                    TcpStream stream = co_await TcpStream::connect(server.address());
                    const std::string bye = "bye";
                    stream.record().set_farewell(std::as_bytes(std::span{bye}));
                    if (receiving) {
                        // Leaves the borrowing receive armed, whose end the close has to await.
                        co_await stream.send("x");
                        static_cast<void>(co_await stream.receive());
                    }
                };
                co_await use();
                CHECK(open_descriptors() == 0);
            },
            options);
    }
    server.wait_for_ends(2);
}

TEST_CASE("a stream in a block is closed at the block's end, and an error of the close is not lost") {
    PeerServer server;
    std::binary_semaphore go_on{0};
    PeerServer deaf{[&](int fd) {
        go_on.acquire();
        peer::read_all(fd);
    }};
    const std::string big(32 << 20, 'x');
    torc::ExecutorOptions options;
    options.close_grace = milliseconds{2};
    run_clean(
        [&]() -> task<> {
            const std::string got = co_await torc::with(co_await TcpStream::connect(server.address()),
                                                        [](TcpStream& stream) -> task<std::string> {
                                                            co_await stream.send("x");
                                                            const torc::BufferSlice slice = co_await stream.receive();
                                                            co_return std::string(slice.size(), 'x');
                                                        });
            CHECK(got == "x");
            CHECK(open_descriptors() == 0);

            auto failing = [&](TcpStream& stream) -> task<> {
                stream.record().set_farewell(std::as_bytes(std::span{big}));
                co_await fail_after(1, "the body");
            };
            std::size_t attached = 0;
            TcpStream stuck = co_await TcpStream::connect(deaf.address());
            try {
                co_await torc::with(std::move(stuck), failing);
            } catch (const Error& error) {
                CHECK(error.message() == "the body");
                attached = error.attached().size();
            }
            CHECK(attached == 1);
            CHECK(open_descriptors() == 0);
            go_on.release();
        },
        options);
}

TEST_CASE("a listener that goes closes the connections that nobody took, on the account of the same task") {
    // A handshake whose last step meets a listener that is just going can leave the client connected to nobody, and
    // untold. So clients say that they have nothing to send: the answer to that is a reset.
    auto client = [](int fd) {
        ::shutdown(fd, SHUT_WR);
        peer::read_all(fd);
    };
    for (int attempt = 0; attempt < 10; ++attempt) {
        run_clean([&]() -> task<> {
            auto serve = [&](std::vector<PeerClient>& clients) -> task<> {
                TcpListener listener = TcpListener::bind(torc::net::Address::loopback(0));
                for (int count = 0; count < 5; ++count) clients.emplace_back(listener.local(), client);
                TcpStream first = co_await listener.accept();
                // It goes with more and more that it took and nobody asked for, at one moment or another.
                while (open_descriptors() < 2U + static_cast<std::size_t>(attempt) / 2) co_await driver_turns(1);
                co_await driver_turns(attempt);
            };
            std::vector<PeerClient> clients;
            co_await serve(clients);
            CHECK(open_descriptors() == 0);
            CHECK(torc::Executor::here().statistics().open_closes == 0);
        });
    }
}

TEST_CASE("with the plug pulled at any await of a busy program, every socket is closed") {
    PeerServer server;
    pull_the_plug([&]() -> task<> {
        auto client = [&](int count) -> task<> {
            TcpStream stream = co_await TcpStream::connect(server.address());
            const std::string bye = "bye";
            stream.record().set_farewell(std::as_bytes(std::span{bye}));
            for (int round = 0; round < count; ++round) {
                co_await stream.send("ping");
                const torc::BufferSlice slice = co_await stream.receive();
            }
            co_await torc::with(co_await TcpStream::connect(server.address()),
                                [](TcpStream& inner) -> task<> { co_await inner.send("x"); });
        };
        co_await torc::gather(client(0), client(1), client(2));
        TcpListener listener = TcpListener::bind(torc::net::Address::loopback(0));
        auto [mine, theirs] = co_await torc::gather(TcpStream::connect(listener.local()), listener.accept());
        co_await theirs.send("x");
        std::array<std::byte, 4> memory;
        const std::size_t got = co_await mine.receive(memory);
        CHECK(got == 1);
    });
}
