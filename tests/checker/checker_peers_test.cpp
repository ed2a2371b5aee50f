#include <doctest/doctest.h>

#include <arpa/inet.h>
#include <fmt/format.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <csignal>
#include <filesystem>
#include <memory>
#include <torc/net/tls_selfsigned.hpp>

#include "process.hpp"
#include "program.hpp"

// The checker against servers that other people wrote, over TLS 1.2 and 1.3: it must say what curl says. Each server
// serves the same directory under a certificate for site.test, by an authority that both clients are told to trust.
// Where a server is not installed its test says so and is left out.

using namespace torc;
using namespace torc::testing;

namespace {

/// What a server needs: pages, a certificate, its key.
class Place {
   public:
    Place() {
        // Servers that give up being root still have to read it.
        std::filesystem::permissions(directory_.path(), std::filesystem::perms{0755});
    }
    [[nodiscard]] const std::string& path() const { return directory_.path(); }
    [[nodiscard]] std::string file(std::string_view name, const std::string& text) const {
        return directory_.file(name, text);
    }

   private:
    TemporaryDirectory directory_;
    net::ThrowawayAuthority authority_;
    net::TlsIdentity identity_ = authority_.issue({.common_name = "site", .names = {"site.test"}});

   public:
    const std::string page = file("page.html", "<!doctype html>\n\n" + std::string(50'000, 'x') + "\n");
    const std::string empty = file("empty.html", "");
    const std::string certificate = file("site.pem", identity_.chain_pem);
    const std::string key = file("site.key", identity_.key_pem);
    const std::string authority = file("ca.pem", authority_.certificate_pem());
};

/// A port of the loopback that nobody uses at this moment.
int free_port() {
    const int probe = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    REQUIRE(::bind(probe, reinterpret_cast<sockaddr*>(&address), size) == 0);
    REQUIRE(::getsockname(probe, reinterpret_cast<sockaddr*>(&address), &size) == 0);
    ::close(probe);
    return ntohs(address.sin_port);
}

/// Asked to end, and not killed, so that its own children end with it.
struct EndPolitely {
    void operator()(Process* process) const {
        process->signal(SIGTERM);
        (void)process->wait();
        delete process;
    }
};

struct Server {
    std::unique_ptr<Process, EndPolitely> process;
    int port = 0;
};

std::unique_ptr<Process, EndPolitely> start(const std::vector<std::string>& arguments) {
    return std::unique_ptr<Process, EndPolitely>{new Process(arguments)};
}

Server start_nginx(const Place& place, const std::string& version) {
    const int port = free_port();
    const std::string configuration =
        place.file("nginx.conf", fmt::format(R"(
daemon off;
{0}
worker_processes 1;
pid {1}/nginx.pid;
error_log stderr notice;
events {{}}
http {{
    access_log off;
    client_body_temp_path {1}/body; proxy_temp_path {1}/proxy; fastcgi_temp_path {1}/fastcgi;
    uwsgi_temp_path {1}/uwsgi; scgi_temp_path {1}/scgi;
    gzip on;
    gzip_min_length 1;
    server {{
        listen 127.0.0.1:{2} ssl;
        root {1};
        ssl_certificate {3};
        ssl_certificate_key {4};
        ssl_protocols TLSv{5};
    }}
}}
)",
                                             ::getuid() == 0 ? "user root;" : "", place.path(), port, place.certificate,
                                             place.key, version));
    Server server{start({"nginx", "-e", "stderr", "-p", place.path(), "-c", configuration}), port};
    server.process->wait_for("start worker process ");
    return server;
}

Server start_apache(const Place& place, const std::string& version) {
    const int port = free_port();
    const std::string configuration =
        place.file("apache.conf", fmt::format(R"(
ServerRoot {0}
ServerName site.test
DefaultRuntimeDir {0}
PidFile {0}/apache.pid
ErrorLog /dev/stderr
LogLevel notice
LoadModule mpm_event_module /usr/lib/apache2/modules/mod_mpm_event.so
LoadModule authz_core_module /usr/lib/apache2/modules/mod_authz_core.so
LoadModule ssl_module /usr/lib/apache2/modules/mod_ssl.so
{1}
Listen 127.0.0.1:{2}
DocumentRoot {0}
SSLEngine on
SSLCertificateFile {3}
SSLCertificateKeyFile {4}
SSLProtocol -all +TLSv{5}
)",
                                              place.path(), ::getuid() == 0 ? "User www-data\nGroup www-data" : "",
                                              port, place.certificate, place.key, version));
    Server server{start({"apache2", "-D", "FOREGROUND", "-f", configuration}), port};
    server.process->wait_for("resuming normal operations");
    return server;
}

Server start_python(const Place& place, const std::string& version) {
    const std::string program = R"(
import functools, http.server, ssl, sys
directory, certificate, key, version = sys.argv[1:]
class Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *about): pass
server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Handler, directory=directory))
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(certificate, key)
context.minimum_version = context.maximum_version = ssl.TLSVersion['TLSv' + version.replace('.', '_')]
server.socket = context.wrap_socket(server.socket, server_side=True)
print('port', server.server_port, flush=True)
server.serve_forever()
)";
    Server server{start({"python3", "-c", program, place.path(), place.certificate, place.key, version})};
    server.port = std::stoi(server.process->wait_for("port "));
    return server;
}

Server start_openssl(const Place& place, const std::string& version) {
    const std::string command = fmt::format(
        "cd {} && exec openssl s_server -accept 127.0.0.1:0 -cert site.pem -key site.key -WWW -{} "
        "-http_server_binmode",
        place.path(), version == "1.2" ? "tls1_2" : "tls1_3");
    Server server{start({"sh", "-c", command})};
    const std::string at = server.process->wait_for("ACCEPT ");
    server.port = std::stoi(at.substr(at.rfind(':') + 1));
    return server;
}

/// "200 1234": the status and the size of the body; curl's exit status if it has none.
std::string curl_says(const Place& place, const Server& server, const std::string& url, const std::string& method) {
    std::vector<std::string> arguments{"curl",      "-sS",
                                       "-m",        "30",
                                       "-o",        place.path() + "/got",
                                       "-w",        "%{http_code} %{size_download}",
                                       "--cacert",  place.authority,
                                       "--resolve", fmt::format("site.test:{}:127.0.0.1", server.port)};
    if (method == "HEAD") arguments.push_back("--head");
    arguments.push_back(url);
    return run_program(std::move(arguments)).out;
}

void compare(Server (*start_it)(const Place&, const std::string&), const char* program, bool knows_head = true) {
    for (const char* needed : {program, "curl", "python3"}) {
        if (!has_program(needed)) {
            MESSAGE("skipped: there is no ", needed);
            return;
        }
    }
    const Place place;
    for (const std::string version : {"1.2", "1.3"}) {
        const Server server = start_it(place, version);
        for (const auto& [method, path] : {std::pair{"GET", "/page.html"},
                                           {"GET", "/empty.html"},
                                           {"HEAD", "/page.html"},
                                           {"GET", "/missing.html"},
                                           {"GET", "/page.html?query#fragment"}}) {
            if (!knows_head && std::string_view{method} == "HEAD") continue;
            const std::string url = fmt::format("https://site.test:{}{}", server.port, path);
            CAPTURE(version);
            CAPTURE(method);
            CAPTURE(url);
            const Ended ended = run_checker({"--json", "--cacert", place.authority, "--method", method, "--resolve",
                                             fmt::format("site.test:{}:127.0.0.1", server.port), url});
            CAPTURE(ended.out);
            const std::string ours = run_program({"python3", "-c", R"(
import json, sys
o = json.load(sys.stdin)
print(o['status'], o['bytes'], o['tls']['version'], o['error'], end=''))"},
                                                 ended.out)
                                         .out;
            CHECK(ours == curl_says(place, server, url, method) + " TLS " + version + " None");
        }
        const std::string wrong_name = fmt::format("https://other.test:{}/page.html", server.port);
        const Ended refused = run_checker({"--cacert", place.authority, "--resolve",
                                           fmt::format("other.test:{}:127.0.0.1", server.port), wrong_name});
        CHECK(refused.status == 1);
        CHECK(refused.err.starts_with(wrong_name + ": error -> tls: "));
    }
}

}  // namespace

TEST_SUITE("checker and other people's servers") {
    TEST_CASE("nginx") { compare(start_nginx, "nginx"); }
    TEST_CASE("Apache") { compare(start_apache, "apache2"); }
    TEST_CASE("Python") { compare(start_python, "python3"); }
    TEST_CASE("openssl s_server") { compare(start_openssl, "openssl", false); }
}
