#pragma once

#include <doctest/doctest.h>
#include <string>
#include <string_view>
#include <utility>

#include <torc/net/listener.hpp>
#include <torc/runtime.hpp>

#include "leak_check.hpp"
#include "reset.hpp"

/// A server for sessions, on their own executor, that says what it is told to say and sends it as it is told.
namespace torc::testing {

using namespace std::chrono_literals;

/// Answers "/row" with what it is told to, and every other target with its name.
class Site {
   public:
    std::string answer;
    std::string piece;         ///< what follows the answer, again and again
    Clock::duration pause{};   ///< before each of these
    bool one_by_one = false;   ///< each byte by itself
    bool end_after = false;    ///< the connection ends with the answer
    bool reset_after = false;  ///< the connection is reset behind the answer
    bool deaf = false;         ///< nothing is read and nothing answered
    int accepted = 0;
    event sent;  ///< an answer was sent, or what could be of it

    [[nodiscard]] std::string url() const { return "http://" + listener_.local().to_string() + "/row"; }

    task<> serve(scope& connections) {
        while (true) {
            net::TcpStream stream = co_await listener_.accept();
            ++accepted;
            connections.spawn(serve_one(std::move(stream)));
        }
    }

   private:
    task<> serve_one(net::TcpStream stream) {
        if (deaf) co_await sleep_for(1h);
        while (true) {
            task<std::string> reading = read_head(stream);
            const result<std::string> head = co_await as_result(std::move(reading));
            if (!head || head->empty()) co_return;
            const std::string target = head->substr(head->find(' ') + 1);
            const std::string name = target.substr(1, target.find(' ') - 1);
            const std::string own =
                "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(name.size()) + "\r\n\r\n" + name;
            const std::string bytes = name == "row" ? answer : own;
            const std::string more = name == "row" ? piece : "";  // while it is being sent the next row may come
            const std::size_t part_bytes = one_by_one ? 1 : bytes.size();
            bool taken = true;
            for (std::size_t at = 0; taken && at < bytes.size(); at += part_bytes) {
                const std::string_view part = std::string_view{bytes}.substr(at, part_bytes);
                taken = (co_await as_result(stream.send(part))).has_value();
            }
            sent.set();
            while (taken && !more.empty()) {
                if (pause.count() != 0) co_await sleep_for(pause);
                taken = (co_await as_result(stream.send(std::string_view{more}))).has_value();
            }
            if (name == "row" && reset_after) co_await test::make_close_a_reset(stream);
            if (!taken || (name == "row" && (end_after || reset_after))) co_return;
        }
    }
    static task<std::string> read_head(net::TcpStream& stream) {
        std::string head;
        while (!head.ends_with("\r\n\r\n")) {
            const BufferSlice slice = co_await stream.receive();
            if (slice.empty()) co_return std::string{};
            head.append(reinterpret_cast<const char*>(slice.bytes().data()), slice.size());
        }
        co_return head;
    }

    net::TcpListener listener_ = net::TcpListener::bind(net::Address::loopback(0));
};

/// Runs `body(site)` beside a site, and sees that nothing is left of either.
template <class Body>
void with_site(Body body) {
    auto main = [&]() -> task<> {
        Site site;
        auto visit = [&](scope& here) -> task<> {
            here.spawn(site.serve(here));
            co_await body(site);
            here.cancel();
        };
        co_await with_timeout(60s, with_scope(visit));
    };
    test::run_clean(main);
}

}  // namespace torc::testing
