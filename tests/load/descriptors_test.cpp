#include <doctest/doctest.h>

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <string>
#include <vector>

#include <blocking_peer.hpp>
#include <dns_server.hpp>
#include <forked.hpp>
#include <leak_check.hpp>
#include <peer.hpp>
#include <process.hpp>
#include <steps.hpp>
#include <torc/http/server.hpp>
#include <torc/http/session.hpp>
#include <torc/net/resolver.hpp>
#include <torc/net/udp.hpp>
#include <torc/runtime/as_result.hpp>
#include <torc/runtime/event.hpp>
#include <torc/runtime/gather.hpp>
#include <torc/runtime/timeout.hpp>

// No descriptor left (EMFILE), wherever one is needed: each time a clear error, nothing leaked, and everything goes on
// when there are descriptors again.

using namespace torc;
using namespace std::chrono_literals;
using test::run_beside_peers;
using test::run_clean;

namespace {

/// Lowers the process's limit for as long as it lives.
class FewDescriptors {
   public:
    explicit FewDescriptors(rlim_t most) {
        REQUIRE(::getrlimit(RLIMIT_NOFILE, &before_) == 0);
        const rlimit lowered{.rlim_cur = most, .rlim_max = before_.rlim_max};
        REQUIRE(::setrlimit(RLIMIT_NOFILE, &lowered) == 0);
    }
    FewDescriptors(const FewDescriptors&) = delete;
    FewDescriptors& operator=(const FewDescriptors&) = delete;
    ~FewDescriptors() { ::setrlimit(RLIMIT_NOFILE, &before_); }

   private:
    rlimit before_{};
};

/// Takes every descriptor that is left, and gives them back.
class AllDescriptors {
   public:
    AllDescriptors() { take(); }
    AllDescriptors(const AllDescriptors&) = delete;
    AllDescriptors& operator=(const AllDescriptors&) = delete;
    ~AllDescriptors() { give_back(); }
    void take() {
        for (int fd = 0; (fd = ::open("/dev/null", O_RDONLY | O_CLOEXEC)) >= 0;) taken_.push_back(fd);
        CHECK(errno == EMFILE);
    }
    void give_back() { give_back(taken_.size()); }
    void give_back(std::size_t count) {
        for (; count > 0 && !taken_.empty(); --count) {
            ::close(taken_.back());
            taken_.pop_back();
        }
    }

   private:
    std::vector<int> taken_;
};

/// A socket that exists before descriptors run out, for a client that is not under test.
class PlainClient {
   public:
    PlainClient() : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) { REQUIRE(fd_ >= 0); }
    PlainClient(PlainClient&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    PlainClient& operator=(PlainClient&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    ~PlainClient() {
        if (fd_ >= 0) ::close(fd_);
    }
    void ask(const net::Address& server) {
        if (::connect(fd_, server.data(), server.size()) != 0) CHECK(errno == EINPROGRESS);
        std::string_view request = "GET / HTTP/1.1\r\nHost: test\r\n\r\n";
        CHECK(::send(fd_, request.data(), request.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(request.size()));
    }
    /// Whether its answer has begun to arrive.
    [[nodiscard]] bool answered() const {
        std::array<char, 1024> answer;
        const ssize_t count = ::recv(fd_, answer.data(), answer.size(), MSG_PEEK);
        return count > 0 &&
               std::string_view{answer.data(), static_cast<std::size_t>(count)}.starts_with("HTTP/1.1 200");
    }

   private:
    int fd_;
};

bool is_emfile(const Error& error) { return error.code() == std::errc::too_many_files_open; }

bool says(const Error& error, std::string_view words) {
    return std::string_view{error.what()}.find(words) != std::string_view::npos;
}

}  // namespace

TEST_SUITE("no descriptor left") {
    TEST_CASE("a server goes on accepting by itself when descriptors come back, and does not spin meanwhile") {
        const FewDescriptors few{64};
        run_clean([]() -> task<> {
            constexpr std::size_t clients_in_need = 8;
            constexpr std::uint64_t faults_awaited = 4;
            AllDescriptors all;
            all.give_back();
            std::vector<PlainClient> clients(clients_in_need);
            std::uint64_t faults = 0;
            event starved;
            std::uint64_t turns_at_first = 0;
            std::uint64_t turns_at_last = 0;
            Clock::time_point first{};
            Clock::time_point last{};
            http::ServerOptions options;
            options.on_error = [&](const http::ServerFault& fault) {
                CHECK(fault.where == http::ServerFault::stage::accept);
                CHECK_MESSAGE(fault.message() == "no connection can be accepted: accept: too many open files",
                              fault.message());
                const std::uint64_t turns = Executor::here().statistics().turns;
                if (++faults == 1) {
                    turns_at_first = turns;
                    first = Clock::now();
                }
                if (faults != faults_awaited) return;
                turns_at_last = turns;
                last = Clock::now();
                starved.set();
            };
            http::Server server{net::TcpListener::bind(net::Address::loopback(0)),
                                [](http::ServerRequest&, http::Responder& response) -> task<> {
                                    co_await response.send(200, "here\n");
                                },
                                std::move(options)};
            auto visit = [&]() -> task<> {
                all.take();
                for (PlainClient& client : clients) client.ask(server.local());
                co_await starved.wait();
                CHECK(turns_at_last - turns_at_first <= 4 * (faults_awaited - 1));
                CHECK(last - first >= 10ms + 20ms + 40ms);
                for (const PlainClient& client : clients) CHECK_FALSE(client.answered());
                // Some come back, and some have to wait for those who were first.
                all.give_back(clients_in_need / 2);
                for (std::size_t index = 0; index < clients_in_need / 2; ++index) {
                    while (!clients[index].answered()) co_await test::driver_turns(1);
                }
                clients.erase(clients.begin(), clients.begin() + clients_in_need / 2);
                for (const PlainClient& client : clients) {
                    while (!client.answered()) co_await test::driver_turns(1);
                }
                clients.clear();
                all.give_back();
                server.stop();
            };
            co_await with_timeout(30s, gather(server.serve(), visit()));
            CHECK(faults >= faults_awaited);
            CHECK(server.statistics().accepted == clients_in_need);
        });
    }

    TEST_CASE("a listener says so, and has the connection afterwards") {
        const FewDescriptors few{64};
        run_clean([]() -> task<> {
            net::TcpListener listener = net::TcpListener::bind(net::Address::loopback(0));
            PlainClient client;
            AllDescriptors all;
            client.ask(listener.local());
            for (int again = 0; again < 3; ++again) {
                const auto refused = co_await as_result(listener.accept());
                REQUIRE_FALSE(refused);
                CHECK(is_emfile(refused.error()));
                CHECK_MESSAGE(says(refused.error(), "accept: too many open files"),
                              std::string{refused.error().what()});
            }
            all.give_back();
            net::TcpStream stream = co_await listener.accept();
            std::array<std::byte, 4> bytes;
            CHECK(co_await stream.receive(bytes) == 4);
            CHECK(Executor::here().statistics().open_descriptors == 2);
        });
    }

    TEST_CASE("connecting says so in the phase connect, and works again when a connection is given back") {
        const FewDescriptors few{64};
        const test::SilentAddress peer{256};
        run_clean([&peer]() -> task<> {
            std::vector<net::TcpStream> streams;
            for (int again = 0; again < 3; ++again) {
                for (;;) {
                    auto connected = co_await as_result(net::TcpStream::connect(peer.address()));
                    if (!connected) {
                        CHECK(is_emfile(connected.error()));
                        CHECK(connected.error().where() == phase::connect);
                        const std::string words = "connect: " + peer.address().to_string() + ": too many open files";
                        CHECK_MESSAGE(std::string_view{connected.error().what()} == words,
                                      std::string{connected.error().what()});
                        break;
                    }
                    streams.push_back(std::move(*connected));
                    REQUIRE(streams.size() < 128);
                }
                CHECK(Executor::here().statistics().open_descriptors == streams.size());
                co_await streams.back().close();
                streams.pop_back();
            }
        });
    }

    TEST_CASE("a session says so, and its next request finds a descriptor") {
        const FewDescriptors few{64};
        const test::SilentAddress silent{256};
        test::PeerServer site{[](int fd) {
            char request[512];
            if (::recv(fd, request, sizeof request, 0) <= 0) return;
            test::peer::write_all(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok");
        }};
        test::run_clean([&]() -> task<> {
            std::vector<net::TcpStream> streams;
            for (;;) {
                auto connected = co_await as_result(net::TcpStream::connect(silent.address()));
                if (!connected) break;
                streams.push_back(std::move(*connected));
            }
            http::AsyncSession session{"http://127.0.0.1:" + std::to_string(site.address().port())};
            const auto refused = co_await as_result(session.get());
            REQUIRE_FALSE(refused);
            CHECK(is_emfile(refused.error()));
            CHECK(refused.error().where() == phase::connect);
            co_await streams.back().close();
            streams.pop_back();
            http::Response& response = co_await session.get();
            CHECK(co_await response.text() == "ok");
        });
    }

    TEST_CASE("opening a listener or a UDP socket says so, with the address") {
        const FewDescriptors few{64};
        run_clean([]() -> task<> {
            AllDescriptors all;
            const auto error_of = [](auto open) {
                try {
                    open();
                } catch (const Error& error) {
                    return error;
                }
                return Error{errc::not_found, phase::none, "", "there was none"};
            };
            const net::Address any = net::Address::loopback(0);
            for (const Error& error : {error_of([&] { static_cast<void>(net::TcpListener::bind(any)); }),
                                       error_of([&] { static_cast<void>(net::UdpSocket::bind(any)); })}) {
                CHECK(is_emfile(error));
                CHECK_MESSAGE(says(error, "127.0.0.1:0: too many open files"), std::string{error.what()});
            }
            CHECK(Executor::here().statistics().open_descriptors == 0);
            co_return;
        });
    }

    TEST_CASE("looking up a name says so at once, and works again when descriptors come back") {
        test::DnsServer names;
        names.set("here.test", {.a = {"192.0.2.1"}});
        const FewDescriptors few{64};
        run_beside_peers([&names]() -> task<> {
            net::Resolver& resolver = net::Resolver::of(Executor::here());
            net::ResolverOptions options;
            options.servers = {names.address()};
            resolver.configure(options);
            CHECK_FALSE(co_await as_result(resolver.resolve("nowhere.test", 80)));  // has read the hosts file
            for (int again = 0; again < 3; ++again) {
                AllDescriptors all;
                const auto refused = co_await as_result(resolver.resolve("here.test", 80));
                REQUIRE_FALSE(refused);
                CHECK(refused.error().where() == phase::resolve);
                CHECK_MESSAGE(is_emfile(refused.error()), std::string{refused.error().what()});
                CHECK_MESSAGE(std::string_view{refused.error().what()} == "resolve: here.test: too many open files",
                              std::string{refused.error().what()});
            }
            CHECK(names.questions("here.test") == 0);
            const std::vector<net::Address> found = co_await resolver.resolve("here.test", 80);
            REQUIRE(found.size() == 1);
            CHECK(found.front().to_string() == "192.0.2.1:80");
        });
    }

    TEST_CASE("an answer that needs a second descriptor says so when that is not there") {
        test::DnsServer names;
        names.set("long.test", {.a = {"192.0.2.1"}, .truncated = true});
        const FewDescriptors few{64};
        run_beside_peers([&names]() -> task<> {
            net::Resolver& resolver = net::Resolver::of(Executor::here());
            net::ResolverOptions options;
            options.servers = {names.address()};
            resolver.configure(options);
            {
                AllDescriptors all;
                all.give_back(1);
                const auto refused =
                    co_await as_result(resolver.resolve("long.test", 80, net::family_preference::v4_only));
                REQUIRE_FALSE(refused);
                CHECK_MESSAGE(is_emfile(refused.error()), std::string{refused.error().what()});
            }
            const auto found = co_await as_result(resolver.resolve("long.test", 80, net::family_preference::v4_only));
            CHECK(found.has_value());
        });
        names.wait_until_disconnected();
    }

    TEST_CASE("a hosts file that can not be opened for want of a descriptor is no hosts file without names") {
        const testing::TemporaryDirectory directory;
        net::ResolverOptions options;
        options.hosts_file = directory.file("hosts", "192.0.2.7 known.test\n");
        const FewDescriptors few{64};
        run_clean([&options]() -> task<> {
            net::Resolver& resolver = net::Resolver::of(Executor::here());
            resolver.configure(options);
            {
                AllDescriptors all;
                const auto refused = co_await as_result(resolver.resolve("known.test", 80));
                REQUIRE_FALSE(refused);
                CHECK_MESSAGE(is_emfile(refused.error()), std::string{refused.error().what()});
                CHECK_MESSAGE(says(refused.error(), options.hosts_file), std::string{refused.error().what()});
            }
            const std::vector<net::Address> found = co_await resolver.resolve("known.test", 80);
            REQUIRE(found.size() == 1);
            CHECK(found.front().to_string() == "192.0.2.7:80");
        });
    }

    TEST_CASE("an executor that can not be made says why, and can be made afterwards") {
        const test::leak_check leaks;
        const FewDescriptors few{64};
        AllDescriptors all;
        for (std::size_t left = 0; left < 2; ++left, all.give_back(1)) {
            try {
                Executor executor;
                FAIL("it was made");
            } catch (const Error& error) {
                CHECK_MESSAGE((says(error, "oo many open files") || says(error, "descriptor")),
                              std::string{error.what()});
            }
        }
        all.give_back();
        Executor executor;
        executor.run([]() -> task<> { co_return; }());
    }
}
