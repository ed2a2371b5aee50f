#include <doctest/doctest.h>

#include <fcntl.h>
#include <poll.h>
#include <unistd.h>

#include <cstddef>
#include <semaphore>
#include <thread>

#include <leak_check.hpp>
#include <steps.hpp>

#include <torc/runtime/event.hpp>
#include <torc/runtime/io.hpp>
#include <torc/runtime/scope.hpp>

// More operations at once than the completion queue has entries (8192), as a server with many idle connections has
// them. Each waits for the same pipe.

namespace {

using torc::scope;
using torc::task;
using namespace torc::test;

constexpr std::size_t many = 20'000;
constexpr int wakes = 200;  // each finds the executor asleep in its driver or on the way there

class Pipe {
   public:
    Pipe() { REQUIRE(::pipe2(ends_, O_CLOEXEC | O_NONBLOCK) == 0); }
    Pipe(const Pipe&) = delete;
    Pipe& operator=(const Pipe&) = delete;
    ~Pipe() {
        ::close(ends_[0]);
        ::close(ends_[1]);
    }
    void fill() { CHECK(::write(ends_[1], "!", 1) == 1); }

    class [[nodiscard]] readable final : public torc::detail::io_awaitable<readable> {
       public:
        explicit readable(int fd) noexcept : io_awaitable(torc::op_kind::poll, nullptr), watched_{fd, false} {
            file = &watched_;
            flags = POLLIN;
        }
        torc::result<int> take() const { return outcome(); }

       private:
        torc::descriptor watched_;
    };
    readable wait() const noexcept { return readable{ends_[0]}; }

   private:
    int ends_[2] = {-1, -1};
};

task<> wait_for(const Pipe& pipe, std::size_t& ended) {
    const int events = co_await pipe.wait();
    CHECK((events & POLLIN) != 0);
    ++ended;
}

}  // namespace

TEST_SUITE("many waits") {
    TEST_CASE("operations go on while 20,000 others wait, and no end is lost when those end all at once") {
        Pipe slow;
        Pipe quick;
        quick.fill();
        std::size_t ended = 0;
        std::size_t ended_quickly = 0;
        run_clean([&]() -> task<> {
            co_await torc::with_scope([&](scope& here) -> task<> {
                for (std::size_t count = 0; count < many; ++count) here.spawn(wait_for(slow, ended));
                for (int count = 0; count < 100; ++count) co_await wait_for(quick, ended_quickly);
                CHECK(ended == 0);
                CHECK(torc::Executor::here().statistics().in_flight == many);
                slow.fill();
            });
        });
        CHECK(ended_quickly == 100);
        CHECK(ended == many);
    }

    TEST_CASE("an executor is woken also after there was no place for the word of a wake-up") {
        Pipe quick;
        quick.fill();
        std::size_t ended = 0;
        bool posted = false;
        torc::event woken;
        run_clean([&]() -> task<> {
            co_await torc::with_scope([&](scope& here) -> task<> {
                torc::Executor& executor = torc::Executor::here();
                for (std::size_t count = 0; count < many; ++count) here.spawn(wait_for(quick, ended));
                executor.post([&posted] { posted = true; });  // its word comes when the queue is full of their ends
                while (ended < many) co_await torc::yield();
                std::counting_semaphore<> wanted{0};
                const std::jthread other{[&] {
                    for (int count = 0; count < wakes; ++count) {
                        wanted.acquire();
                        executor.post([&woken] { woken.set(); });
                    }
                }};
                for (int count = 0; count < wakes; ++count) {
                    wanted.release();
                    co_await woken.wait();
                    woken.reset();
                }
            });
        });
        CHECK(posted);
    }

    TEST_CASE("20,000 waits can be cancelled at once") {
        Pipe slow;
        std::size_t ended = 0;
        run_clean([&]() -> task<> {
            co_await torc::with_scope([&](scope& here) -> task<> {
                for (std::size_t count = 0; count < many; ++count) here.spawn(wait_for(slow, ended));
                while (torc::Executor::here().statistics().in_flight < many) co_await torc::yield();
                here.cancel();
            });
        });
        CHECK(ended == 0);
    }
}
