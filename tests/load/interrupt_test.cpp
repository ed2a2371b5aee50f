#include <doctest/doctest.h>

#include <fmt/format.h>
#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <csignal>
#include <functional>
#include <future>
#include <map>
#include <optional>
#include <sstream>
#include <string>
#include <thread>
#include <vector>

#include <certificates.hpp>
#include <process.hpp>
#include <torc/http/server.hpp>
#include <torc/runtime.hpp>

#include "load.hpp"

// Ctrl-C at moments that a seed chooses, against the checker and against an example that is server and client in one.
// Whenever it comes, the program ends by itself with status 130, has printed all that it had finished, in whole lines,
// and lets go of all its connections.
//
// A moment is a count of something that happens wherever that can be: a request or a part of an answer at the site, a
// line of output. What happens inside of the program alone (starting, looking names up, handshakes, the end) is met by
// moments in microseconds. A signal that comes before the program has begun, or after all is done, ends it as it ends
// every program.

using namespace torc;
using load::Chance;
using testing::Process;

namespace {

constexpr int interrupted = 130;

/// Where in the life of a request the site calls back.
enum class moment : std::uint8_t { asked, half_answered, answered };

/// A site on a thread of its own, which says when something happens, and knows who has asked for what.
class WatchedSite {
   public:
    using Watcher = std::function<void(moment, std::size_t)>;

    explicit WatchedSite(std::optional<net::TlsContext> tls) : tls_(std::move(tls)) {
        thread_ = std::thread{[this] {
            Executor executor;
            executor_ = &executor;
            executor.run(serve());
        }};
        port_ = started_.get_future().get();
    }
    WatchedSite(const WatchedSite&) = delete;
    WatchedSite& operator=(const WatchedSite&) = delete;
    ~WatchedSite() {
        executor_->post([this] { server_->stop(); });
        thread_.join();
    }
    [[nodiscard]] std::uint16_t port() const noexcept { return port_; }

    /// From now on `watcher` is called, on the site's thread, and requests are counted anew.
    void watch(Watcher watcher) {
        on_site([this, &watcher] {
            watcher_ = std::move(watcher);
            requests_ = halves_ = answers_ = 0;
        });
    }
    std::size_t requests() {
        std::size_t count = 0;
        on_site([this, &count] { count = requests_; });
        return count;
    }
    /// Waits until no connection is open; false if that does not come about.
    bool empties() {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{20};
        std::size_t connections = 1;
        while (connections > 0 && std::chrono::steady_clock::now() < deadline) {
            on_site([this, &connections] { connections = server_->statistics().connections; });
        }
        return connections == 0;
    }

   private:
    void on_site(std::move_only_function<void()> work) {
        std::promise<void> done;
        executor_->post([&] {
            work();
            done.set_value();
        });
        done.get_future().wait();
    }
    task<> serve() {
        http::ServerOptions options;
        options.tls = tls_;
        options.on_error = [](const http::ServerFault&) {};
        http::Server server{net::TcpListener::bind(net::Address::loopback(0)),
                            [this](http::ServerRequest&, http::Responder& response) { return answer(response); },
                            std::move(options)};
        server_ = &server;
        started_.set_value(server.local().port());
        co_await server.serve();
    }
    task<> answer(http::Responder& response) {
        happened(moment::asked, ++requests_);
        response.begin(200);
        co_await response.write("<!doctype html>\n");
        happened(moment::half_answered, ++halves_);
        co_await response.write("<title>A page</title>\n");
        co_await response.finish();
        happened(moment::answered, ++answers_);
    }
    void happened(moment what, std::size_t count) {
        if (watcher_) watcher_(what, count);
    }

    std::optional<net::TlsContext> tls_;
    Watcher watcher_;
    std::size_t requests_ = 0;
    std::size_t halves_ = 0;
    std::size_t answers_ = 0;
    Executor* executor_ = nullptr;
    http::Server* server_ = nullptr;
    std::promise<std::uint16_t> started_;
    std::thread thread_;
    std::uint16_t port_ = 0;
};

void wait_microseconds(std::size_t microseconds) {
    const timespec wait{.tv_sec = static_cast<time_t>(microseconds / 1'000'000),
                        .tv_nsec = static_cast<long>(microseconds % 1'000'000) * 1000};
    ::ppoll(nullptr, 0, &wait, nullptr);
}

/// How runs ended; printed, so that one can see that the moments were spread.
struct Ends {
    std::size_t interrupted = 0;        ///< exited with 130, in the middle
    std::size_t interrupted_first = 0;  ///< ended before anything was printed
    std::size_t finished = 0;           ///< had printed all

    void count(std::size_t printed, std::size_t all) {
        ++(printed == 0 ? interrupted_first : printed == all ? finished : interrupted);
    }
    void print(const char* what) const {
        std::printf("%s: %zu interrupted in the middle, %zu before the first line, %zu had finished\n", what,
                    interrupted, interrupted_first, finished);
    }
};

/// The checker, interrupted again and again.
class InterruptedChecker {
   public:
    InterruptedChecker(WatchedSite& site, std::string scheme, std::vector<std::string> options, std::size_t urls,
                       Chance& chance)
        : site_(site), chance_(chance), command_{TORC_CHECK_PROGRAM} {
        command_.insert(command_.end(), options.begin(), options.end());
        for (std::size_t index = 0; index < urls; ++index) {
            urls_.push_back(fmt::format("{}://127.0.0.1:{}/{}", scheme, site.port(), index));
        }
        site_.watch({});
        const auto began = std::chrono::steady_clock::now();
        Process whole{command(8)};
        REQUIRE_MESSAGE(whole.wait() == 0, whole.output());
        whole_run_us_ = static_cast<std::size_t>(
            std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - began).count());
        CHECK(finished_in(whole.output()) == urls);
    }

    void interrupt_once() {
        const std::size_t at_once = std::array<std::size_t, 3>{1, 4, 16}[chance_.below(3)];
        const std::size_t kind = chance_.below(5);
        const std::size_t count = chance_.between(1, urls_.size());
        const std::size_t wait_us = chance_.below(whole_run_us_ + whole_run_us_ / 8);
        INFO("kind ", kind, ", count ", count, ", at once ", at_once, ", ", wait_us, " us");
        // A reader that takes nothing until then leaves the program with much that it has still to print.
        const bool slow_reader = kind != 3 && chance_.one_in(2);
        std::atomic<pid_t> pid = -1;
        std::atomic<bool> due = false;  // the moment may come before the number of the process is known
        const auto interrupt = [&pid, &due] {
            due = true;
            due.notify_all();
            if (pid > 0) ::kill(pid, SIGINT);
        };
        site_.watch([&](moment what, std::size_t happened) {
            if (static_cast<std::size_t>(what) == kind && happened == count) interrupt();
        });
        Process checker{command(at_once), slow_reader ? 4096 : 0};
        pid = checker.pid();
        if (due) checker.signal(SIGINT);
        if (slow_reader && kind < 3) due.wait(false);
        if (kind == 3) {
            checker.wait_for_lines(2 * count - chance_.below(2));
            checker.signal(SIGINT);
        } else if (kind == 4) {
            wait_microseconds(wait_us);
            checker.signal(SIGINT);
        }
        const int status = checker.wait();
        CHECK(site_.empties());
        const std::size_t requests = site_.requests();
        site_.watch({});
        const std::size_t finished = finished_in(checker.output());
        const bool all = finished == urls_.size();
        CHECK_MESSAGE((status == interrupted || (all && status == 0)), status, " ", checker.output());
        // A place is taken again only when its check was reported: all but the last few requests were.
        CHECK(finished + at_once >= requests);
        CHECK_MESSAGE((checker.ended_by() == 0 || finished == 0 || all),
                      "it did not end by itself: ", checker.output());
        ends_.count(finished, urls_.size());
    }
    [[nodiscard]] const Ends& ends() const noexcept { return ends_; }

   private:
    [[nodiscard]] std::vector<std::string> command(std::size_t at_once) const {
        std::vector<std::string> words = command_;
        words.insert(words.end(), {"--concurrency", std::to_string(at_once)});
        words.insert(words.end(), urls_.begin(), urls_.end());
        return words;
    }
    /// Checks that the output is whole and says nothing else; gives the number of answers.
    [[nodiscard]] std::size_t finished_in(const std::string& output) const {
        CHECK((output.empty() || output.ends_with('\n')));
        std::map<std::string, int> lines;
        std::istringstream text{output};
        for (std::string line; std::getline(text, line);) ++lines[line];
        std::size_t finished = 0;
        for (const std::string& url : urls_) {
            const int statuses = lines[url + ": status -> 200"];
            CHECK(statuses <= 1);
            CHECK(lines[url + ": type -> <!doctype html> <"] == statuses);
            finished += static_cast<std::size_t>(statuses);
            lines.erase(url + ": status -> 200");
            lines.erase(url + ": type -> <!doctype html> <");
        }
        CHECK_MESSAGE(lines.empty(), "it also said: ", lines.empty() ? "" : lines.begin()->first);
        return finished;
    }

    WatchedSite& site_;
    Chance& chance_;
    std::vector<std::string> command_;
    std::vector<std::string> urls_;
    std::size_t whole_run_us_ = 0;
    Ends ends_;
};

/// A program on a terminal, so that every line it prints has left it.
struct OnTerminal {
    std::string output;
    int status = -1;   ///< of its exit
    int ended_by = 0;  ///< or the signal that ended it
    std::size_t microseconds = 0;

    /// Types Ctrl-C, or sends the signal, after so many microseconds, or with 0 when something was printed; never if
    /// there is no `wait_us`.
    static OnTerminal run(const std::string& program, std::optional<std::size_t> wait_us, bool typed) {
        termios plain{};
        plain.c_lflag = ISIG | NOFLSH;  // what was printed stays printed
        plain.c_cc[VINTR] = 3;
        OnTerminal ended;
        int terminal = -1;
        const auto began = std::chrono::steady_clock::now();
        sigset_t interrupt;
        sigemptyset(&interrupt);
        sigaddset(&interrupt, SIGINT);
        ::sigprocmask(SIG_BLOCK, &interrupt, nullptr);
        const pid_t pid = ::forkpty(&terminal, nullptr, &plain, nullptr);
        // Until it is the program, the child has the handlers of this one.
        if (pid == 0) ::signal(SIGINT, SIG_DFL);
        ::sigprocmask(SIG_UNBLOCK, &interrupt, nullptr);
        if (pid == 0) {
            ::execl(program.c_str(), program.c_str(), nullptr);
            ::_exit(127);
        }
        if (wait_us) {
            if (*wait_us > 0) {
                wait_microseconds(*wait_us);
            } else {
                pollfd printed{terminal, POLLIN, 0};
                ::poll(&printed, 1, -1);
            }
            if (!typed || ::write(terminal, "\3", 1) != 1) ::kill(pid, SIGINT);
        }
        // The kernel may say that the other side is closed when it found no data a moment before, and data and close
        // came in between. Only where it says so twice in a row was everything read.
        std::array<char, 4096> piece;
        for (int closed = 0; closed < 2;) {
            const ssize_t count = ::read(terminal, piece.data(), piece.size());
            closed = count > 0 ? 0 : closed + 1;
            if (count > 0) ended.output.append(piece.data(), static_cast<std::size_t>(count));
        }
        int status = 0;
        ::waitpid(pid, &status, 0);
        ::close(terminal);
        if (WIFEXITED(status)) ended.status = WEXITSTATUS(status);
        if (WIFSIGNALED(status)) ended.ended_by = WTERMSIG(status);
        ended.microseconds = static_cast<std::size_t>(
            std::chrono::duration_cast<std::chrono::microseconds>(std::chrono::steady_clock::now() - began).count());
        return ended;
    }
};

}  // namespace

TEST_SUITE("Ctrl-C at any moment") {
    TEST_CASE("the checker ends with 130 and has printed what it had finished, over HTTP") {
        Chance chance = Chance::announced("Ctrl-C over HTTP");
        WatchedSite site{{}};
        InterruptedChecker checker{site, "http", {}, 120, chance};
        for (int again = load::sized(300, 20); again > 0; --again) checker.interrupt_once();
        checker.ends().print("over HTTP");
        CHECK(checker.ends().interrupted > 0);
    }

    TEST_CASE("and over HTTPS") {
        Chance chance = Chance::announced("Ctrl-C over HTTPS");
        const testing::CertificateWorld world;
        const testing::TemporaryDirectory directory;
        const std::string authority = directory.file("ca.pem", world.root.certificate_pem());
        WatchedSite site{net::TlsContext::server(world.server({"127.0.0.1"}))};
        InterruptedChecker checker{site, "https", {"--cacert", authority}, 40, chance};
        for (int again = load::sized(200, 10); again > 0; --again) checker.interrupt_once();
        checker.ends().print("over HTTPS");
        CHECK(checker.ends().interrupted > 0);
    }

    TEST_CASE("a server and its client in one program end with 130, and what was printed is a beginning of the whole") {
        Chance chance = Chance::announced("Ctrl-C of http_server");
        const std::string program = std::string{TORC_EXAMPLES} + "/example-http_server";
        OnTerminal whole = OnTerminal::run(program, {}, false);
        for (int again = 0; again < 4; ++again) {
            const OnTerminal warm = OnTerminal::run(program, {}, false);
            whole.microseconds = std::min(whole.microseconds, warm.microseconds);
        }
        REQUIRE(whole.status == 0);
        REQUIRE(whole.output.ends_with("\r\n\r\n5 bytes\n"));
        Ends ends;
        for (int again = load::sized(500, 30); again > 0; --again) {
            const bool at_first_line = chance.one_in(3);
            const std::size_t wait_us =
                at_first_line ? 0 : 1 + chance.below(whole.microseconds + whole.microseconds / 8);
            const OnTerminal run = OnTerminal::run(program, wait_us, chance.one_in(2));
            INFO("after ", wait_us, " of ", whole.microseconds, " us: ", run.output);
            CHECK(whole.output.starts_with(run.output));
            const bool all = run.output == whole.output;
            if (run.ended_by != 0) {
                CHECK(run.ended_by == SIGINT);
                CHECK((run.output.empty() || all));
            } else {
                CHECK((run.status == interrupted || (all && run.status == 0)));
            }
            ends.count(run.output.size(), whole.output.size());
        }
        ends.print("http_server");
    }
}
