#include <torc/http/session.hpp>

#include "session_state.hpp"

namespace torc::http {
namespace {

Url parsed(std::string_view text) {
    result<Url> url = Url::parse(text);
    if (!url) throw std::move(url).error();
    return std::move(*url);
}

Url&& for_http(Url&& url) {
    if (url.scheme() == "http" || url.scheme() == "https") return std::move(url);
    throw Error{errc::unknown_scheme, phase::none, "",
                "a session speaks http and https, not " + std::string{url.scheme()}};
}

Request request_of(std::string method, std::string target) {
    Request request;
    request.method = std::move(method);
    request.url = std::move(target);
    return request;
}

}  // namespace

AsyncSession::AsyncSession(std::string_view url, SessionOptions options)
    : AsyncSession(parsed(url), std::move(options)) {}
AsyncSession::AsyncSession(Url url, SessionOptions options)
    : state_(std::make_unique<SessionState>(for_http(std::move(url)), std::move(options))) {}
AsyncSession::AsyncSession(AsyncSession&&) noexcept = default;
AsyncSession& AsyncSession::operator=(AsyncSession&&) noexcept = default;
AsyncSession::~AsyncSession() = default;

SessionState& AsyncSession::state() const noexcept {
    TORC_ASSERT(state_, "a session was used after it was moved from");
    return *state_;
}

AsyncSession::opening AsyncSession::operator co_await() & { return opening{get()}; }

task<Response&> AsyncSession::get(std::string target) { return state().perform(request_of("GET", std::move(target))); }
task<Response&> AsyncSession::head(std::string target) {
    return state().perform(request_of("HEAD", std::move(target)));
}

task<Response&> AsyncSession::post(std::string target, std::string body, std::string content_type) {
    Request posted = request_of("POST", std::move(target));
    posted.body = std::move(body);
    posted.headers.add("Content-Type", content_type);
    return request(std::move(posted));
}

task<Response&> AsyncSession::request(Request what) { return state().perform(std::move(what)); }

task<> AsyncSession::close() { return state().close(); }
const Url& AsyncSession::url() const noexcept { return state().url; }
const SessionOptions& AsyncSession::options() const noexcept { return state().options; }
const Timings& AsyncSession::timings() const noexcept { return state().timings; }
const std::optional<net::TlsPeerInfo>& AsyncSession::tls() const noexcept { return state().tls; }
const net::Address& AsyncSession::peer() const noexcept { return state().peer; }
bool AsyncSession::connected() const noexcept { return state().connected(); }

}  // namespace torc::http
