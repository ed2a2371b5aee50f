#include <doctest/doctest.h>

#include <unistd.h>

#include <csignal>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include <blocking_peer.hpp>
#include <certificates.hpp>
#include <forked.hpp>
#include <leak_check.hpp>
#include <tls_pair.hpp>
#include <torc/http/server.hpp>
#include <torc/http/session.hpp>
#include <torc/net/tls_error.hpp>
#include <torc/net/tls_stream.hpp>
#include <torc/runtime.hpp>

// kill -9 of the other side, in each phase of a conversation. The side that lives on is told what happened, in the
// phase in which it happened, and keeps nothing.

using namespace torc;
using namespace std::chrono_literals;
using net::TcpStream;
using net::TlsStream;
using test::run_clean;

namespace {

/// Whoever is running here dies as by kill -9.
[[noreturn]] void die() {
    ::kill(::getpid(), SIGKILL);
    for (;;) ::pause();
}

template <class Stream>
task<> read_request(Stream& stream) {
    std::string head;
    while (head.find("\r\n\r\n") == std::string::npos) {
        const BufferSlice slice = co_await stream.receive();
        if (slice.empty()) co_return;
        head.append(reinterpret_cast<const char*>(slice.bytes().data()), slice.size());
    }
}

/// A server in a process of its own that takes one connection and dies in the middle.
class DyingServer {
   public:
    using Life = std::function<task<>(TcpStream)>;

    explicit DyingServer(Life life)
        : process_([&life] {
              Executor executor;
              executor.run(live(life));
              return 0;
          }) {
        if (!process_.wait_for("at ") || !process_.wait_for("\n")) throw std::runtime_error("it does not start");
        port_ = std::stoi(process_.output().substr(process_.output().find("at ") + 3));
    }
    [[nodiscard]] std::string url(const char* scheme = "http") const {
        return std::string{scheme} + "://127.0.0.1:" + std::to_string(port_) + "/";
    }
    [[nodiscard]] std::string peer() const { return "127.0.0.1:" + std::to_string(port_); }
    /// Waits until it is gone and nobody listens there: the kernel takes a ring's sockets apart a little after the end
    /// of its process.
    void await_death() {
        CHECK(process_.wait() == -SIGKILL);
        const net::Address address = net::Address::loopback(static_cast<std::uint16_t>(port_));
        for (int fd = test::peer::connect_to(address); fd >= 0; fd = test::peer::connect_to(address)) ::close(fd);
    }

   private:
    static task<> live(Life& life) {
        net::TcpListener listener = net::TcpListener::bind(net::Address::loopback(0));
        std::printf("at %u\n", unsigned{listener.local().port()});
        std::fflush(stdout);
        TcpStream stream = co_await listener.accept();
        task<> living = life(std::move(stream));
        co_await std::move(living);
        die();
    }

    test::Forked process_;
    int port_ = 0;
};

/// Reads a request, says `words`, and dies.
DyingServer::Life dies_after(std::string words) {
    return [words = std::move(words)](TcpStream stream) -> task<> {
        return [](TcpStream connection, std::string answer) -> task<> {
            co_await read_request(connection);
            if (!answer.empty()) co_await connection.send(answer);
            die();
        }(std::move(stream), words);
    };
}

/// The same over TLS.
DyingServer::Life dies_after(net::TlsContext context, std::string words) {
    return [context, words = std::move(words)](TcpStream stream) -> task<> {
        return [](TcpStream plain, net::TlsContext site, std::string answer) -> task<> {
            TlsStream connection = co_await TlsStream::accept(std::move(plain), site);
            co_await read_request(connection);
            if (!answer.empty()) co_await connection.send(answer);
            die();
        }(std::move(stream), context, words);
    };
}

http::SessionOptions trusting(const testing::CertificateWorld& world) {
    http::SessionOptions options;
    options.tls = net::TlsContext::client(world.client());
    return options;
}

/// What a GET of the whole page ends with.
task<Error> error_of_get(std::string url, http::SessionOptions options) {
    http::AsyncSession session{url, std::move(options)};
    try {
        http::Response& response = co_await session.get();
        static_cast<void>(co_await response.text());
    } catch (const Error& error) {
        co_return error;
    }
    co_return Error{errc::not_found, phase::none, "", "there was no error"};
}

void check_error(DyingServer& server, const Error& error, phase where, std::vector<std::error_code> codes) {
    INFO(std::string{error.what()});
    CHECK(error.where() == where);
    CHECK(std::find(codes.begin(), codes.end(), error.code()) != codes.end());
    CHECK(error.peer() == server.peer());
    CHECK_FALSE(error.message().empty());
    server.await_death();
}

const std::error_code reset = std::make_error_code(std::errc::connection_reset);
const std::error_code http_cut = http::make_error_code(http::errc::unexpected_eof);
const std::error_code tls_cut = net::make_error_code(net::tls_errc::truncated);

constexpr const char* half_head = "HTTP/1.1 200 OK\r\nContent-Le";
constexpr const char* half_body = "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhalf of it";
constexpr const char* half_chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5\r\nhe";
constexpr const char* no_length = "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nas much as there is";
constexpr const char* whole = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";

}  // namespace

TEST_SUITE("a server that is killed") {
    TEST_CASE("when it has accepted") {
        DyingServer server{[](TcpStream) -> task<> { die(); }};
        const Error error = run_clean([&] { return error_of_get(server.url(), {}); });
        // With the request unread its kernel resets; if the request comes later, that comes too late to be sent.
        check_error(server, error, error.where() == phase::send ? phase::send : phase::head,
                    {reset, http_cut, std::make_error_code(std::errc::broken_pipe)});
    }

    TEST_CASE("before and within the head, and within the body") {
        struct Case {
            const char* said;
            phase where;
        };
        for (const Case& each : {Case{"", phase::head}, Case{half_head, phase::head}, Case{half_body, phase::body},
                                 Case{half_chunked, phase::body}}) {
            INFO(each.said);
            DyingServer server{dies_after(each.said)};
            const Error error = run_clean([&] { return error_of_get(server.url(), {}); });
            check_error(server, error, each.where, {http_cut});
        }
    }

    TEST_CASE("while it is sent a body") {
        DyingServer server{[](TcpStream stream) -> task<> {
            return [](TcpStream connection) -> task<> {
                co_await read_request(connection);
                die();
            }(std::move(stream));
        }};
        const Error error = run_clean([&]() -> task<Error> {
            http::AsyncSession session{server.url()};
            const auto answer = co_await as_result(session.post("/", std::string(16 << 20, 'x')));
            co_return answer ? Error{errc::not_found, phase::none} : answer.error();
        });
        // The head may be read before the body is sent on, so that the answer that is missing is noticed first.
        check_error(server, error, error.where() == phase::send ? phase::send : phase::head,
                    {reset, std::make_error_code(std::errc::broken_pipe), http_cut});
    }

    TEST_CASE("while the connection is idle: the next request finds nobody") {
        DyingServer server{dies_after(whole)};
        run_clean([&]() -> task<> {
            http::AsyncSession session{server.url()};
            http::Response& response = co_await session.get();
            CHECK(co_await response.text() == "hello");
            server.await_death();
            const auto next = co_await as_result(session.get());
            REQUIRE_FALSE(next);
            CHECK(next.error().where() == phase::connect);
            CHECK(next.error().code() == std::errc::connection_refused);
            CHECK(next.error().peer() == server.peer());
        });
    }

    TEST_CASE("in the TLS handshake: at its beginning and in the middle of an answer") {
        const testing::CertificateWorld world;
        const net::TlsContext site = net::TlsContext::server(world.server({"127.0.0.1"}));
        for (const std::size_t said_bytes : {0, 3, 300}) {
            INFO(said_bytes, " bytes were said");
            DyingServer server{[&](TcpStream stream) -> task<> {
                return [](TcpStream connection, net::TlsContext context, std::size_t bytes) -> task<> {
                    testing::TlsEnd engine{net::tls::Engine{context}};
                    while (engine.output().empty()) {
                        const BufferSlice slice = co_await connection.receive();
                        engine.accept({reinterpret_cast<const char*>(slice.bytes().data()), slice.size()});
                    }
                    const std::string answer = engine.output().substr(0, bytes);
                    if (!answer.empty()) co_await connection.send(answer);
                    die();
                }(std::move(stream), site, said_bytes);
            }};
            const Error error = run_clean([&] { return error_of_get(server.url("https"), trusting(world)); });
            check_error(server, error, phase::tls, {tls_cut, reset});
        }
    }

    TEST_CASE("over TLS: before and within the head, within a body, and at the end that nobody announced") {
        const testing::CertificateWorld world;
        const net::TlsContext site = net::TlsContext::server(world.server({"127.0.0.1"}));
        struct Case {
            const char* said;
            phase where;
        };
        for (const Case& each : {Case{"", phase::head}, Case{half_head, phase::head}, Case{half_body, phase::body},
                                 Case{half_chunked, phase::body}, Case{no_length, phase::body}}) {
            INFO(each.said);
            DyingServer server{dies_after(site, each.said)};
            const Error error = run_clean([&] { return error_of_get(server.url("https"), trusting(world)); });
            check_error(server, error, each.where, {tls_cut});
        }
    }

    TEST_CASE("over TLS while the connection is idle: the next request finds nobody") {
        const testing::CertificateWorld world;
        DyingServer server{dies_after(net::TlsContext::server(world.server({"127.0.0.1"})), whole)};
        run_clean([&]() -> task<> {
            http::AsyncSession session{server.url("https"), trusting(world)};
            http::Response& response = co_await session.get();
            CHECK(co_await response.text() == "hello");
            server.await_death();
            const auto next = co_await as_result(session.get());
            REQUIRE_FALSE(next);
            CHECK_MESSAGE(next.error().where() == phase::connect, std::string{next.error().what()});
            CHECK(next.error().code() == std::errc::connection_refused);
        });
    }
}

namespace {

/// Serves while a client in a process of its own lives and dies; gives the faults that were reported.
std::vector<http::ServerFault> faults_of(const std::function<task<>(TcpStream)>& life,
                                         std::optional<net::TlsContext> tls) {
    std::vector<http::ServerFault> faults;
    int ends[2];
    REQUIRE(::pipe2(ends, O_CLOEXEC) == 0);
    test::Forked client{[&] {
        std::uint16_t port = 0;
        if (::read(ends[0], &port, sizeof port) != sizeof port) return 98;
        Executor executor;
        executor.run([](std::uint16_t to, const std::function<task<>(TcpStream)>& live) -> task<> {
            TcpStream stream = co_await TcpStream::connect(net::Address::loopback(to));
            task<> living = live(std::move(stream));
            co_await std::move(living);
            die();
        }(port, life));
        return 0;
    }};
    run_clean([&]() -> task<> {
        http::ServerOptions options;
        options.tls = tls;
        options.on_error = [&faults](const http::ServerFault& fault) { faults.push_back(fault); };
        http::Server server{net::TcpListener::bind(net::Address::loopback(0)),
                            [](http::ServerRequest& request, http::Responder& response) -> task<> {
                                const std::string body = co_await request.text(64 << 20);
                                if (request.path() == "/long") {
                                    co_await response.send(200, std::string(64 << 20, 'x'));
                                } else {
                                    co_await response.send(200, "hello");
                                }
                            },
                            std::move(options)};
        auto watch = [&]() -> task<> {
            const std::uint16_t port = server.local().port();
            CHECK(::write(ends[1], &port, sizeof port) == sizeof port);
            while (server.statistics().accepted == 0) co_await yield();
            while (server.statistics().connections > 0) co_await yield();
            server.stop();
        };
        co_await with_timeout(20s, gather(server.serve(), watch()));
    });
    ::close(ends[0]);
    ::close(ends[1]);
    const int status = client.wait();
    CHECK_MESSAGE(status == -SIGKILL, client.output());
    return faults;
}

DyingServer::Life says(std::string words, std::size_t answer_bytes = 0) {
    return [words = std::move(words), answer_bytes](TcpStream stream) -> task<> {
        return [](TcpStream connection, std::string text, std::size_t awaited_bytes) -> task<> {
            if (!text.empty()) co_await connection.send(text);
            for (std::size_t got_bytes = 0; got_bytes < awaited_bytes;) {
                const BufferSlice slice = co_await connection.receive();
                if (slice.empty()) break;
                got_bytes += slice.size();
            }
            die();
        }(std::move(stream), words, answer_bytes);
    };
}

using stage = http::ServerFault::stage;

}  // namespace

TEST_SUITE("a client that is killed") {
    TEST_CASE("before it asked, or after it was answered: nothing is wrong with that") {
        CHECK(faults_of(says(""), {}).empty());
        CHECK(faults_of(says("GET / HTTP/1.1\r\nHost: test\r\n\r\n", 40), {}).empty());
    }

    TEST_CASE("within a head or a body, or while it is sent an answer: each is reported once") {
        struct Case {
            const char* said;
            std::size_t answer_bytes;
            stage where;
        };
        for (const Case& each :
             {Case{"GET / HT", 0, stage::request}, Case{"GET / HTTP/1.1\r\nHost:", 0, stage::request},
              Case{"POST / HTTP/1.1\r\nHost: test\r\nContent-Length: 100\r\n\r\na part", 0, stage::request},
              Case{"POST / HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhe", 0, stage::request},
              Case{"GET /long HTTP/1.1\r\nHost: test\r\n\r\n", 100'000, stage::connection}}) {
            INFO(each.said);
            const std::vector<http::ServerFault> faults = faults_of(says(each.said, each.answer_bytes), {});
            REQUIRE(faults.size() == 1);
            INFO(faults.front().message());
            CHECK(faults.front().where == each.where);
            // When the connection is gone the kernel does not tell any more whose it was.
            CHECK((faults.front().peer.empty() || faults.front().peer.starts_with("127.0.0.1:")));
        }
    }

    TEST_CASE("in the TLS handshake, and after it") {
        const testing::CertificateWorld world;
        const net::TlsContext site = net::TlsContext::server(world.server({"127.0.0.1"}));
        const net::TlsContext visitor = net::TlsContext::client(world.client());
        const std::vector<http::ServerFault> in_handshake = faults_of(says("\x16\x03\x01"), site);
        REQUIRE(in_handshake.size() == 1);
        CHECK_MESSAGE(in_handshake.front().where == stage::handshake, in_handshake.front().message());

        const auto over_tls = [&visitor](std::string words) {
            return [&visitor, words = std::move(words)](TcpStream stream) -> task<> {
                return [](TcpStream plain, const net::TlsContext& context, std::string text) -> task<> {
                    net::tls::ClientSide side;
                    side.server_name = "127.0.0.1";
                    TlsStream connection = co_await TlsStream::connect(std::move(plain), context, std::move(side));
                    co_await connection.send(text);
                    die();
                }(std::move(stream), visitor, words);
            };
        };
        const std::vector<http::ServerFault> in_head = faults_of(over_tls("GET / HTTP/1.1\r\nHo"), site);
        REQUIRE(in_head.size() == 1);
        // With tickets unread the client's kernel resets.
        CHECK_MESSAGE((in_head.front().where == stage::request || in_head.front().where == stage::connection),
                      in_head.front().message());
    }
}
