// Theory of operation: a check as a user of torc writes it. Sessions live in the scope of one check, the TLS context
// that they share is made once, and gather_limited keeps so many going. Everything else is torc's default: time limits,
// limits of size, redirects, undoing of compression.

#include <ranges>

#include <torc/http/session.hpp>
#include <torc/runtime/gather_limited.hpp>

#include "../common/contestant.hpp"

namespace {

torc::http::SessionOptions session_options(bool secure, int count, char** arguments) {
    torc::http::SessionOptions options;
    options.headers.add("Connection", "close");
    if (!secure) return options;
    torc::net::TlsClientOptions tls;
    if (count > 2) tls.trust.ca_file = arguments[2];
    tls.resumption = count > 3;
    options.tls = torc::net::TlsContext::client(tls);
    return options;
}

torc::task<> check(const torc::http::Url& url, const torc::http::SessionOptions& options, bench::Account& account) {
    const std::uint64_t began_ns = bench::now_ns();
    std::uint64_t body_bytes = 0;
    try {
        torc::http::AsyncSession session{url, options};
        torc::http::Response& response = co_await session;
        for (;;) {
            const std::span<const std::byte> piece = co_await response.read_some();
            if (piece.empty()) break;
            body_bytes += piece.size();
        }
        if (response.status() == 200) {
            account.good(bench::now_ns() - began_ns, body_bytes);
        } else {
            account.bad();
        }
    } catch (const torc::Error&) {
        account.bad();
    }
}

}  // namespace

int main(int count, char** arguments) {
    if (count < 2) bench::die("bench-check-torc URL [CA-FILE [resume]]");
    const torc::result<torc::http::Url> url = torc::http::Url::parse(arguments[1]);
    if (!url) bench::die(url.error().what());
    torc::Executor executor;
    const torc::http::SessionOptions options = session_options(url->secure(), count, arguments);
    static bench::Account account;
    while (const auto order = bench::next_order()) {
        account.begin();
        executor.run(torc::gather_limited(order->at_once, std::views::iota(std::uint64_t{0}, order->count),
                                          [&](std::uint64_t) { return check(*url, options, account); }));
        account.report();
    }
}
