#include <torc/net/listener.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <blocking_peer.hpp>
#include <leak_check.hpp>
#include <optional>
#include <plug.hpp>
#include <steps.hpp>
#include <string>
#include <vector>
#include <which_driver.hpp>

#include <sys/resource.h>
#include <sys/stat.h>

#include <torc/runtime/as_result.hpp>
#include <torc/runtime/gather.hpp>
#include <torc/runtime/scope.hpp>
#include <torc/runtime/timeout.hpp>

// Listeners: connections are taken in order and none is lost to a cancel; running out of descriptors is an error that
// one recovers from; what a closed listener leaves is refused.

namespace {

using torc::as_result;
using torc::errc;
using torc::scope;
using torc::task;
using torc::net::Address;
using torc::net::ListenOptions;
using torc::net::TcpListener;
using torc::net::TcpStream;
using namespace torc::test;

task<std::error_code> refusal(TcpListener& listener) {
    const auto accepted = co_await as_result(listener.accept());
    co_return accepted ? std::error_code{} : accepted.error().code();
}

task<std::string> read_line(TcpStream& stream, std::size_t count) {
    std::string all;
    while (all.size() < count) {
        const torc::BufferSlice slice = co_await stream.receive();
        if (slice.empty()) break;
        all.append(reinterpret_cast<const char*>(slice.bytes().data()), slice.size());
    }
    co_return all;
}

/// Lowers the number of descriptors that the process may have.
class FewDescriptors {
   public:
    explicit FewDescriptors(std::size_t more) {
        ::getrlimit(RLIMIT_NOFILE, &before_);
        rlimit low = before_;
        low.rlim_cur = highest() + 1 + more;
        ::setrlimit(RLIMIT_NOFILE, &low);
    }
    FewDescriptors(const FewDescriptors&) = delete;
    FewDescriptors& operator=(const FewDescriptors&) = delete;
    ~FewDescriptors() { lift(); }
    void lift() { ::setrlimit(RLIMIT_NOFILE, &before_); }

   private:
    // The lowest free descriptor is what a new one gets; there are no gaps below it after this.
    static std::size_t highest() {
        const int next = ::dup(0);
        ::close(next);
        return static_cast<std::size_t>(next) - 1;
    }
    rlimit before_{};
};

}  // namespace

TEST_CASE("connections are accepted in the order in which they came, and know their peer") {
    run_clean([]() -> task<> {
        TcpListener listener = TcpListener::bind(Address::loopback(0));
        CHECK(listener.local().port() != 0);
        for (int count = 0; count < 20; ++count) {
            TcpStream client = co_await TcpStream::connect(listener.local());
            TcpStream server = co_await listener.accept();
            CHECK(server.peer().is_loopback());
            CHECK(server.local() == listener.local());
            co_await client.send("hello");
            CHECK(co_await read_line(server, 5) == "hello");
        }
    });
}

TEST_CASE("an accept that is cancelled as a connection arrives loses none") {
    run_clean([]() -> task<> {
        TcpListener listener = TcpListener::bind(Address::loopback(0));
        std::vector<TcpStream> accepted;
        auto accept = [&]() -> task<> { accepted.push_back(co_await listener.accept()); };
        std::vector<TcpStream> clients;
        for (int count = 0; count < 60; ++count) {
            clients.push_back(co_await TcpStream::connect(listener.local()));
            co_await torc::with_scope([&](scope& here) -> task<> {
                here.spawn(accept());
                co_await driver_turns(count % 3);
                here.cancel();
            });
        }
        while (accepted.size() < clients.size()) co_await accept();
        CHECK(torc::Executor::here().statistics().open_descriptors == 121);
        for (std::size_t index = 0; index < clients.size(); ++index) {
            co_await clients[index].send("x");
            CHECK(co_await read_line(accepted[index], 1) == "x");
        }
    });
}

TEST_CASE("a second acceptor is told busy, also after the first was woken") {
    run_clean([]() -> task<> {
        TcpListener listener = TcpListener::bind(Address::loopback(0));
        std::optional<TcpStream> accepted;
        int refused = 0;
        auto first = [&]() -> task<> { accepted.emplace(co_await listener.accept()); };
        auto second = [&]() -> task<> {
            while (!accepted) {
                const auto taken = co_await as_result(listener.accept());
                if (taken) {
                    FAIL_CHECK("the second acceptor got the connection");
                    break;
                }
                if (taken.error().code() != errc::busy) FAIL_CHECK(taken.error().what());
                ++refused;
                co_await torc::yield();
            }
        };
        auto client = [&]() -> task<> { static_cast<void>(co_await TcpStream::connect(listener.local())); };
        co_await torc::gather(first(), second(), client());
        CHECK(refused > 0);
    });
}

TEST_CASE("closing a listener ends the accept that waits, and later ones, with closed") {
    run_clean([]() -> task<> {
        TcpListener listener = TcpListener::bind(Address::loopback(0));
        std::error_code waiting;
        auto accept = [&]() -> task<> { waiting = co_await refusal(listener); };
        auto closer = [&]() -> task<> { co_await listener.close(); };
        co_await torc::gather(accept(), closer());
        CHECK(waiting == errc::closed);
        CHECK(co_await refusal(listener) == errc::closed);
        co_await listener.close();
        const TcpListener other = std::move(listener);
        CHECK(co_await refusal(listener) == errc::closed);  // NOLINT: moved from
        const auto refused = co_await as_result(TcpStream::connect(other.local()));
        CHECK(refused.error().code() == std::errc::connection_refused);
    });
}

TEST_CASE("a listener that goes while a task accepts ends that task with closed, though it is gone before it runs") {
    for (const bool busy : {false, true}) {
        run_clean([&]() -> task<> {
            std::optional<TcpListener> listener = TcpListener::bind(Address::loopback(0));
            std::error_code waiting;
            auto accept = [&]() -> task<> { waiting = co_await refusal(*listener); };
            auto dropper = [&]() -> task<> {
                listener.reset();
                for (int turn = 0; busy && turn < 100; ++turn) co_await torc::yield();
            };
            co_await torc::gather(accept(), dropper());
            CHECK(waiting == errc::closed);
        });
    }
}

TEST_CASE("an address that is taken, or not ours, is an error in words") {
    run_clean([]() -> task<> {
        const TcpListener listener = TcpListener::bind(Address::loopback(0));
        std::error_code code;
        try {
            static_cast<void>(TcpListener::bind(listener.local()));
        } catch (const torc::Error& error) {
            code = error.code();
            CHECK(error.peer() == listener.local().to_string());
        }
        CHECK(code == std::errc::address_in_use);
        code = {};
        try {
            static_cast<void>(TcpListener::bind(Address::v4({192, 0, 2, 1}, 0)));
        } catch (const torc::Error& error) {
            code = error.code();
        }
        CHECK(code == std::errc::address_not_available);
        co_return;
    });
}

TEST_CASE("when descriptors run out accepting fails with words, and works again when there are some" *
          doctest::skip(simulated())) {
    run_clean([]() -> task<> {
        TcpListener listener = TcpListener::bind(Address::loopback(0));
        const Address address = listener.local();
        // The clients' descriptors are not the process's.
        std::vector<PeerClient> clients;
        for (int count = 0; count < 8; ++count) clients.emplace_back(address, [](int fd) { peer::read_all(fd); });
        std::vector<TcpStream> accepted;
        FewDescriptors few{3};
        std::error_code code;
        std::string what;
        while (!code) {
            auto next = co_await as_result(listener.accept());
            if (next) {
                accepted.push_back(std::move(*next));
                REQUIRE(accepted.size() <= 3);
            } else {
                code = next.error().code();
                what = next.error().what();
            }
        }
        CHECK(code == std::errc::too_many_files_open);
        CHECK(what.find("files") != std::string::npos);
        CHECK(accepted.size() == 3);
        CHECK(co_await refusal(listener) == std::errc::too_many_files_open);
        for (TcpStream& each : accepted) co_await each.close();
        std::size_t served = accepted.size();
        accepted.clear();
        while (served < clients.size()) {
            TcpStream next = co_await listener.accept();
            ++served;
            co_await next.close();
        }
        few.lift();
    });
}

TEST_CASE("when descriptors run out connecting fails with words, and works again when there are some" *
          doctest::skip(simulated())) {
    const SilentAddress quiet{128};
    const leak_check leaks;
    {
        const FewDescriptors few{12};
        torc::Executor executor;  // takes its table of sockets by the limit
        executor.run([](const SilentAddress& peer) -> task<> {
            std::vector<TcpStream> streams;
            std::error_code code;
            while (!code) {
                auto next = co_await as_result(TcpStream::connect(peer.address()));
                if (next) {
                    streams.push_back(std::move(*next));
                    REQUIRE(streams.size() < 100);
                } else {
                    code = next.error().code();
                    CHECK(next.error().where() == torc::phase::connect);
                }
            }
            CHECK(code == std::errc::too_many_files_open);
            co_await streams.back().close();
            streams.back() = co_await TcpStream::connect(peer.address());
            co_await streams.back().send("x");
        }(quiet));
        leak_check::check(executor.statistics());
    }
}

TEST_CASE("listening on unix sockets: stale files are removed on request, names may be abstract") {
    const std::string path = "/tmp/torc-listen-" + std::to_string(::getpid());
    const std::string name = "@torc-listen-" + std::to_string(::getpid());
    run_clean([&]() -> task<> {
        for (const std::string& where : {path, name, path}) {
            TcpListener listener = TcpListener::bind(Address::unix_socket(where), ListenOptions{.unlink_first = true});
            auto client = [&]() -> task<std::string> {
                torc::net::UnixStream stream = co_await torc::net::UnixStream::connect(Address::unix_socket(where));
                co_await stream.send("ping");
                const torc::BufferSlice slice = co_await stream.receive();
                co_return std::string{reinterpret_cast<const char*>(slice.bytes().data()), slice.size()};
            };
            auto server = [&]() -> task<> {
                TcpStream stream = co_await listener.accept();
                CHECK(co_await read_line(stream, 4) == "ping");
                co_await stream.send("pong");
            };
            const auto [answer, none] = co_await torc::gather(client(), server());
            CHECK(answer == "pong");
        }
        std::error_code code;
        try {
            static_cast<void>(TcpListener::bind(Address::unix_socket(path)));
        } catch (const torc::Error& error) {
            code = error.code();
        }
        CHECK(code == std::errc::address_in_use);
    });
    ::unlink(path.c_str());
}

TEST_CASE("a burst of connections waits in order, and is bounded by the backlog, not by our memory") {
    run_clean([]() -> task<> {
        TcpListener listener = TcpListener::bind(Address::loopback(0));
        std::vector<TcpStream> clients;
        auto connect = [&]() -> task<> { clients.push_back(co_await TcpStream::connect(listener.local())); };
        TcpStream first = co_await TcpStream::connect(listener.local());
        TcpStream accepted = co_await listener.accept();  // from here on the accept is armed
        for (int count = 0; count < 200; ++count) co_await connect();
        co_await driver_turns(50);
        // Ours: the clients', the first pair, the listener, and no more queued than the listener lets in.
        CHECK(torc::Executor::here().statistics().open_descriptors <= 200 + 3 + 200);
        std::vector<TcpStream> servers;
        while (servers.size() < clients.size()) servers.push_back(co_await listener.accept());
        CHECK(torc::Executor::here().statistics().open_descriptors == 403);
    });
}

TEST_CASE("with the plug pulled at any await of serving, every connection is closed") {
    pull_the_plug([]() -> task<> {
        TcpListener listener = TcpListener::bind(Address::loopback(0));
        auto serve = [](TcpStream stream) -> task<> {
            const std::string text = co_await read_line(stream, 4);
            co_await stream.send(text);
        };
        auto clients = [&](scope& all) -> task<> {
            for (int count = 0; count < 3; ++count) {
                TcpStream stream = co_await TcpStream::connect(listener.local());
                co_await stream.send("ping");
                const std::string text = co_await read_line(stream, 4);
                CHECK(text == "ping");
            }
            all.cancel();
        };
        co_await torc::with_scope([&](scope& here) -> task<> {
            here.spawn(clients(here));
            for (;;) here.spawn(serve(co_await listener.accept()));
        });
    });
}
