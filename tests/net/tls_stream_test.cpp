#include <array>

#include <torc/runtime/event.hpp>
#include <torc/runtime/race.hpp>
#include <torc/runtime/time.hpp>

#include "tls_meeting.hpp"

// TLS streams over loopback: what arrives, what is refused, who is told what. How they end is in tls_stream_end_test.

using namespace torc;
using namespace torc::net;
using namespace torc::testing;
using torc::test::run_clean;

namespace {

constexpr std::array both_versions{TlsVersion::tls1_2, TlsVersion::tls1_3};

}  // namespace

TEST_SUITE("tls stream") {
    TEST_CASE("what one side sends the other receives, of every size, and back") {
        for (const TlsVersion version : both_versions) {
            for (const std::size_t size : {1UZ, 100UZ, 16384UZ, 16385UZ, 300'000UZ}) {
                CAPTURE(to_string(version));
                CAPTURE(size);
                const std::string text = pattern(size);
                run_clean([&] {
                    return meet(
                        Meeting::of(version),
                        [&](TlsStream& server) -> task<> {
                            CHECK(server.info().version == version);
                            const std::string got = co_await receive_all(server);
                            CHECK(got == text);
                            co_await server.send(got);
                        },
                        [&](TlsStream& client) -> task<> {
                            CHECK(client.info().version == version);
                            CHECK(client.info().verified);
                            co_await client.send(text);
                            co_await client.shutdown_write();
                            const std::string got = co_await receive_all(client);
                            CHECK(got == text);
                        });
                });
            }
        }
    }

    TEST_CASE("two parts leave together, of whatever sizes, and arrive as one") {
        const std::string bytes = pattern(300'000);
        const auto part = [&bytes](std::size_t size) { return std::as_bytes(std::span{bytes}).first(size); };
        constexpr std::array sizes{std::size_t{0}, std::size_t{200}, std::size_t{16'384}, std::size_t{200'000}};
        run_clean([&] {
            return meet(
                Meeting{},
                [&](TlsStream& stream) -> task<> {
                    for (const std::size_t first : sizes) {
                        for (const std::size_t second : sizes) co_await stream.send(part(first), part(second));
                    }
                },
                [&](TlsStream& stream) -> task<> {
                    for (const std::size_t first : sizes) {
                        for (const std::size_t second : sizes) {
                            const std::string got = co_await receive_exactly(stream, first + second);
                            CHECK(got == bytes.substr(0, first) + bytes.substr(0, second));
                        }
                    }
                });
        });
    }

    TEST_CASE("both directions flow at the same time, with a reader and a writer of their own") {
        const std::string text = pattern(2'000'000);
        auto both_ways = [&](TlsStream& stream) -> task<> {
            auto write = [&]() -> task<> {
                co_await stream.send(text);
                co_await stream.shutdown_write();
            };
            auto read = [&]() -> task<> {
                const std::string got = co_await receive_all(stream);
                CHECK(got == text);
            };
            co_await gather(write(), read());
        };
        for (const TlsVersion version : both_versions) {
            run_clean([&] { return meet(Meeting::of(version), both_ways, both_ways); });
        }
    }

    TEST_CASE("a receive into one's own memory gives what fits and keeps the rest") {
        run_clean([&] {
            return meet(
                Meeting{}, [](TlsStream& server) -> task<> { co_await server.send("twelve bytes"); },
                [](TlsStream& client) -> task<> {
                    const std::string first = co_await receive_exactly(client, 1);
                    const std::string second = co_await receive_exactly(client, 5);
                    const std::string rest = co_await receive_all(client);
                    CHECK(first == "t");
                    CHECK(second == "welve");
                    CHECK(rest == " bytes");
                });
        });
    }

    TEST_CASE("a server may speak first, whatever the client does with its last flight") {
        for (const TlsVersion version : both_versions) {
            run_clean([&] {
                return meet(
                    Meeting::of(version), [](TlsStream& server) -> task<> { co_await server.send("220 ready"); },
                    [](TlsStream& client) -> task<> {
                        const std::string got = co_await receive_all(client);
                        CHECK(got == "220 ready");
                    });
            });
        }
    }

    TEST_CASE("the client's last flight and its first request leave together") {
        run_clean([]() -> task<> {
            const Meeting meeting = Meeting::of(TlsVersion::tls1_3);
            TcpListener listener = TcpListener::bind(Address::loopback(0));
            auto serve = [&]() -> task<> {
                TcpStream tcp = co_await listener.accept();
                tls::Engine engine{meeting.server};
                for (;;) {
                    BufferSlice slice = co_await tcp.receive();
                    engine.feed(slice.bytes());
                    const bool established = engine.handshake() == tls::Status::ok;
                    if (established) {
                        std::array<std::byte, 100> request;
                        CHECK(engine.read(request).n == 5);
                        co_return;
                    }
                    co_await tcp.send(engine.output());
                    engine.consume_output(engine.output().size());
                }
            };
            auto visit = [&]() -> task<> {
                TlsStream client = co_await meeting.connect(listener.local());
                co_await client.send("hello");
            };
            co_await gather(serve(), visit());
        });
    }

    TEST_CASE("an idle connection holds no buffer") {
        run_clean([] {
            return meet(
                Meeting{},
                [](TlsStream& server) -> task<> {
                    co_await server.send("hello");
                    const auto got = co_await receive_exactly(server, 3);
                    CHECK(got == "bye");
                },
                [](TlsStream& client) -> task<> {
                    const auto got = co_await receive_exactly(client, 5);
                    CHECK(got == "hello");
                    CHECK(Executor::here().statistics().buffers_lent == 0);
                    co_await client.send("bye");
                });
        });
    }

    TEST_CASE("a stream may be moved between and during exchanges") {
        run_clean([] {
            return meet(
                Meeting{},
                [](TlsStream& server) -> task<> {
                    const std::string got = co_await receive_all(server);
                    co_await server.send(got);
                },
                [](TlsStream& client) -> task<> {
                    co_await client.send("one ");
                    TlsStream moved = std::move(client);
                    auto read = [&]() -> task<> {
                        const std::string got = co_await receive_all(moved);
                        CHECK(got == "one two");
                    };
                    auto write = [&]() -> task<> {
                        TlsStream other = std::move(moved);
                        moved = std::move(other);
                        co_await moved.send("two");
                        co_await moved.shutdown_write();
                    };
                    co_await gather(read(), write());
                    CHECK(moved.is_open());
                    CHECK_FALSE(client.is_open());
                });
        });
    }

    TEST_CASE("keys may change in mid-stream, on one side's wish or on both's") {
        run_clean([] {
            return meet(
                Meeting::of(TlsVersion::tls1_3),
                [](TlsStream& server) -> task<> {
                    for (int round = 0; round < 10; ++round) {
                        const std::string got = co_await receive_exactly(server, 1000);
                        if (round % 3 == 0) server.update_keys(true);
                        co_await server.send(got);
                    }
                },
                [](TlsStream& client) -> task<> {
                    for (int round = 0; round < 10; ++round) {
                        const std::string text = pattern(1000 + static_cast<std::size_t>(round)).substr(0, 1000);
                        client.update_keys(round % 2 == 0);
                        co_await client.send(text);
                        const auto got = co_await receive_exactly(client, 1000);
                        CHECK(got == text);
                    }
                });
        });
    }

    TEST_CASE("a server that asks for it learns who the client is") {
        for (const TlsVersion version : both_versions) {
            TlsServerOptions server = world().server({"site.test"});
            server.algorithms.max_version = version;
            server.client_certificate = TlsClientCertificate::require;
            server.client_trust.ca_pem = world().root.certificate_pem();
            TlsClientOptions client = world().client();
            client.identity = world().intermediate.issue({.common_name = "Alice", .for_client = true});
            run_clean([&] {
                return meet(
                    Meeting{TlsContext::server(server), TlsContext::client(client)},
                    [](TlsStream& stream) -> task<> {
                        const TlsPeerInfo info = stream.info();
                        REQUIRE(info.certificate);
                        CHECK(info.certificate->subject == "CN=Alice");
                        co_await stream.send("welcome");
                    },
                    [](TlsStream& stream) -> task<> {
                        const std::string got = co_await receive_all(stream);
                        CHECK(got == "welcome");
                    });
            });
        }
    }

    TEST_CASE("later connections resume the session of an earlier one") {
        for (const TlsVersion version : both_versions) {
            CAPTURE(to_string(version));
            const Meeting meeting = Meeting::of(version);
            const auto exchange = [&](bool resumed) {
                run_clean([&] {
                    return meet(
                        meeting,
                        [](TlsStream& server) -> task<> {
                            const std::string got = co_await receive_all(server);
                            co_await server.send(got);
                        },
                        [&](TlsStream& client) -> task<> {
                            co_await client.send("hello");
                            co_await client.shutdown_write();
                            const auto got = co_await receive_all(client);
                            CHECK(got == "hello");
                            CHECK(client.info().resumed == resumed);
                            if (!resumed) CHECK(client.session());
                        });
                });
            };
            exchange(false);
            exchange(true);
            exchange(true);
        }
    }

    TEST_CASE("every kind of certificate is accepted or refused as it should be, in the right words") {
        for (const CertificateCase& one : certificate_matrix()) {
            CAPTURE(one.name);
            Error seen{std::error_code{}};
            std::string peer;
            run_clean([&]() -> task<> {
                const Meeting meeting{TlsContext::server(one.server), TlsContext::client(one.client), {one.host}};
                TcpListener listener = TcpListener::bind(Address::loopback(0));
                peer = listener.local().to_string();
                auto serve = [&]() -> task<> {
                    auto accepted = co_await as_result(meeting.accept(listener));
                    if (accepted) {
                        co_await error_of(accepted->send("welcome"));
                    } else {
                        CHECK(one.expected);
                        CHECK(accepted.error().where() == phase::tls);
                    }
                };
                // A TLS 1.3 server says to the first receive what it thinks of the client's certificate.
                auto visit = [&]() -> task<> {
                    auto connected = co_await as_result(meeting.connect(listener.local()));
                    if (!connected) {
                        seen = connected.error();
                        co_return;
                    }
                    seen = co_await error_of(receive_all(*connected));
                    if (!seen.code()) CHECK(connected->info().verified);
                };
                co_await gather(serve(), visit());
            });
            CAPTURE(seen.what());
            CHECK(seen.code() == one.expected);
            for (const std::string& part : one.words) CHECK(seen.message().find(part) != std::string_view::npos);
            if (one.expected) {
                CHECK(seen.where() == phase::tls);
                CHECK(seen.peer() == peer);
            }
        }
    }

    TEST_CASE("a peer that does not speak TLS is named and quoted") {
        run_clean([]() -> task<> {
            TcpListener listener = TcpListener::bind(Address::loopback(0));
            auto serve = [&]() -> task<> {
                TcpStream tcp = co_await listener.accept();
                co_await tcp.send("HTTP/1.1 400 Bad Request\r\n\r\n");
                co_await receive_all(tcp);
            };
            auto visit = [&]() -> task<> {
                const Meeting meeting;
                const Error error = co_await error_of(meeting.connect(listener.local()));
                CHECK(error.code() == tls_errc::not_tls);
                CHECK(error.where() == phase::tls);
                CHECK(error.peer() == listener.local().to_string());
                CHECK(error.message() == "the peer does not speak TLS; it begins with \"HTTP/\"");
            };
            co_await gather(serve(), visit());
        });
    }

    TEST_CASE("there is one reader and one writer at a time, and nobody after the end") {
        event done;
        run_clean([&] {
            return meet(
                Meeting{}, [&](TlsStream&) -> task<> { co_await done.wait(); },
                [&](TlsStream& client) -> task<> {
                    auto first = [&]() -> task<> {
                        const Error error = co_await error_of(client.receive());
                        CHECK(error.code() == errc::closed);
                    };
                    auto second = [&]() -> task<> {
                        const Error error = co_await error_of(client.receive());
                        CHECK(error.code() == errc::busy);
                        co_await client.shutdown_write();
                        co_await client.shutdown_write();
                        const Error late = co_await error_of(client.send("late"));
                        CHECK(late.code() == errc::closed);
                        co_await client.close();
                    };
                    co_await gather(first(), second());
                    const Error received = co_await error_of(client.receive());
                    const Error sent = co_await error_of(client.send("late"));
                    CHECK(received.code() == errc::closed);
                    CHECK(sent.code() == errc::closed);
                    co_await client.close();
                    done.set();
                });
        });
    }

    TEST_CASE("a receive that was cancelled loses no byte") {
        for (const TlsVersion version : both_versions) {
            const std::string text = pattern(50'000);
            run_clean([&] {
                return meet(
                    Meeting::of(version), [&](TlsStream& server) -> task<> { co_await server.send(text); },
                    [&](TlsStream& client) -> task<> {
                        std::string got;
                        for (;;) {
                            auto receive = [&]() -> task<bool> {
                                const BufferSlice slice = co_await client.receive();
                                got.append(reinterpret_cast<const char*>(slice.bytes().data()), slice.size());
                                co_return slice.empty();
                            };
                            auto impatience = []() -> task<> {
                                for (int turn = 0; turn < 20; ++turn) co_await yield();
                            };
                            auto first = co_await race(receive(), impatience());
                            if (first.index() == 0 && std::get<0>(first)) break;
                        }
                        CHECK(got == text);
                    });
            });
        }
    }
}
