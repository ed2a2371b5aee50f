#include <torc/net/stream.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <leak_check.hpp>
#include <optional>
#include <steps.hpp>
#include <string>
#include <vector>
#include <which_driver.hpp>

#include <torc/runtime/event.hpp>
#include <torc/runtime/gather.hpp>
#include <torc/runtime/scope.hpp>

#include "streams.hpp"

// A stream in the hands of several tasks: one reader and one writer at a time, and a close from under them. The peer is
// on the same executor and hardly does anything, so these run in the simulation as well.

namespace {

using torc::as_result;
using torc::BufferSlice;
using torc::errc;
using torc::scope;
using torc::task;
using torc::net::TcpStream;
using namespace torc::test;

/// More than sockets hold.
const std::string big = pattern(16 << 20);

std::size_t open_descriptors() { return torc::Executor::here().statistics().open_descriptors; }

}  // namespace

TEST_CASE("a second reader or writer is told that the stream is busy, and harms nobody") {
    run_clean([]() -> task<> {
        StreamPair pair = co_await connected_streams();
        std::array<std::byte, 3> memory;
        std::string got;
        auto reader = [&]() -> task<> { got = co_await read_slices(pair.client, 3); };
        auto others = [&]() -> task<> {
            CHECK(co_await code_of(discard(pair.client.receive())) == errc::busy);
            CHECK(co_await code_of(discard(pair.client.receive(memory))) == errc::busy);
            co_await pair.server.send("abc");
        };
        co_await torc::gather(reader(), others());
        CHECK(got == "abc");
        std::string received;
        auto writer = [&]() -> task<> {
            co_await pair.client.send(big);
            co_await pair.client.shutdown_write();
        };
        auto second = [&]() -> task<> {
            CHECK(co_await code_of(discard(pair.client.send("x"))) == errc::busy);
            received = co_await read_slices(pair.server, big.size() + 1);
        };
        co_await torc::gather(writer(), second());
        CHECK(received == big);
    });
}

TEST_CASE("a reader that was woken keeps its turn: one that comes before it has run is told busy") {
    run_clean([]() -> task<> {
        StreamPair pair = co_await connected_streams();
        std::string first;
        bool ended_early = false;
        bool done = false;
        auto reader = [&]() -> task<> {
            const BufferSlice slice = co_await pair.client.receive();
            first = text_of(slice.bytes());
            ended_early = slice.empty();
            done = true;
        };
        std::vector<std::error_code> refusals;
        std::string stolen;
        auto thief = [&]() -> task<> {
            while (!done) {
                const auto slice = co_await as_result(pair.client.receive());
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
            co_await pair.server.send("abc");
        });
        CHECK_FALSE(ended_early);
        CHECK(first == "abc");
        CHECK(stolen.empty());
        CHECK(refusals.size() > 0);
        CHECK(std::ranges::all_of(refusals, [](std::error_code code) { return code == errc::busy; }));
    });
}

TEST_CASE("closing while others read and write ends them with closed, whatever they wait for") {
    for (const int wait : {0, 1, 2, 5}) {
        for (const bool borrowed : {true, false}) {
            run_clean([&]() -> task<> {
                StreamPair pair = co_await connected_streams();
                TcpStream& stream = pair.client;
                std::array<std::byte, 16> memory;
                std::error_code reading;
                std::error_code writing;
                auto reader = [&]() -> task<> {
                    if (borrowed) {
                        reading = co_await code_of(discard(stream.receive()));
                    } else {
                        reading = co_await code_of(discard(stream.receive(memory)));
                    }
                };
                auto writer = [&]() -> task<> { writing = co_await code_of(discard(stream.send(big))); };
                auto closer = [&]() -> task<> {
                    co_await driver_turns(wait);
                    const std::size_t before = open_descriptors();
                    co_await stream.close();
                    CHECK_FALSE(stream.is_open());
                    CHECK(open_descriptors() == before - 1);
                };
                co_await torc::gather(reader(), writer(), closer());
                CHECK(reading == errc::closed);
                CHECK(writing == errc::closed);
            });
        }
    }
}

TEST_CASE("a stream that is closed as its reader is woken tells the reader so, not that the peer ended") {
    // Both become ready in the same turn: the reader by the bytes, the closer by the reader's sibling.
    run_clean([]() -> task<> {
        int endings = 0;
        for (int attempt = 0; attempt < 50; ++attempt) {
            StreamPair pair = co_await connected_streams();
            auto reader = [&]() -> task<> {
                const auto slice = co_await as_result(pair.client.receive());
                if (slice) {
                    CHECK(text_of(slice->bytes()) == "abc");
                } else {
                    CHECK(slice.error().code() == errc::closed);
                }
                ++endings;
            };
            auto closer = [&]() -> task<> {
                co_await pair.server.send("abc");
                for (int turn = 0; turn < attempt; ++turn) co_await torc::yield();
                co_await pair.client.close();
            };
            co_await torc::gather(closer(), reader());
        }
        CHECK(endings == 50);
    });
}

TEST_CASE("a stream that is closed between the end of a send and its task's turn leaves the send what it was: done") {
    // Both sends end in one turn of the executor, that of the closer first; in the simulation not always.
    run_clean([]() -> task<> {
        StreamPair pair = co_await connected_streams();
        StreamPair other = co_await connected_streams();
        std::optional<std::error_code> writing;
        bool written_before_close = true;
        auto closer = [&]() -> task<> {
            co_await other.client.send("x");
            written_before_close = writing.has_value();
            co_await pair.client.close();
        };
        auto writer = [&]() -> task<> { writing = co_await code_of(discard(pair.client.send("abc"))); };
        co_await torc::gather(closer(), writer());
        CHECK((simulated() || !written_before_close));
        CHECK(writing == std::error_code{});
        CHECK(text_of((co_await pair.server.receive()).bytes()) == "abc");
    });
}

TEST_CASE("a stream that goes while others read and write ends them with closed, though it is gone before they run") {
    for (const int wait : {0, 1, 3}) {
        for (const bool borrowed : {true, false}) {
            for (const bool busy : {false, true}) {
                run_clean([&]() -> task<> {
                    StreamPair pair = co_await connected_streams();
                    std::optional<TcpStream> stream{std::move(pair.client)};
                    std::array<std::byte, 16> memory;
                    std::error_code reading;
                    std::error_code writing;
                    auto reader = [&]() -> task<> {
                        if (borrowed) {
                            reading = co_await code_of(discard(stream->receive()));
                        } else {
                            reading = co_await code_of(discard(stream->receive(memory)));
                        }
                    };
                    auto writer = [&]() -> task<> { writing = co_await code_of(discard(stream->send(big))); };
                    auto dropper = [&]() -> task<> {
                        co_await driver_turns(wait);
                        stream.reset();
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
    run_clean([]() -> task<> {
        StreamPair pair = co_await connected_streams();
        TcpStream other = std::move(pair.client);
        TcpStream& stream = pair.client;
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

TEST_CASE("a send that was cut leaves a hole, and the stream says so from then on") {
    run_clean([]() -> task<> {
        StreamPair pair = co_await connected_streams();
        std::optional<TcpStream> stream{std::move(pair.client)};
        bool cut = false;
        auto writer = [&]() -> task<> {
            try {
                co_await stream->send(big);
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
        CHECK(stream->record().output_broken());
        CHECK(co_await code_of(discard(stream->send("x"))) == std::errc::broken_pipe);
        CHECK(co_await code_of(discard(stream->send(""))) == std::errc::broken_pipe);
        stream.reset();
        const std::string received = co_await read_slices(pair.server, big.size());
        CHECK(received.size() < big.size());
        CHECK(big.starts_with(received));
    });
}
