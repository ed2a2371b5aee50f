#include <torc/net/stream.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <blocking_peer.hpp>
#include <leak_check.hpp>
#include <optional>
#include <plug.hpp>
#include <semaphore>
#include <steps.hpp>
#include <string>
#include <vector>

#include <torc/net/listener.hpp>
#include <torc/runtime/as_result.hpp>
#include <torc/runtime/event.hpp>
#include <torc/runtime/gather.hpp>
#include <torc/runtime/race.hpp>
#include <torc/runtime/scope.hpp>
#include <torc/runtime/timeout.hpp>

// Streams against blocking peers on threads of their own: what is sent arrives, in pieces or whole, borrowed or not;
// what had arrived is not lost to a cancel; wrong use is told apart from what a peer does.

namespace {

using std::chrono::hours;
using std::chrono::milliseconds;
using torc::as_result;
using torc::BufferSlice;
using torc::errc;
using torc::Error;
using torc::scope;
using torc::task;
using torc::net::Address;
using torc::net::ConnectOptions;
using torc::net::TcpListener;
using torc::net::TcpStream;
using torc::net::UnixStream;
using namespace torc::test;

std::string pattern(std::size_t size) {
    std::string text(size, '\0');
    for (std::size_t index = 0; index < size; ++index)
        text[index] = static_cast<char>('a' + (index * 31 + index / 251) % 26);
    return text;
}

std::string text_of(std::span<const std::byte> bytes) {
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

/// Reads `count` bytes (or to the end) in slices.
task<std::string> read_slices(TcpStream& stream, std::size_t count) {
    std::string all;
    while (all.size() < count) {
        const BufferSlice slice = co_await stream.receive();
        if (slice.empty()) break;
        all += text_of(slice.bytes());
    }
    co_return all;
}

/// Reads `count` bytes (or to the end) into memory of its own, at most `piece` at once.
task<std::string> read_into(TcpStream& stream, std::size_t count, std::size_t piece) {
    std::string all;
    std::vector<std::byte> memory(piece);
    while (all.size() < count) {
        const std::size_t got = co_await stream.receive(std::span{memory}.first(std::min(piece, count - all.size())));
        if (got == 0) break;
        all += text_of(std::span{memory}.first(got));
    }
    co_return all;
}

task<std::error_code> code_of(task<> failing) {
    const auto outcome = co_await as_result(std::move(failing));
    co_return outcome ? std::error_code{} : outcome.error().code();
}

template <class Operation>
task<> discard(Operation operation) {
    static_cast<void>(co_await std::move(operation));
}

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

TEST_CASE("a second reader or writer is told that the stream is busy, and harms nobody") {
    PeerServer server{[](int fd) {
        peer::read_exactly(fd, 3);
        peer::write_all(fd, "abc");
        peer::read_all(fd);
    }};
    const std::string big = pattern(16 << 20);
    run_clean([&]() -> task<> {
        TcpStream stream = co_await TcpStream::connect(server.address());
        std::array<std::byte, 3> memory;
        std::string got;
        auto reader = [&]() -> task<> { got = co_await read_slices(stream, 3); };
        auto others = [&]() -> task<> {
            CHECK(co_await code_of(discard(stream.receive())) == errc::busy);
            CHECK(co_await code_of(discard(stream.receive(memory))) == errc::busy);
            co_await stream.send("go!");
        };
        co_await torc::gather(reader(), others());
        CHECK(got == "abc");

        PeerServer deaf{[](int fd) { peer::read_exactly(fd, 1); }};
        TcpStream slow = co_await TcpStream::connect(deaf.address());
        auto writer = [&]() -> task<> { static_cast<void>(co_await as_result(slow.send(big))); };
        auto second = [&]() -> task<> { CHECK(co_await code_of(discard(slow.send("x"))) == errc::busy); };
        co_await torc::gather(writer(), second());
    });
}

TEST_CASE("a reader that was woken keeps its turn: one that comes before it has run is told busy") {
    PeerServer server{[](int fd) {
        peer::read_exactly(fd, 1);
        peer::write_all(fd, "abc");
        peer::read_all(fd);
    }};
    run_clean([&]() -> task<> {
        TcpStream stream = co_await TcpStream::connect(server.address());
        std::string first;
        bool ended_early = false;
        bool done = false;
        auto reader = [&]() -> task<> {
            const BufferSlice slice = co_await stream.receive();
            first = text_of(slice.bytes());
            ended_early = slice.empty();
            done = true;
        };
        std::vector<std::error_code> refusals;
        std::string stolen;
        auto thief = [&]() -> task<> {
            while (!done) {
                const auto slice = co_await as_result(stream.receive());
                if (slice) {
                    stolen += text_of(slice->bytes());
                    break;
                }
                refusals.push_back(slice.error().code());
                co_await torc::yield();
            }
        };
        co_await torc::with_scope([&](scope& here) -> task<> {
            // The thief asks again in every round, first in the queue.
            here.spawn(reader());
            here.spawn(thief());
            co_await stream.send("1");
        });
        CHECK_FALSE(ended_early);
        CHECK(first == "abc");
        CHECK(stolen.empty());
        CHECK(std::ranges::all_of(refusals, [](std::error_code code) { return code == errc::busy; }));
    });
}

TEST_CASE("closing while others read and write ends them with closed, whatever they wait for") {
    PeerServer server{[](int fd) { peer::read_exactly(fd, 1); }};
    const std::string big = pattern(16 << 20);
    for (const int wait : {0, 1, 2, 5}) {
        for (const bool borrowed : {true, false}) {
            run_clean([&]() -> task<> {
                PeerServer deaf{[](int fd) {
                    char byte = 0;
                    while (::recv(fd, &byte, 1, MSG_PEEK) == 1 && ::recv(fd, &byte, 1, 0) == 1) break;
                    peer::read_all(fd);
                }};
                TcpStream stream = co_await TcpStream::connect(deaf.address());
                std::array<std::byte, 16> memory;
                std::error_code reading;
                auto reader = [&]() -> task<> {
                    if (borrowed) {
                        reading = co_await code_of(discard(stream.receive()));
                    } else {
                        reading = co_await code_of(discard(stream.receive(memory)));
                    }
                };
                auto closer = [&]() -> task<> {
                    co_await driver_turns(wait);
                    co_await stream.close();
                    CHECK_FALSE(stream.is_open());
                };
                co_await torc::gather(reader(), closer());
                CHECK(reading == errc::closed);
                CHECK(torc::Executor::here().statistics().open_descriptors == 0);
            });
        }
    }
    run_clean([&]() -> task<> {
        TcpStream stream = co_await TcpStream::connect(server.address());
        std::error_code writing;
        // The peer reads one byte and goes; until then nothing moves, for the send is larger than all buffers.
        auto writer = [&]() -> task<> { writing = co_await code_of(discard(stream.send(big))); };
        auto closer = [&]() -> task<> { co_await stream.close(); };
        co_await torc::gather(writer(), closer());
        CHECK(writing == errc::closed);
    });
}

TEST_CASE("a stream that is closed as its reader is woken tells the reader so, not that the peer ended") {
    // Both become ready in the same turn: the reader by the bytes, the closer by the reader's sibling.
    PeerServer server{[](int fd) {
        peer::write_all(fd, "abc");
        peer::read_all(fd);
    }};
    run_clean([&]() -> task<> {
        int endings = 0;
        for (int attempt = 0; attempt < 50; ++attempt) {
            TcpStream stream = co_await TcpStream::connect(server.address());
            auto reader = [&]() -> task<> {
                const auto slice = co_await as_result(stream.receive());
                if (slice) {
                    CHECK(text_of(slice->bytes()) == "abc");
                } else {
                    CHECK(slice.error().code() == errc::closed);
                }
                ++endings;
            };
            auto closer = [&]() -> task<> {
                for (int turn = 0; turn < attempt; ++turn) co_await torc::yield();
                co_await stream.close();
            };
            co_await torc::gather(closer(), reader());
        }
        CHECK(endings == 50);
    });
}

TEST_CASE("a stream that goes while others read and write ends them with closed, though it is gone before they run") {
    const std::string big = pattern(16 << 20);
    std::binary_semaphore go_on{0};
    PeerServer server{[&](int fd) {
        go_on.acquire();
        peer::read_all(fd);
    }};
    for (const int wait : {0, 1, 3}) {
        for (const bool borrowed : {true, false}) {
            for (const bool busy : {false, true}) {
                run_clean([&]() -> task<> {
                    std::optional<TcpStream> stream = co_await TcpStream::connect(server.address());
                    std::array<std::byte, 16> memory;
                    std::error_code reading;
                    std::error_code writing;
                    auto reader = [&]() -> task<> {
                        reading = borrowed ? co_await code_of(discard(stream->receive()))
                                           : co_await code_of(discard(stream->receive(memory)));
                    };
                    auto writer = [&]() -> task<> { writing = co_await code_of(discard(stream->send(big))); };
                    auto dropper = [&]() -> task<> {
                        co_await driver_turns(wait);
                        stream.reset();
                        go_on.release();
                        // Keeps the ready tasks coming, so that those who were woken wait longer than the close takes.
                        for (int turn = 0; busy && turn < 100; ++turn) co_await torc::yield();
                    };
                    co_await torc::gather(reader(), writer(), dropper());
                    CHECK(reading == errc::closed);
                    CHECK(writing == errc::closed);
                });
            }
        }
    }
}

TEST_CASE("using a stream after its close, or one that was moved from, is refused") {
    PeerServer server;
    run_clean([&]() -> task<> {
        TcpStream stream = co_await TcpStream::connect(server.address());
        TcpStream other = std::move(stream);
        std::array<std::byte, 4> memory;
        CHECK_FALSE(stream.is_open());
        CHECK(co_await code_of(discard(stream.receive())) == errc::closed);
        CHECK(co_await code_of(discard(stream.send("x"))) == errc::closed);
        co_await stream.close();
        co_await other.close();
        co_await other.close();
        CHECK(co_await code_of(discard(other.receive())) == errc::closed);
        CHECK(co_await code_of(discard(other.receive(memory))) == errc::closed);
        CHECK(co_await code_of(discard(other.send("x"))) == errc::closed);
        CHECK(co_await code_of(other.shutdown_write()) == errc::closed);
    });
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

TEST_CASE("a send that was cut leaves a hole, and the stream says so from then on") {
    const std::string big = pattern(16 << 20);
    std::binary_semaphore go_on{0};
    std::string received;
    PeerServer server{[&](int fd) {
        go_on.acquire();
        received = peer::read_all(fd);
    }};
    run_clean([&]() -> task<> {
        TcpStream stream = co_await TcpStream::connect(server.address());
        bool cut = false;
        auto writer = [&]() -> task<> {
            try {
                co_await stream.send(big);
            } catch (const torc::cancelled&) {
                cut = true;
                throw;
            }
        };
        co_await torc::with_scope([&](scope& here) -> task<> {
            here.spawn(writer());
            co_await driver_turns(3);
            here.cancel();
        });
        CHECK(cut);
        CHECK(stream.record().output_broken());
        CHECK(co_await code_of(discard(stream.send("x"))) == std::errc::broken_pipe);
        go_on.release();
    });
    server.wait_for_ends(1);
    CHECK(received.size() < big.size());
    CHECK(big.starts_with(received));
}

TEST_CASE("connecting where nobody listens is refused, in words") {
    const Address dead = dead_address();
    run_clean([&]() -> task<> {
        const auto refused = co_await as_result(TcpStream::connect(dead));
        REQUIRE_FALSE(refused.has_value());
        CHECK(refused.error().code() == std::errc::connection_refused);
        CHECK(refused.error().where() == torc::phase::connect);
        CHECK(refused.error().peer() == dead.to_string());
        CHECK(std::string{refused.error().what()} == "connect: " + dead.to_string() + ": connection refused");
        CHECK(torc::Executor::here().statistics().open_descriptors == 0);
    });
}

TEST_CASE("connecting where nobody answers times out, in words, and can be cancelled") {
    const SilentAddress silent;
    run_clean([&]() -> task<> {
        const auto late =
            co_await as_result(TcpStream::connect(silent.address(), ConnectOptions{.timeout = milliseconds{5}}));
        REQUIRE_FALSE(late.has_value());
        CHECK(late.error().code() == errc::timed_out);
        CHECK(late.error().where() == torc::phase::connect);
        CHECK(late.error().peer() == silent.address().to_string());
        CHECK(std::string_view{late.error().what()}.find("timed out") != std::string_view::npos);
        for (int wait = 0; wait < 6; ++wait) {
            co_await torc::with_scope([&](scope& here) -> task<> {
                here.spawn(discard(TcpStream::connect(silent.address(), ConnectOptions{.timeout = hours{1}})));
                co_await driver_turns(wait);
                here.cancel();
            });
        }
    });
}

TEST_CASE("hundreds of connects that nobody answers are cancelled at once, however far each has got") {
    const SilentAddress silent;
    run_clean([&]() -> task<> {
        auto connect = [&](int later) -> task<> {
            co_await turns(later);
            static_cast<void>(co_await TcpStream::connect(silent.address(), ConnectOptions{.timeout = hours{1}}));
        };
        for (int wait = 0; wait < 12; ++wait) {
            co_await torc::with_scope([&](scope& here) -> task<> {
                for (int count = 0; count < 300; ++count) {
                    here.spawn(connect(count % 3));
                    if (count % 50 == 0) co_await driver_turns(1);
                }
                if (wait % 2 != 0) co_await driver_turns(wait);
                here.cancel();
            });
            CHECK(torc::Executor::here().statistics().open_descriptors == 0);
        }
    });
}

TEST_CASE("an outer limit that cuts a connect is the outer one's timeout") {
    const SilentAddress silent;
    run_clean([&]() -> task<> {
        const auto late = co_await as_result(torc::with_timeout(milliseconds{2}, TcpStream::connect(silent.address())));
        REQUIRE_FALSE(late.has_value());
        CHECK(late.error().code() == errc::timed_out);
        CHECK(late.error().where() == torc::phase::none);
    });
}

TEST_CASE("of several addresses the one that answers is taken, dead and silent ones are stepped over") {
    PeerServer server;
    const SilentAddress silent;
    run_clean([&]() -> task<> {
        std::vector<Address> addresses;
        addresses.push_back(dead_address());
        addresses.push_back(server.address());
        TcpStream stream = co_await TcpStream::connect(addresses, ConnectOptions{.attempt_delay = hours{1}});
        CHECK(stream.peer() == server.address());
        addresses.insert(addresses.begin(), silent.address());
        TcpStream second = co_await TcpStream::connect(addresses, ConnectOptions{.attempt_delay = milliseconds{1}});
        CHECK(second.peer() == server.address());
        CHECK(torc::Executor::here().statistics().open_descriptors == 2);  // the losers are closed
        co_await second.send("x");
        CHECK(co_await read_slices(second, 1) == "x");
    });
}

TEST_CASE("when all addresses fail, one failure is thrown with the others attached") {
    run_clean([&]() -> task<> {
        std::vector<Address> addresses;
        for (int index = 0; index < 3; ++index) addresses.push_back(dead_address());
        const auto failed = co_await as_result(TcpStream::connect(addresses));
        REQUIRE_FALSE(failed.has_value());
        CHECK(failed.error().code() == std::errc::connection_refused);
        CHECK(failed.error().peer() == addresses[0].to_string());
        CHECK(failed.error().attached().size() == 2);
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
        co_await stream.send("two");
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

TEST_CASE("with the plug pulled at any await of connecting to a silent address, the connect ends") {
    const SilentAddress silent;
    pull_the_plug([&]() -> task<> {
        std::vector<Address> addresses(2, silent.address());
        const auto late = co_await as_result(TcpStream::connect(
            addresses, ConnectOptions{.timeout = milliseconds{4}, .attempt_delay = milliseconds{1}}));
        CHECK_FALSE(late.has_value());
    });
}
