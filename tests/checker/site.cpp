#include "site.hpp"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <torc/http/status.hpp>

namespace torc::testing {
namespace {

int number_behind(std::string_view path, std::string_view prefix) {
    int number = 0;
    path.remove_prefix(prefix.size());
    std::from_chars(path.data(), path.data() + path.size(), number);
    return number;
}

}  // namespace

Site::Site(Plan plan) : plan_(std::move(plan)) {
    thread_ = std::thread{[this] {
        Executor executor;
        executor_ = &executor;
        executor.run(serve());
    }};
    port_ = started_.get_future().get();
}

Site::~Site() {
    executor_->post([this] {
        over_.set();
        all_here_.set();
        server_->stop();
    });
    thread_.join();
}

std::string Site::url(std::string_view path) const { return fmt::format("http://127.0.0.1:{}{}", port_, path); }

task<> Site::serve() {
    http::ServerOptions options;
    options.tls = plan_.tls;
    options.on_error = [](const http::ServerFault&) {};  // clients of these tests go away as they like
    http::Server server{net::TcpListener::bind(net::Address::any(0)),
                        [this](http::ServerRequest& request, http::Responder& response) -> task<> {
                            ++requests_;
                            most_at_once_ = std::max<std::size_t>(most_at_once_, ++at_once_);
                            struct Leaving {
                                std::size_t& at_once;
                                ~Leaving() { --at_once; }
                            } const leaving{at_once_};
                            co_await answer(request, response);
                        },
                        std::move(options)};
    server_ = &server;
    started_.set_value(server.local().port());
    co_await server.serve();
}

task<> Site::wait_for_others() {
    if (++waiting_ % plan_.together == 0) {
        all_here_.set();
        all_here_.reset();
    } else {
        co_await all_here_.wait();
    }
}

task<> Site::answer(http::ServerRequest& request, http::Responder& response) {
    const std::string_view path = request.path();
    int status = 200;
    std::string body = "\n<!doctype html>\n<title>A page</title>\n";
    if (path == "/together") {
        co_await wait_for_others();
    } else if (path == "/never") {
        co_await over_.wait();
    } else if (path == "/body") {
        body = plan_.body;
    } else if (path == "/echo") {
        body = fmt::format("{} ", request.method());
        for (const auto& field : request.headers()) body += fmt::format("{}={}\n", field.name, field.value);
    } else if (path.starts_with("/status/")) {
        status = number_behind(path, "/status/");
        body = http::is_bodiless(status) ? "" : "It is so.";
    } else if (path.starts_with("/redirect/")) {
        const int left = number_behind(path, "/redirect/");
        const std::string next = left > 1 ? fmt::format("/redirect/{}", left - 1) : "/";
        response.headers().set("Location", next);
        status = 302;
        body = "elsewhere";
    }
    co_await response.send(status, std::move(body), "text/html");
}

}  // namespace torc::testing
