// HTTP in ordinary code, without a coroutine.
//
//   blocking_session URL     asks for it and prints the answer's head
//   blocking_session         asks a site of its own, which runs on a thread beside it

#include <fmt/core.h>

#include <future>
#include <string>
#include <thread>
#include <torc/http.hpp>

using namespace torc;

/// A site with a page and a guest book, on an executor of its own thread.
class Site {
   public:
    Site() : thread_([this] { run_server(); }), port_(ready_.get_future().get()) {}
    ~Site() {
        executor_->post([this] { server_->stop(); });
        thread_.join();
    }
    [[nodiscard]] std::string url() const { return fmt::format("http://127.0.0.1:{}/", port_); }

   private:
    void run_server() {
        Executor executor;
        executor_ = &executor;
        executor.run(serve());
    }
    task<> serve() {
        http::Server server{net::TcpListener::bind(net::Address::loopback(0)),
                            [](http::ServerRequest& request, http::Responder& response) -> task<> {
                                const std::string entry = co_await request.text();
                                std::string text = entry.empty() ? "Hello.\n" : "Thank you for: " + entry + "\n";
                                co_await response.send(200, std::move(text), "text/plain");
                            }};
        server_ = &server;
        ready_.set_value(server.local().port());
        co_await server.serve();
    }

    std::promise<std::uint16_t> ready_;
    Executor* executor_ = nullptr;
    http::Server* server_ = nullptr;
    std::thread thread_;
    std::uint16_t port_;
};

void print(http::BlockingResponse response) {
    fmt::print("{} {}\n", response.status(), response.headers().get_or("Content-Type", "of no type"));
    fmt::print("{}", response.text());
}

int main(int count, char** arguments) {
    try {
        if (count > 1) {
            http::Session session{arguments[1]};
            print(session.get());
            return 0;
        }
        const Site site;
        http::Session session{site.url()};
        print(session.get());
        print(session.post("/guests", "a fine day"));  // on the same connection
    } catch (const Error& error) {
        fmt::print(stderr, "{}\n", error.what());
        return 1;
    }
}
