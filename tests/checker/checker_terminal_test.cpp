#include <doctest/doctest.h>

#include <poll.h>
#include <pty.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <chrono>
#include <csignal>
#include <stdexcept>
#include <string>

#include "program.hpp"
#include "site.hpp"

// The checker on a terminal, which is a pseudo terminal here: what it shows while it works, and what is left at the
// end.

using namespace torc::testing;

namespace {

/// The checker with a terminal for all three of its streams.
class Terminal {
   public:
    Terminal(const std::string& settings, const std::string& arguments) {
        const std::string command = settings + " exec '" + checker_path() + "' " + arguments;
        pid_ = ::forkpty(&terminal_, nullptr, nullptr, nullptr);
        if (pid_ == 0) {
            ::execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
            ::_exit(127);
        }
        if (pid_ < 0) throw std::runtime_error("no terminal can be made here");
    }
    Terminal(const Terminal&) = delete;
    Terminal& operator=(const Terminal&) = delete;
    ~Terminal() {
        ::close(terminal_);
        if (pid_ > 0) {
            ::kill(pid_, SIGKILL);
            ::waitpid(pid_, nullptr, 0);
        }
    }

    void type(std::string_view text) {
        CHECK(::write(terminal_, text.data(), text.size()) == static_cast<ssize_t>(text.size()));
    }

    /// Reads until `text` was shown; false if the program ended before.
    bool shows(std::string_view text) {
        const auto deadline = std::chrono::steady_clock::now() + std::chrono::seconds{60};
        while (shown_.find(text) == std::string::npos) {
            if (std::chrono::steady_clock::now() > deadline)
                throw std::runtime_error("was not shown in time: " + shown_);
            pollfd wait{terminal_, POLLIN, 0};
            if (::poll(&wait, 1, 1000) <= 0) continue;
            std::array<char, 4096> piece;
            const ssize_t count = ::read(terminal_, piece.data(), piece.size());
            if (count <= 0) return false;
            shown_.append(piece.data(), static_cast<std::size_t>(count));
        }
        return true;
    }
    /// Reads to the end and gives the exit status.
    int end() {
        (void)shows(std::string(1, '\0'));
        int status = 0;
        ::waitpid(std::exchange(pid_, -1), &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    [[nodiscard]] const std::string& shown() const { return shown_; }

    /// What a person sees in the end: each line as it is after the last time it was erased.
    [[nodiscard]] std::string seen() const {
        constexpr std::string_view erase = "\r\x1b[K";
        std::string lines;
        std::string line;
        for (std::size_t at = 0; at < shown_.size();) {
            if (shown_.compare(at, erase.size(), erase) == 0) {
                line.clear();
                at += erase.size();
            } else if (shown_.compare(at, 2, "\r\n") == 0) {
                lines += line + "\n";
                line.clear();
                at += 2;
            } else {
                line += shown_[at++];
            }
        }
        return lines + line;
    }

   private:
    int terminal_ = -1;
    pid_t pid_ = -1;
    std::string shown_;
};

std::string url_list(const Site& site) { return site.url() + " http://127.0.0.1:1/ " + site.url("/together"); }

/// The last site answers once this process asks as well.
Site::Plan waits_for_us() {
    Site::Plan plan;
    plan.together = 2;
    return plan;
}

void let_go(const Site& site) { CHECK(run_checker({site.url("/together")}).status == 0); }

}  // namespace

TEST_SUITE("checker on a terminal") {
    TEST_CASE("progress is shown below the answers and is gone at the end") {
        const Site site{waits_for_us()};
        Terminal terminal("TERM=xterm NO_COLOR=", url_list(site));
        REQUIRE(terminal.shows("2/3 checked, \x1b[31m1 failed\x1b[0m, "));
        let_go(site);
        CHECK(terminal.end() == 1);
        CHECK(terminal.seen().find("checked") == std::string::npos);
        CHECK(terminal.seen().find(site.url() + ": status -> 200\n" + site.url() + ": type -> <!doctype html>\n") !=
              std::string::npos);
        CHECK(sorted_lines(terminal.seen()).size() == 5);
    }

    TEST_CASE("NO_COLOR takes the colour away, not the progress") {
        const Site site{waits_for_us()};
        Terminal terminal("TERM=xterm NO_COLOR=1", url_list(site));
        REQUIRE(terminal.shows("2/3 checked, 1 failed, "));
        let_go(site);
        CHECK(terminal.end() == 1);
        CHECK(terminal.shown().find("\x1b[3") == std::string::npos);
    }

    TEST_CASE("a list that has not ended has no total yet") {
        const Site site;
        Terminal terminal("TERM=xterm", "-");
        terminal.type(site.url() + "\n");
        REQUIRE(terminal.shows("1 checked, 0 failed, "));
        terminal.type("\x04");
        CHECK(terminal.end() == 0);
    }

    TEST_CASE("there is no progress on a dumb terminal, or quietly") {
        const Site site;
        for (const char* settings : {"TERM=dumb", "unset TERM;"}) {
            Terminal terminal(settings, site.url());
            CHECK(terminal.end() == 0);
            CHECK(terminal.shown().find('\x1b') == std::string::npos);
            CHECK(terminal.shown().find("checked") == std::string::npos);
        }
        Terminal quiet("TERM=xterm", "--quiet " + site.url());
        CHECK(quiet.end() == 0);
        CHECK(quiet.shown() == "");
    }

    TEST_CASE("Ctrl-C takes the progress away as well") {
        const Site site;
        Terminal terminal("TERM=xterm", site.url("/never"));
        REQUIRE(terminal.shows("0/1 checked"));
        terminal.type("\x03");
        CHECK(terminal.end() == 130);
        CHECK(terminal.seen().find("checked") == std::string::npos);
    }
}
