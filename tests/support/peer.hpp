#pragma once

#include <atomic>
#include <functional>
#include <future>
#include <string>
#include <thread>
#include <type_traits>
#include <vector>

#include <torc/net/listener.hpp>
#include <torc/net/tls_stream.hpp>
#include <torc/runtime.hpp>

#include "leak_check.hpp"
#include "which_driver.hpp"

/// The other side of a conversation, on a thread and an executor of its own, so that what the test cancels on its
/// executor does not touch it. In the simulation, where an executor is a world, it is a task beside the test's instead:
/// it serves while `run_beside_peers` runs.
namespace torc::test {

class Peer {
   public:
    using Handler = std::function<task<>(net::TcpStream)>;

    /// Serves every connection with `handler`, whose errors end that connection alone.
    explicit Peer(Handler handler) : handler_(std::move(handler)) {
        if (simulated()) {
            static std::uint16_t next_port = 20'000;
            address_ = net::Address::loopback(next_port++);
            standing().push_back(this);
            return;
        }
        std::promise<net::Address> ready;
        std::future<net::Address> address = ready.get_future();
        thread_ = std::thread([this, &ready] { run(ready); });
        address_ = address.get();
    }
    Peer(const Peer&) = delete;
    Peer& operator=(const Peer&) = delete;
    ~Peer() {
        if (simulated()) {
            std::erase(standing(), this);
            return;
        }
        executor_->post([this] { executor_->cancel_root(); });
        thread_.join();
    }

    [[nodiscard]] const net::Address& address() const noexcept { return address_; }
    [[nodiscard]] std::string url(std::string_view scheme = "http", std::string_view path = "/") const {
        return std::string{scheme} + "://127.0.0.1:" + std::to_string(address_.port()) + std::string{path};
    }
    /// Connections accepted so far.
    [[nodiscard]] int accepted() const noexcept { return accepted_; }
    /// Blocks until no connection is being served. In the simulation nothing can be waited for like that.
    void wait_idle() const noexcept {
        if (simulated()) return;
        for (int now = active_; now != 0; now = active_) active_.wait(now);
    }

    /// Runs `work` beside the peers that there are, in the simulation.
    template <class T>
    static task<T> beside_standing(task<T> work) {
        auto peers = []() -> task<> { co_await with_scope(serve_standing); };
        auto ended = co_await race(peers(), std::move(work));
        if constexpr (!std::is_void_v<T>) co_return std::get<1>(std::move(ended));
    }

   private:
    static std::vector<Peer*>& standing() {
        static std::vector<Peer*> all;
        return all;
    }
    static task<> serve_standing(scope& here) {
        for (Peer* const each : standing()) here.spawn(each->serve([](const net::Address&) {}));
        event never;
        co_await never.wait();
    }

    void run(std::promise<net::Address>& ready) {
        Executor executor;
        executor_ = &executor;
        try {
            executor.run(serve([&ready](const net::Address& bound) { ready.set_value(bound); }));
        } catch (const cancelled&) {
        }
    }
    task<> serve(std::function<void(const net::Address&)> ready) {
        const net::Address wanted = address_.empty() ? net::Address::loopback(0) : address_;
        net::TcpListener listener = net::TcpListener::bind(wanted);
        ready(listener.local());
        co_await with_scope([&](scope& connections) { return accept_all(listener, connections); });
    }
    task<> accept_all(net::TcpListener& listener, scope& connections) {
        for (;;) {
            net::TcpStream stream = co_await listener.accept();
            ++accepted_;
            ++active_;
            connections.spawn(serve_one(std::move(stream)));
        }
    }
    task<> serve_one(net::TcpStream stream) {
        struct Count {
            std::atomic<int>& active;
            ~Count() {
                --active;
                active.notify_all();
            }
        } const count{active_};
        task<> one = handler_(std::move(stream));
        static_cast<void>(co_await as_result(std::move(one)));
    }

    Handler handler_;
    Executor* executor_ = nullptr;
    net::Address address_;
    std::atomic<int> accepted_ = 0;
    std::atomic<int> active_ = 0;
    std::thread thread_;
};

/// Runs what `make` makes on an executor of its own and checks that it left nothing behind there. The process's
/// descriptors are not counted, because peers on other threads open and close theirs meanwhile.
template <class Make>
auto run_beside_peers(Make make, const ExecutorOptions& options = {}) {
    struct CheckAtEnd {
        std::ptrdiff_t frames = torc::detail::live_frames();
        std::optional<Executor> executor;
        ~CheckAtEnd() {
            leak_check::check(executor->statistics());
            executor.reset();
            CHECK_MESSAGE(torc::detail::live_frames() == frames, "coroutine frames are back to what they were");
        }
    } checked;
    checked.executor.emplace(options);
    if (simulated()) return checked.executor->run(Peer::beside_standing(make()));
    return checked.executor->run(make());
}

/// Receives until the blank line that ends a head; gives the head, or what came before the end of the stream.
inline task<std::string> read_head(net::TcpStream& stream) {
    std::string head;
    while (!head.ends_with("\r\n\r\n")) {
        char byte = 0;
        if (co_await stream.receive(std::as_writable_bytes(std::span{&byte, 1})) == 0) break;
        head += byte;
    }
    co_return head;
}

/// Answers each request head of a connection with the next of `answers`, then closes.
inline Peer::Handler answering(std::vector<std::string> answers) {
    return [answers = std::move(answers)](net::TcpStream stream) -> task<> {
        return [](net::TcpStream connection, std::vector<std::string> lines) -> task<> {
            for (const std::string& answer : lines) {
                const std::string head = co_await read_head(connection);
                if (head.empty()) co_return;
                co_await connection.send(answer);
            }
        }(std::move(stream), answers);
    };
}

}  // namespace torc::test
