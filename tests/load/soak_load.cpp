#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstring>
#include <stdexcept>

#include <blocking_peer.hpp>
#include <steps.hpp>
#include <torc/net/resolver.hpp>
#include <torc/net/tls_error.hpp>

#include "crowd.hpp"
#include "soak.hpp"

// Theory of operation. A visitor's deed leaves nothing behind when it returns: every session, stream and socket is a
// local of it. What it expects to happen it checks; anything else is a fault, which the soak reports and fails for.

namespace torc::load {
namespace {

using namespace std::chrono_literals;

constexpr std::size_t names_known = 50;

std::size_t number_in(std::string_view path) {
    return std::strtoul(std::string{path.substr(path.rfind('/') + 1)}.c_str(), nullptr, 10);
}

task<> answer_at_length(std::size_t size_bytes, http::Responder& response) {
    response.begin(200);
    for (std::size_t piece_bytes = 0; size_bytes > 0; size_bytes -= piece_bytes) {
        piece_bytes = std::min(size_bytes, page(true).size());
        co_await response.write(page(true).substr(0, piece_bytes));
    }
    co_await response.finish();
}

task<> take_upload(http::ServerRequest& request, http::Responder& response) {
    std::size_t size_bytes = 0;
    for (;;) {
        const std::span<const std::byte> piece = co_await request.read_some();
        if (piece.empty()) break;
        size_bytes += piece.size();
    }
    co_await response.send(200, fmt::format("{}", size_bytes));
}

task<> answer(http::ServerRequest& request, http::Responder& response) {
    const std::string_view path = request.path();
    if (path.starts_with("/bytes/")) {
        co_await answer_at_length(number_in(path), response);
    } else if (path == "/upload") {
        co_await take_upload(request, response);
    } else if (path == "/slow") {
        co_await sleep_for(30ms);
        co_await response.send(200, "at last\n");
    } else if (path == "/failure") {
        throw std::runtime_error("as it was asked for");
    } else {
        co_await response.send(200, std::string{page(false)}, "text/plain");
    }
}

http::ServerOptions site_options(std::optional<net::TlsContext> tls) {
    http::ServerOptions options;
    options.tls = std::move(tls);
    options.on_error = [](const http::ServerFault&) {};  // visitors do what they like here
    return options;
}

/// Whether `piece` continues the text of /bytes/ after `before_bytes` of it.
bool continues(std::span<const std::byte> piece, std::size_t before_bytes) {
    const std::string_view whole = page(true);
    while (!piece.empty()) {
        const std::size_t at = before_bytes % whole.size();
        const std::size_t count = std::min(piece.size(), whole.size() - at);
        if (std::memcmp(piece.data(), whole.data() + at, count) != 0) return false;
        piece = piece.subspan(count);
        before_bytes += count;
    }
    return true;
}

}  // namespace

std::uint64_t Deeds::all() const {
    std::uint64_t sum = 0;
    for (const auto& [kind, count] : done) sum += count;
    return sum;
}

SoakSites::SoakSites(const testing::CertificateWorld& world)
    : plain_(net::TcpListener::bind(net::Address::loopback(0)), answer, site_options({})),
      secure_(net::TcpListener::bind(net::Address::loopback(0)), answer,
              site_options(net::TlsContext::server(world.server({"localhost", "*.soak.test"})))),
      echo_(net::UdpSocket::bind(net::Address::loopback(0))) {}

task<> SoakSites::serve() {
    auto echo_until_stopped = race(serve_echo(), stopped_.wait());
    co_await gather(plain_.serve(), secure_.serve(), std::move(echo_until_stopped));
}

task<> SoakSites::serve_echo() {
    std::array<std::byte, 2048> buffer;
    for (;;) {
        const net::Datagram datagram = co_await echo_.receive_from(buffer);
        co_await echo_.send_to(std::span{buffer}.first(datagram.size_bytes), datagram.from);
    }
}

void SoakSites::stop() {
    plain_.stop();
    secure_.stop();
    stopped_.set();
}

std::size_t SoakSites::connections() const {
    return plain_.statistics().connections + secure_.statistics().connections;
}

std::string SoakSites::url(bool secure, std::string_view path) const {
    return fmt::format("{}://localhost:{}{}", secure ? "https" : "http", (secure ? secure_ : plain_).local().port(),
                       path);
}

SoakVisitor::SoakVisitor(const SoakSites& sites, const testing::CertificateWorld& world, Deeds& deeds,
                         std::uint64_t seed)
    : sites_(sites),
      deeds_(deeds),
      chance_(seed),
      trusting_(net::TlsContext::client(world.client())),
      distrusting_(net::TlsContext::client(testing::CertificateWorld{}.client())) {}

http::SessionOptions SoakVisitor::options() const {
    http::SessionOptions options;
    options.tls = trusting_;
    return options;
}

void SoakVisitor::expect(bool good, const char* what) {
    if (!good) throw std::runtime_error(what);
}

task<> SoakVisitor::act() {
    struct Kind {
        const char* name;
        task<> (SoakVisitor::*act)();
        std::size_t weight;
    };
    static constexpr std::array kinds{
        Kind{"pages", &SoakVisitor::look_at_pages, 30},     Kind{"downloads", &SoakVisitor::download, 10},
        Kind{"uploads", &SoakVisitor::upload, 10},          Kind{"time-outs", &SoakVisitor::time_out, 3},
        Kind{"cancels", &SoakVisitor::be_cancelled, 10},    Kind{"early leaves", &SoakVisitor::leave_early, 5},
        Kind{"resets", &SoakVisitor::reset_connection, 10}, Kind{"nonsense", &SoakVisitor::send_nonsense, 5},
        Kind{"distrust", &SoakVisitor::distrust, 2},        Kind{"refusals", &SoakVisitor::be_refused, 3},
        Kind{"failures", &SoakVisitor::meet_a_failure, 3},  Kind{"datagrams", &SoakVisitor::echo_datagrams, 10},
        Kind{"names", &SoakVisitor::look_up_names, 5},      Kind{"teamwork", &SoakVisitor::work_together, 5},
    };
    std::size_t weights = 0;
    for (const Kind& kind : kinds) weights += kind.weight;
    std::size_t drawn = chance_.below(weights);
    const Kind* chosen = kinds.data();
    while (drawn >= chosen->weight) drawn -= (chosen++)->weight;
    try {
        task<> deed = (this->*chosen->act)();
        co_await std::move(deed);
        ++deeds_.done[chosen->name];
    } catch (const std::exception& error) {
        if (deeds_.faults++ == 0) deeds_.first_fault = fmt::format("{}: {}", chosen->name, error.what());
    }
}

task<> SoakVisitor::look_at_pages() {
    http::AsyncSession session{sites_.url(chance_.one_in(4), "/"), options()};
    for (std::size_t requests = chance_.between(1, 5); requests > 0; --requests) {
        http::Response& response = co_await session.get();
        const std::string text = co_await response.text();
        expect(response.status() == 200 && text == page(false), "the page is not as it should be");
        deeds_.bytes += text.size();
    }
}

task<> SoakVisitor::download() {
    const std::size_t size_bytes = chance_.between(1, 512 * 1024);
    http::AsyncSession session{sites_.url(chance_.one_in(2), fmt::format("/bytes/{}", size_bytes)), options()};
    http::Response& response = co_await session;
    std::size_t got_bytes = 0;
    for (;;) {
        const std::span<const std::byte> piece = co_await response.read_some();
        if (piece.empty()) break;
        expect(continues(piece, got_bytes), "the download is not as it should be");
        got_bytes += piece.size();
        if (chance_.one_in(16)) co_await yield();
    }
    expect(got_bytes == size_bytes, "a part of the download is missing");
    deeds_.bytes += got_bytes;
}

task<> SoakVisitor::upload() {
    const std::size_t size_bytes = chance_.between(1, 256 * 1024);
    std::size_t left_bytes = size_bytes;
    http::Request request;
    request.method = "POST";
    request.url = "/upload";
    request.stream.emplace();
    if (chance_.one_in(2)) request.stream->length = size_bytes;
    request.stream->next = [&]() -> task<std::span<const std::byte>> {
        const std::size_t piece_bytes = std::min(left_bytes, chance_.between(1, page(true).size()));
        left_bytes -= piece_bytes;
        if (chance_.one_in(4)) co_await yield();
        co_return std::as_bytes(std::span{page(true)}).first(piece_bytes);
    };
    http::AsyncSession session{sites_.url(chance_.one_in(2), "/"), options()};
    http::Response& response = co_await session.request(std::move(request));
    const std::string said = co_await response.text();
    expect(said == fmt::format("{}", size_bytes), "a part of the upload is missing");
    deeds_.bytes += size_bytes;
}

task<> SoakVisitor::time_out() {
    http::SessionOptions impatient = options();
    impatient.timeouts.total = std::chrono::milliseconds{chance_.between(1, 10)};
    http::AsyncSession session{sites_.url(chance_.one_in(2), "/slow"), std::move(impatient)};
    const auto answer = co_await as_result(session.get());
    expect(!answer && answer.error().code() == errc::timed_out, "a request that takes too long is not timed out");
}

task<> SoakVisitor::be_cancelled() {
    task<> deed = chance_.one_in(2) ? download() : upload();
    task<> end = test::turns(static_cast<int>(chance_.below(40)));
    co_await race(std::move(deed), std::move(end));
}

task<> SoakVisitor::leave_early() {
    http::AsyncSession session{sites_.url(chance_.one_in(2), "/bytes/1000000"), options()};
    http::Response& response = co_await session;
    const std::span<const std::byte> piece = co_await response.read_some();
    expect(!piece.empty(), "a long answer is empty");
}

task<> SoakVisitor::reset_connection() {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    expect(fd >= 0, "there is no descriptor for a socket");
    const net::Address& site = sites_.plain_address();
    ::connect(fd, site.data(), site.size());
    static constexpr std::string_view request = "GET /bytes/300000 HTTP/1.1\r\nHost: soak.test\r\n\r\n";
    const std::size_t said_bytes = chance_.between(0, request.size());
    ::send(fd, request.data(), said_bytes, MSG_NOSIGNAL);
    const std::size_t turns = chance_.below(20);
    co_await test::turns(static_cast<int>(turns));
    const linger abort{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &abort, sizeof abort);
    ::close(fd);
}

task<> SoakVisitor::send_nonsense() {
    static constexpr std::array<std::string_view, 4> nonsense{
        "\x16\x03\x01\x02", "GET / HTTP/9.9\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nno length\r\n"};
    net::TcpStream stream = co_await net::TcpStream::connect(sites_.plain_address());
    co_await stream.send(nonsense[chance_.below(nonsense.size())]);
    co_await stream.shutdown_write();
    std::size_t answer_bytes = 0;
    for (;;) {
        const auto slice = co_await as_result(stream.receive());
        if (!slice || slice->empty()) break;
        answer_bytes += slice->size();
    }
    expect(answer_bytes < 1000, "nonsense is answered at length");
}

task<> SoakVisitor::distrust() {
    http::SessionOptions wary = options();
    wary.tls = distrusting_;
    http::AsyncSession session{sites_.url(true, "/"), std::move(wary)};
    const auto answer = co_await as_result(session.get());
    expect(!answer && answer.error().where() == phase::tls, "a certificate of strangers is trusted");
}

task<> SoakVisitor::be_refused() {
    const auto refused = co_await as_result(net::TcpStream::connect(net::Address::loopback(1)));
    expect(!refused && refused.error().code() == std::errc::connection_refused, "somebody listens on port 1");
}

task<> SoakVisitor::meet_a_failure() {
    http::AsyncSession session{sites_.url(chance_.one_in(2), "/failure"), options()};
    http::Response& response = co_await session;
    expect(response.status() == 500, "a handler that throws does not give a 500");
    co_await response.discard();
}

task<> SoakVisitor::echo_datagrams() {
    net::UdpSocket socket = net::UdpSocket::bind(net::Address::loopback(0));
    std::array<std::byte, 2048> buffer;
    for (std::size_t count = chance_.between(1, 8); count > 0; --count) {
        const std::size_t size_bytes = chance_.between(0, 1400);
        co_await socket.send_to(std::as_bytes(std::span{page(true)}).first(size_bytes), sites_.echo_address());
        // Datagrams may be lost, also on loopback when a queue is full.
        const auto echo = co_await as_result(with_timeout(5s, socket.receive_from(buffer)));
        if (!echo) co_return;
        expect(echo->size_bytes == size_bytes && continues(std::span{buffer}.first(size_bytes), 0),
               "a datagram comes back changed");
    }
}

task<> SoakVisitor::look_up_names() {
    net::Resolver& resolver = net::Resolver::of(Executor::here());
    const std::string known = fmt::format("n{}.soak.test", chance_.below(names_known));
    const std::vector<net::Address> found = co_await resolver.resolve(known, 80);
    expect(found.size() == 1 && found.front() == net::Address::loopback(80), "a name has another address");
    const auto missing = co_await as_result(resolver.resolve("nobody.soak.test", 80));
    expect(!missing && missing.error().code() == errc::not_found, "a name is known that nobody has given");
}

task<> SoakVisitor::work_together() {
    channel<std::size_t> numbers{4};
    const std::size_t most = chance_.between(1, 50);
    auto write = [&]() -> task<> {
        for (std::size_t number = 1; number <= most; ++number) co_await numbers.send(number);
        numbers.close();
    };
    std::size_t sum = 0;
    auto read = [&]() -> task<> {
        while (const auto number = co_await numbers.receive()) sum += *number;
    };
    auto compute = [most]() -> task<std::size_t> {
        co_return co_await offload([most] { return most * (most + 1) / 2; });
    };
    task<> writing = write();
    task<> reading = read();
    task<std::size_t> computing = compute();
    const auto results = co_await gather(std::move(writing), std::move(reading), std::move(computing));
    expect(sum == std::get<2>(results), "a number was lost in a channel");
}

void use_name_server(const test::DnsServer& names) {
    net::ResolverOptions options;
    options.servers = {names.address()};
    options.longest_ttl = options.negative_ttl = std::chrono::seconds{1};
    net::Resolver::of(Executor::here()).configure(std::move(options));
}

}  // namespace torc::load
