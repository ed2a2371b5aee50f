#include <algorithm>
#include <array>
#include <vector>

#include <torc/runtime/event.hpp>
#include <torc/runtime/race.hpp>
#include <torc/runtime/scope.hpp>
#include <torc/runtime/time.hpp>
#include <torc/runtime/timeout.hpp>
#include <torc/runtime/with.hpp>

#include "tls_meeting.hpp"

// How TLS streams end: orderly, cut off, refused, cancelled at every point. A plain socket stands in for the peer where
// it matters which bytes left.

using namespace torc;
using namespace torc::net;
using namespace torc::testing;
using torc::test::run_clean;

namespace {

constexpr std::array both_versions{TlsVersion::tls1_2, TlsVersion::tls1_3};

/// What a TLS stream's bytes consist of: the content type of each record (RFC 8446, 5.1).
enum record_type : unsigned char { change_cipher_spec = 20, alert = 21, handshake_record = 22, application_data = 23 };

std::vector<unsigned char> record_types(std::string_view stream) {
    std::vector<unsigned char> types;
    while (stream.size() >= 5) {
        types.push_back(static_cast<unsigned char>(stream[0]));
        const auto high = static_cast<unsigned char>(stream[3]);
        const auto low = static_cast<unsigned char>(stream[4]);
        stream.remove_prefix(std::min<std::size_t>(stream.size(), 5U + (high << 8U | low)));
    }
    return types;
}

/// Everything that a peer sends before the connection ends, in whatever way it ends.
task<std::string> record_everything(TcpStream& tcp) {
    std::string all;
    for (;;) {
        auto slice = co_await as_result(tcp.receive());
        if (!slice || slice->empty()) co_return all;
        all.append(reinterpret_cast<const char*>(slice->bytes().data()), slice->size());
    }
}

/// Closes the connection below TLS, so that no close_notify is said.
task<> cut(TlsStream& stream) {
    close_awaitable closing{&stream.record()};
    co_await std::move(closing);
}

/// A whole conversation; it may end early with an error where the other side was cancelled.
task<> serve_once(const Meeting& meeting, TcpListener& listener) {
    TlsStream stream = co_await meeting.accept(listener);
    const std::string got = co_await receive_exactly(stream, 100'000);
    stream.update_keys(true);
    co_await stream.send(got);
    co_await receive_all(stream);
}

task<> visit_once(const Meeting& meeting, const Address address) {
    const std::string text = pattern(100'000);
    TlsStream stream = co_await meeting.connect(address);
    co_await stream.send(text);
    const std::string got = co_await receive_exactly(stream, text.size());
    CHECK(got == text);
    co_await stream.shutdown_write();
    co_await receive_all(stream);
}

/// How far the drivers' work has come: operations begun and results taken.
std::uint64_t progress() {
    const Statistics now = Executor::here().statistics();
    return now.submitted + now.completions;
}

/// Ends once nothing moves any more: whoever is not finished by then is waiting for the peer.
task<> until_still() {
    std::uint64_t before = 0;
    do {
        before = progress();
        for (int turn = 0; turn < 1000; ++turn) co_await yield();
    } while (before != progress());
}

/// Cancels `victim` once `steps` more steps are done.
task<> cancel_after(std::uint64_t steps, scope& victim, const bool& over) {
    const std::uint64_t until = progress() + steps;
    while (!over && progress() < until) co_await yield();
    if (!over) victim.cancel();
}

}  // namespace

TEST_SUITE("the end of a TLS stream") {
    TEST_CASE("closing says close_notify, which the peer tells apart from a connection that was cut") {
        for (const TlsVersion version : both_versions) {
            for (const int how : {0, 1, 2, 3}) {
                CAPTURE(to_string(version));
                CAPTURE(how);
                run_clean([&] {
                    return meet(
                        Meeting::of(version),
                        [how](TlsStream& server) -> task<> {
                            co_await server.send("so far");
                            if (how == 0) co_await server.close();
                            if (how == 1) TlsStream dropped = std::move(server);
                            if (how == 2) co_await server.shutdown_write();
                            if (how == 3) co_await cut(server);
                        },
                        [how](TlsStream& client) -> task<> {
                            const std::string got = co_await receive_exactly(client, 6);
                            CHECK(got == "so far");
                            auto end = co_await as_result(client.receive());
                            if (how < 3) {
                                REQUIRE(end.has_value());
                                CHECK(end->empty());
                                end = co_await as_result(client.receive());
                                CHECK(end->empty());
                                co_return;
                            }
                            REQUIRE_FALSE(end.has_value());
                            CHECK(end.error().code() == tls_errc::truncated);
                            CHECK(end.error().message() ==
                                  "the connection ended without close_notify; data may be missing");
                            CHECK(end.error().peer() == client.peer().to_string());
                        });
                });
            }
        }
    }

    TEST_CASE("a shutdown that was cancelled is done when it is asked for again") {
        event heard;
        run_clean([&heard] {
            return meet(
                Meeting{},
                [&heard](TlsStream& server) -> task<> {
                    co_await server.send("hello");
                    const BufferSlice end = co_await server.receive();
                    CHECK(end.empty());
                    heard.set();
                    co_await server.send("bye");
                },
                [&heard](TlsStream& client) -> task<> {
                    const std::string hello = co_await receive_exactly(client, 5);
                    co_await client.flush();
                    co_await with_scope([&client](scope& here) -> task<> {
                        here.spawn(client.shutdown_write());
                        here.cancel();
                        co_return;
                    });
                    const auto again = co_await as_result(client.shutdown_write());
                    CHECK(again);
                    // A receive would send what is left.
                    const auto waited = co_await as_result(with_timeout(std::chrono::seconds{10}, heard.wait()));
                    CHECK(waited);
                    const std::string bye = co_await receive_exactly(client, 3);
                    CHECK(bye == "bye");
                });
        });
    }

    TEST_CASE("a peer that closes during the handshake is said to have done so") {
        run_clean([]() -> task<> {
            const Meeting meeting;
            TcpListener listener = TcpListener::bind(Address::loopback(0));
            auto serve = [&]() -> task<> {
                TcpStream tcp = co_await listener.accept();
                const BufferSlice hello = co_await tcp.receive();
                CHECK(hello.size() > 5);
            };
            auto visit = [&]() -> task<> {
                const Error error = co_await error_of(meeting.connect(listener.local()));
                CHECK(error.code() == tls_errc::truncated);
                CHECK(error.where() == phase::tls);
                CHECK(error.peer() == listener.local().to_string());
                CHECK(error.message() == "the peer closed the connection during the TLS handshake");
            };
            co_await gather(serve(), visit());
        });
    }

    TEST_CASE("a cancelled handshake ends without a word") {
        run_clean([]() -> task<> {
            const Meeting meeting;
            TcpListener listener = TcpListener::bind(Address::loopback(0));
            event greeted;
            std::string heard;
            auto serve = [&]() -> task<> {
                TcpStream tcp = co_await listener.accept();
                BufferSlice hello = co_await tcp.receive();
                heard.append(reinterpret_cast<const char*>(hello.bytes().data()), hello.size());
                hello.release();
                greeted.set();
                heard += co_await record_everything(tcp);
            };
            auto visit = [&]() -> task<> {
                const auto first = co_await race(meeting.connect(listener.local()), greeted.wait());
                CHECK(first.index() == 1);
            };
            co_await gather(serve(), visit());
            CHECK(record_types(heard) == std::vector<unsigned char>{handshake_record});
        });
    }

    TEST_CASE("a failed handshake ends with the alert that says why, and no close_notify") {
        for (const TlsVersion version : both_versions) {
            run_clean([version]() -> task<> {
                const Meeting meeting = Meeting::of(version);
                const Meeting stranger{meeting.server, TlsContext::client(), {"site.test"}};
                TcpListener listener = TcpListener::bind(Address::loopback(0));
                auto serve = [&]() -> task<> {
                    const Error error = co_await error_of(meeting.accept(listener));
                    CHECK(error.code() == tls_errc::certificate_refused_by_peer);
                    CHECK(error.message().find("alert unknown_ca") != std::string_view::npos);
                    CHECK(error.where() == phase::tls);
                    CHECK_FALSE(error.peer().empty());
                };
                auto visit = [&]() -> task<> {
                    const Error error = co_await error_of(stranger.connect(listener.local()));
                    CHECK(is_certificate_fault(error.code()));
                };
                co_await gather(serve(), visit());
            });
        }
        run_clean([]() -> task<> {
            const Meeting meeting;
            TcpListener listener = TcpListener::bind(Address::loopback(0));
            std::string heard;
            auto serve = [&]() -> task<> {
                TcpStream tcp = co_await listener.accept();
                co_await tcp.send(std::string_view{"\x16\x03\x03\x00\x04\x02\x00\x00\x00", 9});  // an empty ServerHello
                heard = co_await record_everything(tcp);
            };
            auto visit = [&]() -> task<> {
                const Error error = co_await error_of(meeting.connect(listener.local()));
                CHECK(error.code().category() == tls_category());
            };
            co_await gather(serve(), visit());
            CHECK(record_types(heard) == std::vector<unsigned char>{handshake_record, alert});
            CHECK(heard.ends_with(std::string_view{"\x02\x32", 2}));  // fatal, decode_error
        });
    }

    TEST_CASE("a message that was cut off is not followed by a close_notify") {
        for (const TlsVersion version : both_versions) {
            run_clean([version] {
                static event stuck;
                stuck.reset();
                return meet(
                    Meeting::of(version),
                    [](TlsStream& server) -> task<> {
                        co_await stuck.wait();
                        const Error error = co_await error_of(receive_all(server));
                        // A socket closed with something unread in it resets the connection, which says as much.
                        const bool reset = error.code() == std::errc::connection_reset;
                        CHECK((reset || error.code() == tls_errc::truncated));
                    },
                    [](TlsStream& client) -> task<> {
                        const std::string text = pattern(50'000'000);
                        // The peer does not read, so that the send fills every buffer on the way and stops.
                        const auto first = co_await race(client.send(text), until_still());
                        CHECK(first.index() == 1);
                        const Error error = co_await error_of(client.send("more"));
                        CHECK(error.code() == std::errc::broken_pipe);
                        stuck.set();
                    });
            });
        }
    }

    TEST_CASE("nor is one of which nothing left") {
        for (const TlsVersion version : both_versions) {
            run_clean([version] {
                return meet(
                    Meeting::of(version),
                    [version](TlsStream& server) -> task<> {
                        const Error error = co_await error_of(receive_all(server));
                        const bool reset = version == TlsVersion::tls1_3 && error.code() == std::errc::connection_reset;
                        CHECK((reset || error.code() == tls_errc::truncated));
                    },
                    [](TlsStream& client) -> task<> {
                        co_await client.flush();
                        co_await until_still();
                        // The send is cancelled before the driver hands it to the kernel, but its record is numbered.
                        auto at_once = []() -> task<> { co_return; };
                        const auto first = co_await race(client.send("never"), at_once());
                        CHECK(first.index() == 1);
                        CHECK_FALSE(client.record().output_broken());
                        const Error error = co_await error_of(client.send("more"));
                        CHECK(error.code() == std::errc::broken_pipe);
                    });
            });
        }
    }

    TEST_CASE("a failed send leaves what the peer had said to be received") {
        for (const TlsVersion version : both_versions) {
            run_clean([version] {
                static event gone;
                gone.reset();
                return meet(
                    Meeting::of(version),
                    [](TlsStream& server) -> task<> {
                        co_await receive_exactly(server, 5);
                        co_await server.send("go away");
                        co_await server.close();
                        gone.set();
                    },
                    [](TlsStream& client) -> task<> {
                        co_await client.send("hello");
                        co_await gone.wait();
                        Error error{std::error_code{}};
                        while (!error.code()) error = co_await error_of(client.send("hello?"));
                        CHECK(error.where() == phase::send);
                        const std::string got = co_await receive_exactly(client, 7);
                        CHECK(got == "go away");
                    });
            });
        }
    }

    TEST_CASE("the descriptor is closed when the task that owned the stream has returned") {
        for (const int how : {0, 1, 2}) {
            CAPTURE(how);
            run_clean([how]() -> task<> {
                const Meeting meeting;
                TcpListener listener = TcpListener::bind(Address::loopback(0));
                event done;
                auto serve = [&]() -> task<> {
                    TlsStream stream = co_await meeting.accept(listener);
                    co_await done.wait();
                };
                auto owner = [&]() -> task<> {
                    TlsStream stream = co_await meeting.connect(listener.local());
                    co_await stream.send("hello");
                    if (how == 1) throw Error{errc::unsupported, phase::none};
                    if (how == 2) co_await stream.receive();
                };
                auto visit = [&]() -> task<> {
                    if (how == 2) {
                        const auto first = co_await race(owner(), until_still());
                        CHECK(first.index() == 1);
                    } else {
                        const Error error = co_await error_of(owner());
                        CHECK(error.code() == (how == 1 ? make_error_code(errc::unsupported) : std::error_code{}));
                    }
                    const Statistics now = Executor::here().statistics();
                    CHECK(now.open_closes == 0);
                    CHECK(now.ungraceful_closes == 0);

                    done.set();
                };
                co_await gather(serve(), visit());
            });
        }
    }

    TEST_CASE("those who wait in a stream that goes away are told that it was closed") {
        event done;
        run_clean([&] {
            return meet(
                Meeting{}, [&](TlsStream&) -> task<> { co_await done.wait(); },
                [&](TlsStream& client) -> task<> {
                    const std::string text = pattern(50'000'000);
                    auto read = [&]() -> task<> {
                        const Error error = co_await error_of(client.receive());
                        CHECK(error.code() == errc::closed);
                    };
                    auto write = [&]() -> task<> {
                        const Error error = co_await error_of(client.send(text));
                        CHECK(error.code() == errc::closed);
                    };
                    auto drop = [&]() -> task<> {
                        co_await until_still();
                        const TlsStream gone = std::move(client);
                    };
                    co_await gather(read(), write(), drop());
                    done.set();
                });
        });
    }

    TEST_CASE("cancelling everything at every await of a conversation leaves nothing behind") {
        for (const TlsVersion version : both_versions) {
            const Meeting meeting = Meeting::of(version);
            auto conversation = [&]() -> task<> {
                TcpListener listener = TcpListener::bind(Address::loopback(0));
                co_await gather(serve_once(meeting, listener), visit_once(meeting, listener.local()));
            };
            for (const bool late : {false, true}) {
                bool completed = false;
                std::uint64_t at = 0;
                while (!completed) {
                    ExecutorOptions options;
                    options.cancel_at_suspension = ++at;
                    options.cancel_late = late;
                    CAPTURE(at);
                    CAPTURE(late);
                    REQUIRE(at < 1000);
                    try {
                        run_clean(conversation, options);
                        completed = true;
                    } catch (const cancelled&) {
                    }
                }
                CHECK(at > 20);
            }
        }
    }

    TEST_CASE("a peer that is cancelled at every step leaves the other to end in peace") {
        for (const bool client_goes : {true, false}) {
            const Meeting meeting;
            bool completed = false;
            for (std::uint64_t steps = 0; !completed; ++steps) {
                CAPTURE(client_goes);
                CAPTURE(steps);
                REQUIRE(steps < 1000);
                run_clean([&]() -> task<> {
                    TcpListener listener = TcpListener::bind(Address::loopback(0));
                    const Address address = listener.local();
                    auto goes = [&]() -> task<> {
                        bool over = false;
                        co_await with_scope([&](scope& here) -> task<> {
                            here.spawn(cancel_after(steps, here, over));
                            if (client_goes) {
                                co_await visit_once(meeting, address);
                            } else {
                                co_await serve_once(meeting, listener);
                            }
                            over = true;
                            completed = !here.cancelled();
                        });
                        // Whoever has not been accepted yet would wait for ever.
                        if (!client_goes) co_await listener.close();
                    };
                    auto stays = [&]() -> task<> {
                        task<> mine = client_goes ? serve_once(meeting, listener) : visit_once(meeting, address);
                        const Error error = co_await error_of(std::move(mine));
                        if (completed) CHECK(!error.code());
                    };
                    auto knock = [&]() -> task<> {
                        // A client that was cancelled before it came leaves a server that waits for one.
                        TcpStream tcp = co_await TcpStream::connect(address);
                    };
                    auto goes_and_knocks = [&]() -> task<> {
                        co_await goes();
                        if (client_goes && !completed) co_await knock();
                    };
                    co_await gather(stays(), goes_and_knocks());
                });
            }
        }
    }

    TEST_CASE("`with` closes a stream at the end of its block") {
        run_clean([]() -> task<> {
            const Meeting meeting;
            TcpListener listener = TcpListener::bind(Address::loopback(0));
            auto serve = [&]() -> task<> {
                TlsStream accepted = co_await meeting.accept(listener);
                const std::string got = co_await receive_all(accepted);
                CHECK(got == "hello");
            };
            auto visit = [&]() -> task<> {
                TlsStream connected = co_await meeting.connect(listener.local());
                auto body = [](TlsStream& stream) -> task<int> {
                    co_await stream.send("hello");
                    co_return 7;
                };
                const int answer = co_await with(std::move(connected), body);
                CHECK(answer == 7);
            };
            co_await gather(serve(), visit());
        });
    }
}
