#include <torc/http/blocking.hpp>

namespace torc::http {

std::span<const std::byte> BlockingResponse::read_some() { return session_->executor_.run(response_->read_some()); }
std::string BlockingResponse::text(std::size_t limit_bytes) {
    return session_->executor_.run(response_->text(limit_bytes));
}
std::uint64_t BlockingResponse::discard() { return session_->executor_.run(response_->discard()); }

Session::Session(std::string_view url, SessionOptions options, const ExecutorOptions& executor)
    : executor_(executor), session_(url, std::move(options)) {}
Session::~Session() = default;

BlockingResponse Session::get(std::string target) { return {*this, executor_.run(session_.get(std::move(target)))}; }
BlockingResponse Session::head(std::string target) { return {*this, executor_.run(session_.head(std::move(target)))}; }
BlockingResponse Session::post(std::string target, std::string body, std::string content_type) {
    return {*this, executor_.run(session_.post(std::move(target), std::move(body), std::move(content_type)))};
}
BlockingResponse Session::request(Request what) { return {*this, executor_.run(session_.request(std::move(what)))}; }

void Session::close() {
    executor_.run([](AsyncSession& session) -> task<> { co_await session.close(); }(session_));
}

}  // namespace torc::http
