#include "check.hpp"

#include "text.hpp"

namespace checker {
namespace {

constexpr std::size_t shown_characters = 17;
constexpr std::size_t shown_bytes = 4 * shown_characters;  // UTF-8 takes no more than four for one

}  // namespace

torc::http::SessionOptions session_options(const Options& options) {
    torc::http::SessionOptions session;
    // One limit for a whole check is what --timeout promises; the parts share it as they need it.
    constexpr auto none = torc::Clock::duration::max();
    session.timeouts = {.resolve = none,
                        .connect = none,
                        .tls = none,
                        .send = none,
                        .head = none,
                        .idle = none,
                        .total = options.timeout};
    session.redirects.follow = options.max_redirects > 0;
    session.redirects.max_redirects = options.max_redirects;
    session.headers = options.headers;
    session.user_agent = "torc-check/" TORC_CHECK_VERSION;
    torc::net::TlsClientOptions tls;
    tls.trust.ca_file = options.ca_file;
    tls.trust.ca_pem = options.ca_pem;
    session.tls = torc::net::TlsContext::client(tls);
    return session;
}

torc::task<Outcome> check(Target target, std::string method, torc::http::SessionOptions options) {
    Outcome outcome;
    outcome.name = std::move(target.name);
    outcome.has_body = method != "HEAD";
    if (!target.url) {
        outcome.error = std::move(target.url).error();
        co_return outcome;
    }
    torc::http::AsyncSession session{std::move(*target.url), std::move(options)};
    try {
        torc::http::Request request;
        request.method = std::move(method);
        torc::http::Response& response = co_await session.request(std::move(request));
        outcome.status = response.status();
        outcome.final_url = response.url().href();
        std::string beginning;
        for (;;) {
            const std::span<const std::byte> piece = co_await response.read_some();
            if (piece.empty()) break;
            outcome.bytes += piece.size();
            const std::size_t kept_bytes = std::min(piece.size(), shown_bytes - beginning.size());
            beginning.append(reinterpret_cast<const char*>(piece.data()), kept_bytes);
        }
        outcome.beginning = one_line(beginning, shown_characters);
    } catch (const torc::Error& error) {
        outcome.error = error;
    }
    outcome.timings = session.timings();
    outcome.tls = session.tls();
    if (!session.peer().empty()) outcome.address = session.peer().to_string();
    co_return outcome;
}

}  // namespace checker
