#include <algorithm>
#include <array>
#include <optional>

#include <torc/runtime/offload.hpp>

#include "tls_meeting.hpp"
#include "tls_programs.hpp"

// TLS streams against OpenSSL's own programs. Without the program each test says so and is left out.

using namespace torc;
using namespace torc::net;
using namespace torc::testing;
using torc::test::run_clean;

namespace {

constexpr std::array both_versions{TlsVersion::tls1_2, TlsVersion::tls1_3};

std::string option_for(TlsVersion version) { return version == TlsVersion::tls1_2 ? "-tls1_2" : "-tls1_3"; }

/// `openssl s_server` on a port of its choice.
struct OpensslServer {
    OpensslServer(const Files& files, TlsVersion version, std::vector<std::string> more)
        : process(arguments(files, version, std::move(more))) {
        const std::string at = process.wait_for("ACCEPT ");
        address = Address::loopback(static_cast<std::uint16_t>(std::stoi(at.substr(at.rfind(':') + 1))));
    }
    static std::vector<std::string> arguments(const Files& files, TlsVersion version, std::vector<std::string> more) {
        std::vector<std::string> all{"openssl",         "s_server", "-accept", "127.0.0.1:0",      "-cert",
                                     files.certificate, "-key",     files.key, option_for(version)};
        all.insert(all.end(), more.begin(), more.end());
        return all;
    }
    Process process;
    Address address;
};

std::vector<std::string> openssl_client(const Files& files, const Address& address, TlsVersion version,
                                        std::vector<std::string> more) {
    std::vector<std::string> all{"openssl",   "s_client", "-connect",    address.to_string(),    "-servername",
                                 "site.test", "-CAfile",  files.root,    "-verify_return_error", "-verify_hostname",
                                 "site.test", "-quiet",   "-no_ign_eof", option_for(version)};
    all.insert(all.end(), more.begin(), more.end());
    return all;
}

}  // namespace

TEST_SUITE("TLS streams and OpenSSL's programs") {
    TEST_CASE("openssl s_server answers what it is sent") {
        if (openssl_is_missing()) return;
        const Files files;
        for (const TlsVersion version : both_versions) {
            CAPTURE(to_string(version));
            OpensslServer server{files, version, {"-rev"}};
            const Meeting meeting;
            for (int round = 0; round < 3; ++round) {
                run_clean([&]() -> task<> {
                    TlsStream stream = co_await meeting.connect(server.address);
                    const TlsPeerInfo info = stream.info();
                    CHECK(info.version == version);
                    CHECK(info.verified);
                    CHECK(info.resumed == (round > 0));
                    std::string line = pattern(8'000) + "\n";
                    co_await stream.send(line);
                    const std::string got = co_await receive_exactly(stream, line.size());
                    line.pop_back();
                    std::ranges::reverse(line);
                    CHECK(got == line + "\n");
                    co_await stream.send("CLOSE\n");
                    const std::string rest = co_await receive_all(stream);
                    CHECK(rest.empty());
                });
            }
        }
    }

    TEST_CASE("openssl s_server serves a page and ends it orderly") {
        if (openssl_is_missing()) return;
        const Files files;
        for (const TlsVersion version : both_versions) {
            OpensslServer server{files, version, {"-www"}};
            const Meeting meeting;
            run_clean([&]() -> task<> {
                TlsStream stream = co_await meeting.connect(server.address);
                co_await stream.send("GET / HTTP/1.0\r\n\r\n");
                const std::string page = co_await receive_all(stream);
                CHECK(page.starts_with("HTTP/1.0 200 ok\r\n"));
                CHECK(page.ends_with("</HTML>\r\n\r\n"));
            });
        }
    }

    TEST_CASE("openssl s_server is shown a client certificate, and refuses who has none") {
        if (openssl_is_missing()) return;
        const Files files;
        for (const TlsVersion version : both_versions) {
            CAPTURE(to_string(version));
            OpensslServer server{
                files, version, {"-rev", "-CAfile", files.root, "-Verify", "2", "-verify_return_error"}};
            TlsClientOptions options = world().client();
            options.identity = files.alice;
            const Meeting known{TlsContext::client(options), TlsContext::client(options), {"site.test"}};
            run_clean([&]() -> task<> {
                TlsStream stream = co_await known.connect(server.address);
                co_await stream.send("olleh\n");
                const std::string got = co_await receive_exactly(stream, 6);
                CHECK(got == "hello\n");
            });
            const Meeting unknown;
            run_clean([&]() -> task<> {
                auto exchange = [&]() -> task<> {
                    TlsStream stream = co_await unknown.connect(server.address);
                    co_await receive_all(stream);
                };
                const Error error = co_await error_of(exchange());
                CHECK(error.code() == tls_errc::client_certificate_required);
                CHECK(error.peer() == server.address.to_string());
            });
        }
    }

    TEST_CASE("openssl s_server's certificate for somebody else is refused, and it hears why") {
        if (openssl_is_missing()) return;
        const Files files;
        for (const TlsVersion version : both_versions) {
            OpensslServer server{files, version, {"-rev"}};
            const Meeting stranger{TlsContext::client(world().client()), TlsContext::client(), {"site.test"}};
            run_clean([&]() -> task<> {
                const Error error = co_await error_of(stranger.connect(server.address));
                CHECK(is_certificate_fault(error.code()));
            });
            server.process.wait_for("alert unknown ca");
        }
    }

    TEST_CASE("openssl s_client is answered, and its end is seen to be orderly") {
        if (openssl_is_missing()) return;
        const Files files;
        for (const TlsVersion version : both_versions) {
            CAPTURE(to_string(version));
            std::optional<Process> client;
            run_clean([&]() -> task<> {
                const Meeting meeting;
                TcpListener listener = TcpListener::bind(Address::loopback(0));
                auto serve = [&]() -> task<> {
                    TlsStream stream = co_await meeting.accept(listener);
                    CHECK(stream.info().version == version);
                    CHECK(stream.info().server_name == "site.test");
                    const std::string got = co_await receive_exactly(stream, 6);
                    CHECK(got == "hello\n");
                    co_await stream.send("good day\n");
                    const std::string rest = co_await receive_all(stream);
                    CHECK(rest.empty());
                };
                auto visit = [&]() -> task<> {
                    co_await offload([&] {
                        client.emplace(openssl_client(files, listener.local(), version, {}));
                        client->write("hello\n");
                        client->wait_for("good day");
                        client->close_input();
                        CHECK(client->wait() == 0);
                        client.reset();
                    });
                };
                co_await gather(serve(), visit());
            });
        }
    }

    TEST_CASE("openssl s_client shows its certificate, and hears of an orderly end") {
        if (openssl_is_missing()) return;
        const Files files;
        for (const TlsVersion version : both_versions) {
            CAPTURE(to_string(version));
            TlsServerOptions options = world().server({"site.test"});
            options.client_certificate = TlsClientCertificate::require;
            options.client_trust.ca_pem = world().root.certificate_pem();
            const Meeting meeting{TlsContext::server(options)};
            run_clean([&]() -> task<> {
                TcpListener listener = TcpListener::bind(Address::loopback(0));
                auto serve = [&]() -> task<> {
                    TlsStream stream = co_await meeting.accept(listener);
                    const TlsPeerInfo info = stream.info();
                    REQUIRE(info.certificate);
                    CHECK(info.certificate->subject == "CN=Alice");
                    co_await stream.send("welcome\n");
                };
                auto visit = [&]() -> task<> {
                    co_await offload([&] {
                        Process client{openssl_client(files, listener.local(), version,
                                                      {"-cert", files.client_certificate, "-key", files.client_key})};
                        client.wait_for("welcome");
                        CHECK(client.wait() == 0);
                        CHECK(client.output().find("unexpected eof") == std::string::npos);
                    });
                };
                co_await gather(serve(), visit());
            });
        }
    }
}
