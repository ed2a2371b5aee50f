#include <doctest/doctest.h>

#include <array>
#include <leak_check.hpp>
#include <span>
#include <steady.hpp>

#include <torc/net/udp.hpp>
#include <torc/runtime.hpp>

#include "streams.hpp"

// Goal: in steady state nothing is allocated, neither by I/O nor by waiting. Method: every allocation of the process is
// counted, while a program does the same again and again, once it has done so for a while.

namespace {

using namespace torc;
using namespace torc::test;
using namespace std::chrono_literals;
using net::Address;
using net::Datagram;
using net::UdpSocket;

constexpr std::size_t message_bytes = 64;
using Message = std::array<std::byte, message_bytes>;

task<int> value(int number) {
    co_await yield();
    co_return number;
}

task<> echo_into_memory(net::TcpStream& stream) {
    Message message;
    while (co_await stream.receive(message) != 0) co_await stream.send(message);
}

task<> echo_slices(net::TcpStream& stream) {
    for (;;) {
        const BufferSlice slice = co_await stream.receive();
        if (slice.empty()) break;
        co_await stream.send(slice.bytes());
    }
}

task<> echo_datagrams(UdpSocket& socket) {
    Message message;
    for (;;) {
        const Datagram datagram = co_await socket.receive_from(message);
        if (datagram.size_bytes == 0) break;
        co_await socket.send_to(message, datagram.from);
    }
}

}  // namespace

TEST_SUITE("steady state") {
    TEST_CASE("the counter counts") {
        const memory_watch watch;
        void* const one = ::operator new(1);  // called by name, or a compiler may do without
        CHECK(watch.allocations() >= 1);
        ::operator delete(one);
    }

    TEST_CASE("a stream's echo allocates nothing, into the callers' memory") {
        run_clean([]() -> task<> {
            StreamPair pair = co_await connected_streams();
            auto ask = [&]() -> task<> {
                Message message{};
                for (Rounds rounds; rounds.go_on();) {
                    co_await pair.client.send(message);
                    static_cast<void>(co_await pair.client.receive(message));
                }
                co_await pair.client.shutdown_write();
            };
            co_await gather(echo_into_memory(pair.server), ask());
        });
    }

    TEST_CASE("a stream's echo allocates nothing, in slices, and with results for errors") {
        run_clean([]() -> task<> {
            StreamPair pair = co_await connected_streams();
            auto ask = [&]() -> task<> {
                const Message message{};
                for (Rounds rounds; rounds.go_on();) {
                    const auto sent = co_await as_result(pair.client.send(message));
                    const auto slice = co_await as_result(pair.client.receive());
                    if (!sent || !slice || slice->empty()) break;
                }
                co_await pair.client.shutdown_write();
            };
            co_await gather(echo_slices(pair.server), ask());
        });
    }

    TEST_CASE("datagrams allocate nothing") {
        run_clean([]() -> task<> {
            UdpSocket client = UdpSocket::bind(Address::loopback(0));
            UdpSocket server = UdpSocket::bind(Address::loopback(0));
            auto ask = [&]() -> task<> {
                Message message{};
                for (Rounds rounds; rounds.go_on();) {
                    co_await client.send_to(message, server.local());
                    static_cast<void>(co_await client.receive_from(message));
                }
                co_await client.send_to({}, server.local());
            };
            co_await gather(echo_datagrams(server), ask());
        });
    }

    TEST_CASE("waiting for the clock allocates nothing, and neither does giving way") {
        run_clean([]() -> task<> {
            for (Rounds rounds; rounds.go_on();) {
                co_await sleep_for(1us);
                co_await sleep_until(Clock::now());
                co_await yield();
            }
        });
    }

    TEST_CASE("a channel and a mutex allocate nothing, whoever waits") {
        run_clean([]() -> task<> {
            for (const std::size_t capacity : {0U, 1U, 3U}) {
                CAPTURE(capacity);
                channel<int> questions{capacity};
                channel<int> answers{capacity};
                mutex passage;
                auto answer = [&]() -> task<> {
                    while (const auto question = co_await questions.receive()) {
                        const mutex::guard alone = co_await passage.lock();
                        co_await yield();
                        co_await answers.send(*question + 1);
                    }
                };
                auto ask = [&]() -> task<> {
                    for (Rounds rounds; rounds.go_on();) {
                        co_await questions.send(1);
                        static_cast<void>(co_await answers.receive());
                        const mutex::guard alone = co_await passage.lock();
                        co_await yield();
                    }
                    questions.close();
                };
                auto hold = [&]() -> task<> {
                    while (!questions.closed()) {
                        const mutex::guard alone = co_await passage.lock();
                        co_await yield();
                    }
                };
                co_await gather(answer(), ask(), hold());
            }
        });
    }

    TEST_CASE("events and semaphores allocate nothing") {
        run_clean([]() -> task<> {
            event there;
            event back;
            semaphore permits{1};
            bool done = false;
            auto answer = [&]() -> task<> {
                while (!done) {
                    co_await there.wait();
                    there.reset();
                    const semaphore::permit one = co_await permits.acquire();
                    co_await yield();
                    back.set();
                }
            };
            auto ask = [&]() -> task<> {
                for (Rounds rounds; rounds.go_on();) {
                    there.set();
                    co_await back.wait();
                    back.reset();
                    const semaphore::permit one = co_await permits.acquire();
                    co_await yield();
                }
                done = true;
                there.set();
            };
            co_await gather(answer(), ask());
        });
    }

    TEST_CASE("tasks, several at once and with time limits, take their frames from the pool") {
        if (!frames_are_pooled()) return;
        run_clean([]() -> task<> {
            int sum = 0;
            for (Rounds rounds; rounds.go_on();) {
                const auto [one, two] = co_await gather(value(1), value(2));
                sum += one + two + co_await value(3);
                const auto first = co_await race(value(4), value(5));
                sum += static_cast<int>(first.index());
                sum += co_await with_timeout(1h, value(6));
            }
            CHECK(sum > 0);
        });
    }

    TEST_CASE("a vector of tasks is taken as it is: there is one more only for what they give") {
        if (!frames_are_pooled()) return;
        run_clean([]() -> task<> {
            std::vector<task<int>> tasks;
            for (int i = 0; i < 100; ++i) tasks.push_back(value(i));
            const memory_watch watch;
            const std::vector<int> all = co_await gather(std::move(tasks));
            CHECK(watch.allocations() == 1);
            CHECK(all.back() == 99);
        });
    }
}
