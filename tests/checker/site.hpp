#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <future>
#include <optional>
#include <string>
#include <string_view>
#include <thread>

#include <torc/http/server.hpp>
#include <torc/runtime/event.hpp>
#include <torc/runtime/executor.hpp>

namespace torc::testing {

/// A web site on a thread of its own, for programs to talk to.
///
///     /            a page                        /status/NNN   that status, with a short body
///     /redirect/N  N redirects, then the page    /echo         method, then the headers, as they came
///     /together    answers once `together` of these requests are waiting, all of them at once
///     /never       does not answer as long as the site lives
///     /body        what `body` says
class Site {
   public:
    struct Plan {
        std::size_t together = 1;
        std::string body;
        std::optional<net::TlsContext> tls;
    };

    Site() : Site(Plan{}) {}
    explicit Site(Plan plan);
    Site(const Site&) = delete;
    Site& operator=(const Site&) = delete;
    ~Site();

    [[nodiscard]] std::uint16_t port() const noexcept { return port_; }
    [[nodiscard]] std::string url(std::string_view path = "/") const;

    [[nodiscard]] std::size_t requests() const noexcept { return requests_; }
    /// The most requests that were waiting for their answer at one time.
    [[nodiscard]] std::size_t most_at_once() const noexcept { return most_at_once_; }

   private:
    task<> serve();
    task<> answer(http::ServerRequest& request, http::Responder& response);
    task<> wait_for_others();

    Plan plan_;
    std::atomic<std::size_t> requests_ = 0;
    std::atomic<std::size_t> most_at_once_ = 0;
    std::size_t at_once_ = 0;
    std::size_t waiting_ = 0;
    event all_here_;
    event over_;
    Executor* executor_ = nullptr;
    http::Server* server_ = nullptr;
    std::promise<std::uint16_t> started_;
    std::thread thread_;
    std::uint16_t port_ = 0;
};

}  // namespace torc::testing
