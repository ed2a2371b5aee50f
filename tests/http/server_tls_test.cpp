#include <unistd.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <torc/http/session.hpp>
#include <torc/http/transport.hpp>
#include <torc/net/tls_error.hpp>
#include <torc/net/tls_stream.hpp>
#include <torc/runtime/as_result.hpp>
#include <torc/runtime/offload.hpp>
#include <torc/runtime/time.hpp>

#include "certificates.hpp"
#include "process.hpp"
#include "server_client.hpp"
#include "which_driver.hpp"

// Goal: a server over TLS, for clients of our own and for curl, which also speaks to it without TLS.

using namespace torc;
using namespace torc::testing;
using http::Responder;
using http::ServerFault;
using http::ServerOptions;
using http::ServerRequest;

namespace {

const CertificateWorld& world() {
    static const CertificateWorld made;
    return made;
}

ServerOptions https(const CertificateWorld& by = world(), const std::string& name = "site.test") {
    net::TlsServerOptions tls = by.server({name});
    tls.alpn = {"http/1.1"};
    ServerOptions options;
    options.tls = net::TlsContext::server(tls);
    return options;
}

/// Makes OpenSSL take one authority for the system's trust store.
class SystemTrust {
   public:
    explicit SystemTrust(const std::string& certificate_pem) {
        std::ofstream{path_} << certificate_pem;
        ::setenv(variable, path_.c_str(), 1);
    }
    SystemTrust(const SystemTrust&) = delete;
    SystemTrust& operator=(const SystemTrust&) = delete;
    ~SystemTrust() {
        ::unsetenv(variable);
        std::filesystem::remove(path_);
    }

   private:
    static constexpr const char* variable = "SSL_CERT_FILE";
    std::filesystem::path path_ =
        std::filesystem::temp_directory_path() / ("torc-trust-" + std::to_string(::getpid()) + ".pem");
};

task<net::TlsStream> connect_tls(const http::Server& server) {
    net::TcpStream tcp = co_await net::TcpStream::connect(server.local());
    net::tls::ClientSide side;
    side.server_name = "site.test";
    net::TlsStream stream =
        co_await net::TlsStream::connect(std::move(tcp), net::TlsContext::client(world().client()), std::move(side));
    co_return stream;
}

task<std::string> receive_all(net::TlsStream& stream) {
    std::string all;
    while (true) {
        const BufferSlice slice = co_await stream.receive();
        if (slice.empty()) co_return all;
        all.append(reinterpret_cast<const char*>(slice.bytes().data()), slice.size());
    }
}

task<> say_how(ServerRequest& request, Responder& response) {
    const std::string body = co_await request.text(10'000'000);
    const auto tls = request.tls();
    co_await response.send(200, std::string{request.method()} + (tls ? " over TLS, " : " over TCP, ") +
                                    std::to_string(body.size()) + " bytes\n");
}

task<std::string> run_curl(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), {"curl", "--silent", "--show-error", "--max-time", "20", "--noproxy", "*"});
    std::string output = co_await offload([&arguments] {
        Process process{arguments};
        process.wait();
        return process.output();
    });
    co_return output;
}

// Runs curl with `arguments` and gives what it printed.
template <class... Arguments>
task<std::string> curl(const Arguments&... arguments) {
    return run_curl({std::string{arguments}...});
}

}  // namespace

TEST_SUITE("http server: TLS") {
    TEST_CASE("requests over TLS are answered, and the end is said before the connection closes") {
        with_server(
            say_how,
            [](http::Server& server) -> task<> {
                net::TlsStream stream = co_await connect_tls(server);
                co_await stream.send("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc");
                co_await stream.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
                CHECK(co_await receive_all(stream) ==
                      ok("POST over TLS, 3 bytes\n") +
                          "HTTP/1.1 200 OK\r\nContent-Length: 22\r\nConnection: close\r\n"
                          "\r\nGET over TLS, 0 bytes\n");
            },
            https());
    }

    TEST_CASE("a session without a context of its own trusts whom the system trusts, and nobody else") {
        const auto status_of = [](const http::Server& server) -> task<int> {
            http::AsyncSession session{"https://localhost:" + std::to_string(server.local().port())};
            const http::Response& response = co_await session;
            co_return response.status();
        };
        // OpenSSL reads the system's trust store once in a process, when it is first needed.
        const SystemTrust whom{world().root.certificate_pem()};
        const auto visit_twice = [&](http::Server& server) -> task<> {
            CHECK(co_await status_of(server) == 200);
            CHECK(co_await status_of(server) == 200);
        };
        CHECK(with_server(say_how, visit_twice, https(world(), "localhost")).all.empty());

        const CertificateWorld strange;
        const auto visit = [&](http::Server& server) -> task<> {
            const auto refused = co_await as_result(status_of(server));
            REQUIRE_FALSE(refused);
            CHECK(refused.error().code() == net::tls_errc::untrusted_root);
            CHECK(refused.error().where() == phase::tls);
            while (server.statistics().connections != 0) co_await yield();
        };
        CHECK(with_server(say_how, visit, https(strange, "localhost")).count(ServerFault::stage::handshake) == 1);
    }

    TEST_CASE("a stop closes idle TLS connections in order, and those in the middle of a handshake") {
        with_server(
            say_how,
            [](http::Server& server) -> task<> {
                net::TlsStream idle = co_await connect_tls(server);
                co_await idle.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
                CHECK((co_await idle.receive()).size() == ok("GET over TLS, 0 bytes\n").size());
                net::TcpStream shaking = co_await net::TcpStream::connect(server.local());
                while (server.statistics().idle < 2) co_await yield();
                server.stop();
                CHECK(co_await receive_all(idle) == "");
                CHECK((co_await shaking.receive()).empty());
            },
            https());
    }

    TEST_CASE("a handshake that fails is a fault of its connection alone") {
        const FaultLog faults = with_server(
            say_how,
            [](http::Server& server) -> task<> {
                RawClient plain = co_await RawClient::connect(server);
                co_await plain.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
                CHECK((co_await plain.receive_rest()).find("HTTP") == std::string::npos);
                net::TlsStream stream = co_await connect_tls(server);
                co_await stream.send("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
                CHECK((co_await receive_all(stream)).starts_with("HTTP/1.1 200 OK"));
            },
            https());
        CHECK(faults.count(ServerFault::stage::handshake) == 1);
        CHECK(faults.all.size() == 1);
    }

    TEST_CASE("a handshake that takes too long is given up without a word") {
        ServerOptions options = https();
        options.handshake_timeout = 5ms;
        const FaultLog faults = with_server(
            say_how,
            [](http::Server& server) -> task<> {
                for (int count = 0; count < 2; ++count) {
                    RawClient silent = co_await RawClient::connect(server);
                    CHECK(co_await silent.receive_rest() == "");
                }
            },
            std::move(options));
        CHECK(faults.count(ServerFault::stage::handshake) == 2);
        CHECK(faults.all.size() == 2);
    }

    TEST_CASE("nonsense over TLS gets its answer and an orderly end") {
        const FaultLog faults = with_server(
            say_how,
            [](http::Server& server) -> task<> {
                net::TlsStream stream = co_await connect_tls(server);
                co_await stream.send("GET nonsense HTTP/1.1\r\n\r\n");
                CHECK((co_await receive_all(stream)).starts_with("HTTP/1.1 400 Bad Request\r\n"));
            },
            https());
        CHECK(faults.count(ServerFault::stage::request) == 1);
    }
}

TEST_SUITE("http server: curl" * doctest::skip(!has_program("curl"))) {
    TEST_CASE("curl gets its answers over TCP" * doctest::skip(test::simulated())) {
        with_server(say_how, [](http::Server& server) -> task<> {
            const std::string url = "http://" + server.local().to_string() + "/";
            CHECK(co_await curl(url) == "GET over TCP, 0 bytes\n");
            // Two on one connection, a body that waits for 100 Continue, and one in chunks.
            const std::uint64_t before = server.statistics().accepted;
            CHECK(co_await curl(url, url) == "GET over TCP, 0 bytes\nGET over TCP, 0 bytes\n");
            CHECK(server.statistics().accepted == before + 1);
            const TemporaryDirectory directory;
            const std::string file = directory.file("body", std::string(3'000'000, 'x'));
            CHECK(co_await curl("--data-binary", "@" + file, "-H", "Expect: 100-continue", url) ==
                  "POST over TCP, 3000000 bytes\n");
            CHECK(co_await curl("--upload-file", file, "-H", "Transfer-Encoding: chunked", url) ==
                  "PUT over TCP, 3000000 bytes\n");
            CHECK(co_await curl("--http1.0", url) == "GET over TCP, 0 bytes\n");
            CHECK((co_await curl("--head", url)).find("Content-Length: 23\r\n") != std::string::npos);
        });
    }

    TEST_CASE("curl gets its answers over TLS and sees an orderly end" * doctest::skip(test::simulated())) {
        with_server(
            say_how,
            [](http::Server& server) -> task<> {
                const TemporaryDirectory directory;
                const std::string roots = directory.file("root.pem", world().root.certificate_pem());
                const std::string port = std::to_string(server.local().port());
                const std::string url = "https://site.test:" + port + "/";
                const std::string output = co_await curl(
                    "--cacert", roots, "--resolve", "site.test:" + port + ":127.0.0.1", "-H", "Connection: close", url);
                CHECK(output == "GET over TLS, 0 bytes\n");
            },
            https());
    }
}
