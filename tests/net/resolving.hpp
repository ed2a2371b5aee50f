#pragma once

#include <cstdio>
#include <fstream>
#include <functional>
#include <string>
#include <vector>

#include <unistd.h>

#include <doctest/doctest.h>
#include <torc/net/resolver.hpp>
#include <torc/runtime/as_result.hpp>

#include "dns_server.hpp"
#include "leak_check.hpp"

/// How the tests of the resolver look up names, against a name server on loopback that says what each test tells it to.
namespace torc::test {

using namespace std::chrono_literals;
using net::Address;
using net::family_preference;
using net::Resolver;
using net::ResolverOptions;
using net::StaticEntry;
using Addresses = std::vector<Address>;

inline ResolverOptions asking(const DnsServer& server) {
    ResolverOptions options;
    options.servers = {server.address()};
    options.hosts_file = "/nonexistent/hosts";
    // Long enough for a slow machine: no test waits for it unless it means to.
    options.timeout = 20s;
    return options;
}

/// The resolver of the running executor.
inline Resolver& resolver() { return Resolver::of(Executor::here()); }

inline std::string written(const Addresses& addresses) {
    std::string text;
    for (const Address& address : addresses) text += (text.empty() ? "" : " ") + address.to_string();
    return text;
}

/// The addresses in words, or the error in words.
inline task<std::string> look_up(std::string host, std::uint16_t port = 80,
                                 family_preference family = family_preference::any) {
    try {
        const Addresses found = co_await resolver().resolve(std::move(host), port, family);
        co_return written(found);
    } catch (const Error& error) {
        CHECK(error.where() == phase::resolve);
        co_return std::string{error.what()};
    }
}

inline task<> expect(std::string expected, std::string host, std::uint16_t port = 80,
                     family_preference family = family_preference::any) {
    CAPTURE(host);
    const std::string said = co_await look_up(std::move(host), port, family);
    CHECK(said == expected);
}

/// Runs `body` in a task whose executor asks as `options` say.
inline void with_resolver(const ResolverOptions& options, const std::function<task<>()>& body) {
    run_clean([&]() -> task<> {
        const auto configured = [](const ResolverOptions& given, const std::function<task<>()>& inner) -> task<> {
            resolver().configure(given);
            co_await inner();
        };
        return configured(options, body);
    });
}

inline std::string look_up_once(const ResolverOptions& options, const std::string& host, std::uint16_t port = 80,
                                family_preference family = family_preference::any) {
    std::string said;
    with_resolver(options, [&]() -> task<> { said = co_await look_up(host, port, family); });
    return said;
}

/// A file of the test's own, gone at its end.
struct TemporaryFile {
    std::string path = "torc-resolver-test-" + std::to_string(getpid());
    explicit TemporaryFile(const std::string& text) { write(text); }
    ~TemporaryFile() { std::remove(path.c_str()); }
    void write(const std::string& text) const { std::ofstream{path} << text; }
};

}  // namespace torc::test
