#include <ares.h>
#include <doctest/doctest.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <new>
#include <span>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>

#include <certificates.hpp>
#include <dns_server.hpp>
#include <forked.hpp>
#include <leak_check.hpp>
#include <steps.hpp>
#include <torc/http/coding.hpp>
#include <torc/http/parser.hpp>
#include <torc/http/server.hpp>
#include <torc/net/resolver.hpp>
#include <torc/net/udp.hpp>
#include <torc/runtime.hpp>

#include "failing_memory.hpp"
#include "load.hpp"
#include "site_and_visitor.hpp"

// Every allocation of a program fails once: the first, the second, and so on, each in a run of its own (of very many
// only every n-th); and then in other runs twenty in a row. A run has to end as if nothing had happened, or with
// std::bad_alloc or an Error; it may not crash, hang, or leave anything behind.
//
// Each run has a thread of its own, because a thread that has run before has memory to spare; all runs of a program
// share a child process, which says where it was when it died.

using namespace torc;
using namespace std::chrono_literals;
using load::fail_allocations;
using load::stop_failing;
using load::visit_site;

namespace {

/// What one run of a program does, on the executor it is given.
using Program = std::function<task<>()>;

struct Outcome {
    std::size_t allocations = 0;
    std::string ended;  // a word; or what was left behind
};

std::string left_behind(const Statistics& left) {
    std::string words;
    const auto add = [&words](std::size_t count, const char* what) {
        if (count != 0) words += " " + std::to_string(count) + " " + what;
    };
    add(left.in_flight, "operations");
    add(left.open_descriptors, "descriptors");
    add(left.open_closes, "closes");
    add(left.timers, "timers");
    add(left.buffers_lent, "buffers");
    add(static_cast<std::size_t>(left.frames), "frames");
    return words;
}

/// Runs it on this thread, with `count` allocations failing from the `first`-th on.
Outcome run_failing(const Program& program, std::size_t first, std::size_t count) {
    Outcome outcome;
    std::string left;
    std::string ended = "good";
    ended.reserve(4096);
    try {
        Executor executor;
        fail_allocations(first, count);
        try {
            executor.run(program());
        } catch (const std::bad_alloc&) {
            outcome.allocations = stop_failing();
            ended = "bad_alloc";
        } catch (const Error& error) {
            outcome.allocations = stop_failing();
            ended = error.what();
        } catch (const cancelled&) {
            outcome.allocations = stop_failing();
            ended = "LEFT cancelled";
        }
        if (ended == "good") outcome.allocations = stop_failing();
        left = left_behind(executor.statistics());
    } catch (const std::exception& error) {
        stop_failing();
        ended = std::string("LEFT exception ") + error.what();
    }
    outcome.ended = left.empty() ? ended : "LEFT" + left + " after " + ended;
    return outcome;
}

Outcome on_new_thread(const Program& program, std::size_t first, std::size_t count) {
    Outcome outcome;
    std::thread{[&] {
        run_failing([] { return test::turns(1); }, 0, 0);  // what a thread makes once
        outcome = run_failing(program, first, count);
    }}.join();
    return outcome;
}

/// Runs the program from where `done` of the failures were tried already. Says of each what came of it.
int sweep_rest(const Program& program, std::size_t done) {
    on_new_thread(program, 0, 0);  // what a process makes once
    const Outcome undisturbed = on_new_thread(program, 0, 0);
    if (undisturbed.ended != "good") {
        std::printf("undisturbed: %s\n", undisturbed.ended.c_str());
        return 3;
    }
    const std::size_t stride = undisturbed.allocations / load::sized<std::size_t>(1000, 100) + 1;
    std::size_t errors = 0;
    bool left = false;
    for (const std::size_t count : {std::size_t{1}, std::size_t{20}}) {
        for (std::size_t first = 1; first <= undisturbed.allocations; first += stride) {
            if (done > 0) {
                --done;
                continue;
            }
            std::printf("\n> %zu of %zu, %zu times: ", first, undisturbed.allocations, count);
            std::fflush(stdout);
            const Outcome outcome = on_new_thread(program, first, count);
            std::printf("%s", outcome.ended.c_str());
            left = left || outcome.ended.starts_with("LEFT");
            if (outcome.ended != "good") ++errors;
        }
    }
    std::printf("\n%zu errors\n", errors);
    return left ? 1 : 0;
}

/// The program with each of its allocations failing. It goes on behind a failure that ended the process.
void sweep(const Program& program) {
    std::size_t tried = 0;
    std::string faults;
    int status = -1;
    while (status < 0) {
        test::Forked child{[&program, tried] { return sweep_rest(program, tried); }, 60};
        status = child.wait();
        std::size_t tried_now = 0;
        std::istringstream lines{child.output()};
        std::string last;
        for (std::string line; std::getline(lines, line);) {
            if (line.starts_with("> ")) ++tried_now;
            if (line.find("LEFT") != std::string::npos || line.starts_with("undisturbed")) faults += line + "\n";
            if (!line.empty()) last = line;
        }
        if (status < 0) faults += "died of signal " + std::to_string(-status) + ": " + last + "\n";
        if (tried_now == 0) break;
        tried += tried_now;
    }
    CHECK_MESSAGE(faults.empty(), faults);
    CHECK(tried > 0);
}

task<> echo_over_tcp_and_udp() {
    net::TcpListener listener = net::TcpListener::bind(net::Address::loopback(0));
    net::UdpSocket here = net::UdpSocket::bind(net::Address::loopback(0));
    net::UdpSocket there = net::UdpSocket::bind(net::Address::loopback(0));
    const std::string text(40'000, 'y');
    auto serve = [&]() -> task<> {
        net::TcpStream stream = co_await listener.accept();
        for (std::size_t left_bytes = text.size(); left_bytes > 0;) {
            const BufferSlice slice = co_await stream.receive();
            if (slice.empty()) co_return;
            left_bytes -= slice.size();
        }
        co_await stream.send(text);
    };
    auto ask = [&]() -> task<> {
        net::TcpStream stream = co_await net::TcpStream::connect("localhost", listener.local().port());
        co_await stream.send(text);
        std::array<std::byte, 1000> piece;
        while (co_await stream.receive(piece) > 0) {
        }
    };
    auto datagrams = [&]() -> task<> {
        std::array<std::byte, 100> buffer;
        co_await here.send_to(std::as_bytes(std::span{text}).first(100), there.local());
        const net::Datagram datagram = co_await there.receive_from(buffer);
        co_await there.send_to(buffer, datagram.from);
        co_await here.receive_from(buffer);
    };
    co_await with_timeout(20s, gather(serve(), ask(), datagrams()));
}

task<> look_up(std::vector<net::Address> servers) {
    net::Resolver& resolver = net::Resolver::of(Executor::here());
    net::ResolverOptions options;
    options.servers = std::move(servers);
    // An answer that c-ares has no memory for is one that did not come.
    options.timeout = 10ms;
    options.tries = 1;
    resolver.configure(std::move(options));
    auto first = resolver.resolve("one.test", 80);
    auto again = resolver.resolve("one.test", 81);
    auto other = resolver.resolve("two.test", 80);
    co_await gather(std::move(first), std::move(again), std::move(other));
    const std::vector<net::Address> cached = co_await resolver.resolve("two.test", 443);
    if (cached.empty()) throw std::runtime_error("no address");
    static_cast<void>(co_await as_result(resolver.resolve("nowhere.test", 80)));
}

task<> combine() {
    channel<std::string> letters{2};
    mutex alone;
    semaphore places{2};
    auto write = [&]() -> task<> {
        for (int count = 0; count < 10; ++count) co_await letters.send(std::string(100, 'a'));
        letters.close();
    };
    auto read = [&]() -> task<> {
        while (const auto letter = co_await letters.receive()) {
            const mutex::guard guard = co_await alone.lock();
            co_await yield();
        }
    };
    auto wait = [&](int turns) -> task<int> {
        const semaphore::permit place = co_await places.acquire();
        co_await test::turns(turns);
        co_return turns;
    };
    std::vector<int> numbers{1, 2, 3, 4, 5};
    co_await gather(write(), read(), gather_limited(2, numbers, wait));
    co_await race(test::forever(), test::turns(3));
    co_await offload([] { return std::string(100, 'b'); });
    static_cast<void>(co_await as_result(with_timeout(0ms, test::forever())));
    co_await with_scope([](scope& here) -> task<> {
        for (int count = 0; count < 4; ++count) here.spawn(test::fail_after(2, "all at once"));
        co_return;
    });
}

/// A handler to which a write that failed is no reason to stop, and a client of it that asks twice. What the client
/// takes for a whole answer has to be what was written.
class StubbornSite {
   public:
    explicit StubbornSite(bool chunked) : chunked_(chunked) { taken_.reserve(2 * whole_bytes); }

    task<> answer(http::Responder& response) {
        started_bytes_ = 0;
        if (chunked_) {
            response.begin(200);
        } else {
            response.begin(200, whole_bytes);
        }
        for (const std::size_t size : sizes) {
            // What a piece is made of tells where in the answer it stands.
            const std::span<const std::byte> piece = std::as_bytes(std::span{content()}).subspan(started_bytes_, size);
            started_bytes_ += size;
            try {
                co_await response.write(piece);
            } catch (const std::bad_alloc&) {
                started_bytes_ -= size;
            } catch (const Error&) {
                started_bytes_ -= size;
            }
        }
    }

    task<> visit(net::Address address) {
        net::TcpStream stream = co_await net::TcpStream::connect(address);
        for (int round = 0; round < 2; ++round) {
            co_await stream.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
            const bool whole = co_await receive_answer(stream);
            if (!whole) co_return;
        }
    }

   private:
    static constexpr std::array<std::size_t, 4> sizes{10, 40'000, 10, 50'000};
    static constexpr std::size_t whole_bytes = 90'020;

    static const std::string& content() {
        static const std::string made = [] {
            std::string text;
            for (std::size_t at = 0; at < whole_bytes; ++at) text += static_cast<char>('a' + at / 7 % 26);
            return text;
        }();
        return made;
    }

    /// False when the connection ended before the answer did.
    task<bool> receive_answer(net::TcpStream& stream) {
        http::Parser parser{http::Parser::role::response};
        taken_.clear();
        while (!parser.done()) {
            BufferSlice slice = co_await stream.receive();
            if (slice.empty()) co_return false;
            while (!slice.empty() && !parser.done()) {
                auto step = parser.feed(slice.bytes());
                if (!step) throw std::runtime_error("the client took the answer for a malformed one");
                taken_.append(reinterpret_cast<const char*>(step->body.data()), step->body.size());
                slice.consume(step->consumed_bytes);
            }
            if (!slice.empty()) throw std::runtime_error("the answer was longer than it said");
        }
        if (parser.response().status != 200) co_return true;
        if (taken_ != std::string_view{content()}.substr(0, started_bytes_)) {
            throw std::runtime_error("the client took another answer than the one that was written");
        }
        co_return true;
    }

    bool chunked_;
    std::size_t started_bytes_ = 0;
    std::string taken_;
};

task<> visit_stubborn_site(bool chunked) {
    StubbornSite site{chunked};
    http::ServerOptions serving;
    serving.on_error = [](const http::ServerFault&) {};
    http::Server server{net::TcpListener::bind(net::Address::loopback(0)),
                        [&](http::ServerRequest&, http::Responder& response) { return site.answer(response); },
                        std::move(serving)};
    auto visit = [&]() -> task<> {
        const load::StopAtEnd stop{server};
        co_await site.visit(server.local());
    };
    co_await with_timeout(20s, gather(server.serve(), visit()));
}

/// Undoes each coding; what there was no memory for is no fault of the body.
task<> decode_each() {
    static const std::string text(30'000, 'x');
    const std::string gzipped = http::gzip_encode(text);
    const auto expect = [](std::string_view coding, std::string_view coded, std::string_view plain) {
        const result<std::string> decoded = http::decode_all(coding, coded);
        if (!decoded) throw std::runtime_error(std::string{coding} + ": " + decoded.error().what());
        if (*decoded != plain) throw std::runtime_error(std::string{coding} + " gave something else");
    };
    expect("gzip", gzipped, text);
    expect("deflate", std::string_view{"\x78\x01\x01\x05\x00\xfa\xffhello\x06\x2c\x02\x15", 16}, "hello");
    expect("br", std::string_view{"\x40\x00\x10hello\x03", 9}, "hello");
    expect("zstd", std::string_view{"\x28\xb5\x2f\xfd\x20\x05\x29\x00\x00hello", 14}, "hello");
    co_return;
}

/// c-ares from 1.34.5 on loses a query when it has no memory to note that it is to be sent again or has ended: the
/// query hangs, or is timed out with its connection already freed (process_answer, process_timeouts). There it is given
/// memory that does not run out.
void spare_c_ares() {
    int version = 0;
    ares_version(&version);
    if (version < 0x012205) return;
    REQUIRE(ares_library_init_mem(ARES_LIB_INIT_ALL, load::sure_malloc, std::free, load::sure_realloc) == ARES_SUCCESS);
}

}  // namespace

TEST_SUITE("any allocation fails") {
    TEST_CASE("of HTTP over TCP, with a site and its visitor") {
        sweep([] { return visit_site({}, {}); });
    }

    TEST_CASE("of a server whose handler goes on all the same") {
        for (const bool chunked : {true, false}) {
            CAPTURE(chunked);
            sweep([=] { return visit_stubborn_site(chunked); });
        }
    }

    TEST_CASE("of undoing the coding of a body") { sweep(decode_each); }

    TEST_CASE("of HTTP over TLS") {
        const testing::CertificateWorld world;
        const net::TlsContext site = net::TlsContext::server(world.server({"localhost"}));
        http::SessionOptions options;
        options.tls = net::TlsContext::client(world.client());
        sweep([&] { return visit_site(site, options); });
    }

    TEST_CASE("of TCP and UDP") { sweep(echo_over_tcp_and_udp); }

    TEST_CASE("of looking up names") {
        test::DnsServer names;
        names.set("one.test", {.a = {"192.0.2.1"}, .aaaa = {"2001:db8::1"}});
        names.set("two.test", {.a = {"192.0.2.2"}, .truncated = true});
        spare_c_ares();
        sweep([&] { return look_up({names.address()}); });
    }

    TEST_CASE("of what tasks are combined with") {
        sweep([]() -> task<> {
            const auto failed = co_await as_result(combine());
            if (!failed && failed.error().message() != "all at once") throw Error{failed.error()};
        });
    }
}
