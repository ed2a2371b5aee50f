#include <torc/net/stream.hpp>

#include <doctest/doctest.h>

#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <blocking_peer.hpp>
#include <leak_check.hpp>
#include <plug.hpp>
#include <steps.hpp>
#include <string>
#include <vector>

#include <torc/net/listener.hpp>
#include <torc/runtime/as_result.hpp>
#include <torc/runtime/gather.hpp>
#include <torc/runtime/scope.hpp>
#include <torc/runtime/timeout.hpp>

#include "streams.hpp"

// Streams against blocking peers on threads of their own: what is sent arrives, in pieces or whole, borrowed or not;
// what had arrived is not lost to a cancel. Several tasks with one stream are in stream_use_test.cpp.

namespace {

using std::chrono::milliseconds;
using torc::as_result;
using torc::BufferSlice;
using torc::errc;
using torc::scope;
using torc::task;
using torc::net::Address;
using torc::net::TcpStream;
using torc::net::UnixStream;
using namespace torc::test;

}  // namespace

TEST_CASE("what is sent comes back") {
    PeerServer server;
    run_clean([&]() -> task<> {
        TcpStream stream = co_await TcpStream::connect(server.address());
        CHECK(stream.is_open());
        CHECK(stream.peer() == server.address());
        co_await stream.send("ping");
        CHECK(co_await read_into(stream, 4, 100) == "ping");
        co_await stream.send("pong");
        CHECK(co_await read_slices(stream, 4) == "pong");
        co_await stream.send("");
        co_await stream.shutdown_write();
        CHECK((co_await stream.receive()).empty());
        CHECK((co_await stream.receive()).empty());  // the end stays the end
    });
}

TEST_CASE("bytes come in whatever pieces are asked for, borrowed and not, in order") {
    const std::string text = pattern(100'000);
    PeerServer server{[&](int fd) { peer::write_all(fd, text); }};
    run_clean([&]() -> task<> {
        TcpStream stream = co_await TcpStream::connect(server.address());
        std::string all;
        for (std::size_t round = 1; all.size() < text.size(); ++round) {
            if (round % 3 == 0) {
                const BufferSlice slice = co_await stream.receive();
                all += text_of(slice.bytes());
            } else {
                all += co_await read_into(stream, round * 7, round);
            }
        }
        CHECK(all == text);
        std::array<std::byte, 10> more;
        CHECK(co_await stream.receive(more) == 0);
    });
}

TEST_CASE("a slice may be consumed, given back early, and outlive the stream") {
    PeerServer server{[](int fd) {
        peer::write_all(fd, "0123456789");
        peer::read_all(fd);
    }};
    run_clean([&]() -> task<> {
        BufferSlice kept;
        auto use = [&]() -> task<> {
            TcpStream stream = co_await TcpStream::connect(server.address());
            kept = co_await stream.receive();
        };
        co_await use();
        CHECK(torc::Executor::here().statistics().buffers_lent == 1);
        REQUIRE(kept.size() >= 1);
        kept.consume(1);
        CHECK(text_of(kept.bytes()) == "123456789");
        kept.release();
        CHECK(kept.empty());
        CHECK(torc::Executor::here().statistics().buffers_lent == 0);
    });
}

TEST_CASE("a big send goes through against a reader that takes its time") {
    const std::string text = pattern(8 << 20);
    std::string received;
    PeerServer server{[&](int fd) {
        for (int round = 0; round < 100; ++round) received += peer::read_exactly(fd, 1000);
        received += peer::read_all(fd);
    }};
    run_clean([&]() -> task<> {
        TcpStream stream = co_await TcpStream::connect(server.address());
        co_await stream.send(text);
    });
    server.wait_for_ends(1);
    CHECK(received == text);
}

TEST_CASE("two parts are sent as one, whichever is empty or large") {
    const std::string large = pattern(3 << 20);
    const auto bytes_of = [](const std::string& text) { return std::as_bytes(std::span{text}); };
    for (const std::string& first : {std::string{}, std::string{"head"}, large}) {
        for (const std::string& second : {std::string{}, std::string{"body"}, large}) {
            std::string received;
            PeerServer server{[&](int fd) { received = peer::read_all(fd); }};
            run_clean([&]() -> task<> {
                TcpStream stream = co_await TcpStream::connect(server.address());
                co_await stream.send(bytes_of(first), bytes_of(second));
            });
            server.wait_for_ends(1);
            CHECK_MESSAGE(received == first + second, first.size(), " and ", second.size(), " bytes");
        }
    }
}

TEST_CASE("two parts of which not all was sent leave a hole, behind which nothing is sent") {
    std::atomic<bool> go = false;
    PeerServer server{[&go](int fd) {
        go.wait(false);
        peer::read_all(fd);
    }};
    const std::string large = pattern(32 << 20);
    run_clean([&]() -> task<> {
        TcpStream stream = co_await TcpStream::connect(server.address());
        const std::span<const std::byte> bytes = std::as_bytes(std::span{large});
        CHECK(co_await code_of(discard(torc::with_timeout(milliseconds{20}, stream.send(bytes, bytes)))) ==
              errc::timed_out);
        CHECK(co_await code_of(discard(stream.send("x"))) == std::errc::broken_pipe);
        go = true;
        go.notify_all();
    });
}

TEST_CASE("what stands behind urgent bytes is received without waiting for more to come") {
    std::atomic<int> step = 0;
    const auto go_to = [&step](int next) {
        step = next;
        step.notify_all();
    };
    PeerServer server{[&](int fd) {
        peer::write_all(fd, "first");
        step.wait(0);
        ::send(fd, "abcd", 4, MSG_OOB);  // the last one is urgent
        ::send(fd, "efg", 3, 0);
        go_to(2);
        peer::read_all(fd);
    }};
    run_clean([&]() -> task<> {
        TcpStream stream = co_await TcpStream::connect(server.address());
        CHECK(co_await read_slices(stream, 5) == "first");
        go_to(1);
        step.wait(1);
        const std::string got = co_await torc::with_timeout(std::chrono::seconds{10}, read_slices(stream, 6));
        CHECK(got == "abcefg");
    });
}

TEST_CASE("sending and receiving go on at once") {
    const std::string text = pattern(3 << 20);
    PeerServer server;
    run_clean([&]() -> task<> {
        TcpStream stream = co_await TcpStream::connect(server.address());
        auto write = [&]() -> task<> { co_await stream.send(text); };
        auto [none, back] = co_await torc::gather(write(), read_slices(stream, text.size()));
        CHECK(back == text);
    });
}

TEST_CASE("tasks that are always ready hear of what comes") {
    std::atomic<bool> go = false;
    PeerServer server{[&go](int fd) {
        go.wait(false);
        peer::write_all(fd, "hello");
    }};
    run_clean([&]() -> task<> {
        TcpStream stream = co_await TcpStream::connect(server.address());
        bool received = false;
        auto reader = [&]() -> task<> {
            CHECK(co_await read_slices(stream, 5) == "hello");
            received = true;
        };
        auto busy = [&]() -> task<> {
            go = true;
            go.notify_one();
            for (int count = 0; !received && count < 10'000'000; ++count) co_await torc::yield();
            CHECK(received);
        };
        co_await torc::gather(reader(), busy());
    });
}

TEST_CASE("nobody reading holds a bounded number of buffers, and nothing is lost") {
    const std::string text = pattern(4 << 20);
    PeerServer server{[&](int fd) {
        peer::write_all(fd, text);
        peer::read_all(fd);
    }};
    run_clean([&]() -> task<> {
        TcpStream stream = co_await TcpStream::connect(server.address());
        std::string all = text_of((co_await stream.receive()).bytes());
        std::size_t most = 0;
        for (int quiet = 0; most == 0 || quiet < 1000; ++quiet) {  // until nothing more comes
            co_await driver_turns(1);
            const std::size_t lent = torc::Executor::here().statistics().buffers_lent;
            if (lent > most) quiet = 0;
            most = std::max(most, lent);
        }
        CHECK(most <= 128);  // what the kernel brings in a few batches before it hears that it should stop
        co_await stream.shutdown_write();
        all += co_await read_slices(stream, text.size() - all.size());
        CHECK(all == text);
    });
}

TEST_CASE("more connections than buffers: everybody still reads everything, and borrowing begins again") {
    const std::string text = pattern(50'000);
    PeerServer server{[&](int fd) {
        peer::read_exactly(fd, 1);
        peer::write_all(fd, text);
        peer::read_exactly(fd, 1);
        peer::write_all(fd, "more");
    }};
    torc::ExecutorOptions options;
    options.buffer_count = 2;
    options.buffer_bytes = 4096;
    run_clean(
        [&]() -> task<> {
            std::vector<TcpStream> streams;
            std::vector<BufferSlice> held;
            for (int index = 0; index < 20; ++index) streams.push_back(co_await TcpStream::connect(server.address()));
            for (TcpStream& each : streams) co_await each.send("1");
            for (TcpStream& each : streams) held.push_back(co_await each.receive());
            CHECK(torc::Executor::here().statistics().buffers_lent == 2);
            CHECK(torc::Executor::here().statistics().buffers_starved > 0);
            std::vector<task<std::string>> rest;
            for (std::size_t index = 0; index < streams.size(); ++index) {
                rest.push_back(read_slices(streams[index], text.size() - held[index].size()));
            }
            const auto ends = co_await torc::gather(std::move(rest));
            for (std::size_t index = 0; index < streams.size(); ++index) {
                CHECK(text_of(held[index].bytes()) + ends[index] == text);
            }
            held.clear();
            for (TcpStream& each : streams) {
                co_await each.send("2");
                CHECK(co_await read_slices(each, 4) == "more");
            }
            // With buffers back, a slice is borrowed again.
            CHECK(torc::Executor::here().statistics().buffers_lent == 0);
        },
        options);
}

TEST_CASE("a receive that waits for a buffer can be cancelled, loses nothing, and its stream can be closed") {
    const std::string text = pattern(40'000);
    PeerServer server{[&](int fd) { peer::write_all(fd, text); }};
    torc::ExecutorOptions options;
    options.buffer_count = 2;
    options.buffer_bytes = 64;
    int waited = 0;
    for (int round = 0; round < 20; ++round) {
        run_clean(
            [&]() -> task<> {
                // Giving many buffers back raises hopes; then all are held.
                TcpStream busy = co_await TcpStream::connect(server.address());
                {
                    TcpStream other = co_await TcpStream::connect(server.address());
                    for (int slices = 0; slices < 500; ++slices) {
                        BufferSlice slice = co_await busy.receive();
                        if (slices < 20) co_await other.receive();  // finds none: from now on they are counted
                    }
                }
                std::vector<BufferSlice> held;
                while (held.size() < 10 && torc::Executor::here().statistics().buffers_lent < 2) {
                    held.push_back(co_await busy.receive());
                }
                co_await torc::sleep_for(milliseconds{3});
                TcpStream starved = co_await TcpStream::connect(server.address());
                const auto in_time = co_await as_result(with_timeout(milliseconds{1}, starved.receive()));
                if (torc::Executor::here().statistics().waiting_for_buffer > 0) ++waited;
                if (round % 2 == 0) co_return;
                std::string all;
                if (in_time) all = text_of(in_time->bytes());
                if (round % 4 == 1) all += co_await read_into(starved, 100, 100);  // with memory of its own
                held.clear();
                CHECK(all + co_await read_slices(starved, text.size() - all.size()) == text);
            },
            options);
    }
    CHECK(waited > 0);
}

TEST_CASE("a receive that is cancelled as bytes arrive loses none of them") {
    const std::string text = pattern(200);
    for (const bool borrowed : {true, false}) {
        std::size_t in_time = 0;
        int patience = 0;
        // The peer answers each byte with one, and the wait for it is cancelled. One that was too short makes the next
        // one longer, one that was not shorter, so that the cancel comes about when the byte does.
        PeerServer server;
        run_clean([&]() -> task<> {
            TcpStream stream = co_await TcpStream::connect(server.address());
            std::string all;
            auto read_once = [&]() -> task<> {
                if (borrowed) {
                    const BufferSlice slice = co_await stream.receive();
                    all += text_of(slice.bytes());
                } else {
                    std::array<std::byte, 3> memory;
                    const std::size_t got = co_await stream.receive(memory);
                    all += text_of(std::span{memory}.first(got));
                }
            };
            for (std::size_t index = 0; index < text.size(); ++index) {
                co_await stream.send(std::string_view{text}.substr(index, 1));
                co_await torc::with_scope([&](scope& here) -> task<> {
                    here.spawn(read_once());
                    co_await driver_turns(patience);
                    here.cancel();
                });
                if (all.size() > index) {
                    ++in_time;
                    patience -= patience / 4 + 1;
                } else {
                    patience += patience / 8 + 1;
                    all += co_await read_into(stream, 1, 64);
                }
                REQUIRE(all == std::string_view{text}.substr(0, index + 1));
            }
        });
        CHECK(in_time > 0);
        CHECK(in_time < text.size());
    }
}

TEST_CASE("a peer that resets is a connection that was reset, a peer that has gone a broken pipe") {
    PeerServer rude{[](int fd) {
        peer::read_exactly(fd, 1);
        const linger now{.l_onoff = 1, .l_linger = 0};
        ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }};
    run_clean([&]() -> task<> {
        for (const bool borrowed : {true, false}) {
            TcpStream stream = co_await TcpStream::connect(rude.address());
            co_await stream.send("1");
            std::array<std::byte, 4> memory;
            const std::error_code code = borrowed ? co_await code_of(discard(stream.receive()))
                                                  : co_await code_of(discard(stream.receive(memory)));
            CHECK(code == std::errc::connection_reset);
            CHECK(co_await code_of(discard(stream.send("x"))) == std::errc::broken_pipe);
            CHECK(co_await code_of(discard(stream.receive())) == std::errc::connection_reset);
        }
    });
}

TEST_CASE("streams over unix sockets, by path and by abstract name") {
    const std::string name = "@torc-test-" + std::to_string(::getpid());
    const std::string path = "/tmp/torc-test-" + std::to_string(::getpid());
    for (const std::string& where : {name, path}) {
        PeerServer server{peer::echo, Address::unix_socket(where)};
        run_clean([&]() -> task<> {
            UnixStream stream = co_await UnixStream::connect(Address::unix_socket(where));
            co_await stream.send("ping");
            const BufferSlice slice = co_await stream.receive();
            CHECK(text_of(slice.bytes()) == "ping");
        });
    }
    ::unlink(path.c_str());
    run_clean([&]() -> task<> {
        const auto missing = co_await as_result(UnixStream::connect(Address::unix_socket(path)));
        REQUIRE_FALSE(missing.has_value());
        CHECK(missing.error().code() == std::errc::no_such_file_or_directory);
    });
}

TEST_CASE("with the plug pulled at any await of a conversation, nothing stays open and the peer sees the end") {
    PeerServer server;
    int connections = 0;
    const auto awaits = pull_the_plug([&]() -> task<> {
        TcpStream stream = co_await TcpStream::connect(server.address());
        ++connections;
        co_await stream.send("one");
        const std::string one = co_await read_slices(stream, 3);
        CHECK(one == "one");
        const std::string parts = "two";
        const std::span<const std::byte> both = std::as_bytes(std::span{parts});
        co_await stream.send(both.first(1), both.subspan(1));
        const std::string two = co_await read_into(stream, 3, 2);
        CHECK(two == "two");
        co_await stream.shutdown_write();
        const BufferSlice end = co_await stream.receive();
        CHECK(end.empty());
        co_await stream.close();
    });
    CHECK(awaits >= 8);
    server.wait_for_ends(connections);
}
