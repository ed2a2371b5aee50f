#pragma once

#include <memory>
#include <string>

#include <torc/http/session.hpp>

/// HTTP for ordinary code: no coroutine in sight.
namespace torc::http {

class Session;

/// As `Response`, with calls that block.
class BlockingResponse {
   public:
    [[nodiscard]] int status() const noexcept { return response_->status(); }
    [[nodiscard]] std::string_view reason() const noexcept { return response_->reason(); }
    [[nodiscard]] const Headers& headers() const noexcept { return response_->headers(); }
    [[nodiscard]] const Url& url() const noexcept { return response_->url(); }
    [[nodiscard]] const Headers& trailers() const noexcept { return response_->trailers(); }
    [[nodiscard]] const Timings& timings() const noexcept { return response_->timings(); }
    [[nodiscard]] std::span<const std::byte> read_some();
    [[nodiscard]] std::string text(std::size_t limit_bytes = std::size_t{64} << 20);
    std::uint64_t discard();

   private:
    friend class Session;
    BlockingResponse(Session& session, Response& response) noexcept : session_(&session), response_(&response) {}
    Session* session_;
    Response* response_;
};

/// The twin of AsyncSession for ordinary code: the same calls, blocking, on an executor of its own.
/// Lifetime: the destructor closes the connection and waits for it, for no longer than the executor's close grace.
/// Requires: one thread at a time, always the one that made it; not inside a coroutine of another executor.
/// Errors:   thrown, as from AsyncSession.
class Session {
   public:
    explicit Session(std::string_view url, SessionOptions options = {}, const ExecutorOptions& executor = {});
    ~Session();

    BlockingResponse get(std::string target = {});
    BlockingResponse head(std::string target = {});
    BlockingResponse post(std::string target, std::string body, std::string content_type = "application/octet-stream");
    BlockingResponse request(Request what);
    void close();

    [[nodiscard]] AsyncSession& async() noexcept { return session_; }

   private:
    friend class BlockingResponse;
    Executor executor_;
    AsyncSession session_;
};

}  // namespace torc::http
