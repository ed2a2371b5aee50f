#include <torc/runtime/stream.hpp>

#include <doctest/doctest.h>

#include <leak_check.hpp>
#include <memory>
#include <stdexcept>
#include <steps.hpp>
#include <string>
#include <vector>

#include <torc/runtime/channel.hpp>
#include <torc/runtime/close.hpp>
#include <torc/runtime/gather.hpp>
#include <torc/runtime/scope.hpp>
#include <torc/runtime/timeout.hpp>

namespace {

using torc::scope;
using torc::stream;
using torc::task;
using torc::test::run_clean;
using torc::test::turns;

stream<int> numbers(int end) {
    for (int index = 0; index < end; ++index) co_yield index;
}
stream<int> slow_numbers(int end) {
    for (int index = 0; index < end; ++index) {
        co_await torc::yield();
        co_yield int{index};
    }
}

struct counted {
    explicit counted(int& alive) : alive_(alive) { ++alive_; }
    counted(const counted& other) : alive_(other.alive_) { ++alive_; }
    counted& operator=(const counted&) = delete;
    ~counted() { --alive_; }
    int& alive_;
};

/// A resource whose close takes some turns of the loop.
class SlowToClose {
   public:
    explicit SlowToClose(int& closed) : record_(new Record(torc::Executor::here(), closed)) {}
    SlowToClose(const SlowToClose&) = delete;
    SlowToClose& operator=(const SlowToClose&) = delete;
    ~SlowToClose() { torc::close_record::abandon(record_); }

   private:
    class Record final : public torc::close_record {
       public:
        Record(torc::Executor& home, int& closed) : close_record(home), closed_(closed) {}

       private:
        void start_close() noexcept override { step(); }
        void step() {
            executor().post([this] {
                if (--turns_ > 0) {
                    step();
                    return;
                }
                ++closed_;
                close_done({});
            });
        }
        int& closed_;
        int turns_ = 20;
    };
    Record* record_;
};

}  // namespace

TEST_CASE("a stream gives its values one by one and then nothing, ever after") {
    std::vector<int> got;
    run_clean([&]() -> task<> {
        SUBCASE("without waiting") {
            stream<int> source = numbers(5);
            while (const int* item = co_await source.next()) got.push_back(*item);
            CHECK(co_await source.next() == nullptr);
            CHECK(co_await source.next() == nullptr);
        }
        SUBCASE("waiting for each") {
            stream<int> source = slow_numbers(5);
            while (const int* item = co_await source.next()) got.push_back(*item);
            CHECK(co_await source.next() == nullptr);
        }
    });
    CHECK(got == std::vector<int>{0, 1, 2, 3, 4});
}

TEST_CASE("a stream's body runs only while it is asked") {
    std::vector<std::string> order;
    run_clean([&]() -> task<> {
        auto body = [&]() -> stream<int> {
            order.emplace_back("began");
            co_yield 1;
            order.emplace_back("went on");
            co_yield 2;
            order.emplace_back("ended");
        };
        stream<int> source = body();
        order.emplace_back("made");
        CHECK(*co_await source.next() == 1);
        co_await turns(10);
        order.emplace_back("asked");
        CHECK(*co_await source.next() == 2);
        CHECK(co_await source.next() == nullptr);
    });
    CHECK(order == std::vector<std::string>{"made", "began", "asked", "went on", "ended"});
}

TEST_CASE("values are passed without a copy where they can be") {
    run_clean([]() -> task<> {
        auto pointers = []() -> stream<std::unique_ptr<std::string>> {
            co_yield std::make_unique<std::string>("made in the expression, long enough to live on the heap");
            auto local = std::make_unique<std::string>("moved from a local");
            co_yield std::move(local);
            CHECK_FALSE(local);  // the reader took it
        };
        auto source = pointers();
        auto* item = co_await source.next();
        REQUIRE(item);
        const std::unique_ptr<std::string> first = std::move(*item);
        CHECK(first->starts_with("made in"));
        item = co_await source.next();
        REQUIRE(item);
        const std::unique_ptr<std::string> second = std::move(*item);
        CHECK(*second == "moved from a local");
        CHECK(co_await source.next() == nullptr);
    });
}

TEST_CASE("a reader that moves from a value does not touch the body's variable") {
    run_clean([]() -> task<> {
        auto words = []() -> stream<std::string> {
            std::string word = "a word that is longer than what fits in place";
            co_yield word;
            CHECK(word.starts_with("a word"));
            const std::string fixed = "a constant, also longer than what fits in place";
            co_yield fixed;
            co_yield "converted, and longer than what fits in place too";
        };
        auto source = words();
        std::vector<std::string> got;
        while (std::string* item = co_await source.next()) got.push_back(std::move(*item));
        REQUIRE(got.size() == 3);
        CHECK(got[0].starts_with("a word"));
        CHECK(got[1].starts_with("a constant"));
        CHECK(got[2].starts_with("converted"));
    });
}

TEST_CASE("a million values take no stack") {
    const long long sum = run_clean([]() -> task<long long> {
        long long total = 0;
        stream<int> source = numbers(1'000'000);
        while (const int* item = co_await source.next()) total += *item;
        co_return total;
    });
    CHECK(sum == 499'999'500'000);
}

TEST_CASE("streams can be made of streams, and await whatever a task can") {
    std::vector<int> got;
    run_clean([&]() -> task<> {
        auto doubled = [](stream<int> from) -> stream<int> {
            auto twice = [](int value) -> task<int> {
                co_await torc::yield();
                co_return 2 * value;
            };
            while (const int* item = co_await from.next()) {
                const auto [a, b] = co_await torc::gather(twice(*item), twice(*item + 100));
                co_yield a;
                co_yield b;
                co_await torc::test::driver_turns(1);
            }
        };
        stream<int> source = doubled(doubled(slow_numbers(2)));
        while (const int* item = co_await source.next()) got.push_back(*item);
    });
    CHECK(got == std::vector<int>{0, 200, 400, 600, 4, 204, 404, 604});
}

TEST_CASE("what the body throws reaches the reader once; the stream is at its end then") {
    run_clean([]() -> task<> {
        auto failing = [](bool wait) -> stream<int> {
            co_yield 1;
            if (wait) co_await torc::yield();
            throw std::runtime_error("no more");
        };
        for (const bool wait : {false, true}) {
            stream<int> source = failing(wait);
            CHECK(*co_await source.next() == 1);
            std::string what;
            try {
                co_await source.next();
            } catch (const std::runtime_error& error) {
                what = error.what();
            }
            CHECK(what == "no more");
            CHECK(co_await source.next() == nullptr);
        }
    });
}

TEST_CASE("a stream may be let go at any of its values, or before the first; its locals and parameters go with it") {
    int alive = 0;
    run_clean([&]() -> task<> {
        auto body = [&alive](counted) -> stream<int> {
            const counted local{alive};
            for (int index = 0;; ++index) {
                const counted inner{alive};
                co_await torc::yield();
                co_yield index;
            }
        };
        {
            const stream<int> unstarted = body(counted{alive});
        }
        CHECK(alive == 0);
        {
            stream<int> source = body(counted{alive});
            CHECK(alive == 1);
            CHECK(*co_await source.next() == 0);
            CHECK(*co_await source.next() == 1);
            CHECK(alive == 3);
            stream<int> moved = std::move(source);
            CHECK(*co_await moved.next() == 2);
            moved = body(counted{alive});
            CHECK(alive == 1);
        }
        CHECK(alive == 0);
    });
}

TEST_CASE("a stream is cancelled with the task that asks it") {
    run_clean([]() -> task<> {
        bool unwound = false;
        bool ended = false;
        auto body = [&]() -> stream<int> {
            co_yield 1;
            try {
                co_await torc::test::forever();
            } catch (const torc::cancelled&) {
                unwound = true;
                throw;
            }
        };
        stream<int> source = body();
        CHECK(*co_await source.next() == 1);
        std::error_code why;
        try {
            co_await torc::with_timeout(std::chrono::milliseconds{1}, source.next());
        } catch (const torc::Error& error) {
            why = error.code();
        }
        CHECK(why == torc::errc::timed_out);
        CHECK(unwound);
        ended = co_await source.next() == nullptr;
        CHECK(ended);
    });
}

TEST_CASE("a stream that never waits ends too when the scope of its reader is cancelled") {
    run_clean([]() -> task<> {
        int got = 0;
        bool unwound = false;
        bool cleaned_up = false;
        auto body = [&]() -> stream<int> {
            try {
                for (int index = 0;; ++index) co_yield index;
            } catch (const torc::cancelled&) {
                unwound = true;
            }
            co_await torc::shield(std::chrono::seconds{10}, turns(10));  // there is time to clean up
            cleaned_up = true;
            throw torc::cancelled{};
        };
        co_await torc::with_scope([&](scope& here) -> task<> {
            stream<int> source = body();
            while (const int* item = co_await source.next()) {
                got = *item;
                if (got == 100) here.cancel();
            }
        });
        CHECK(got == 100);
        CHECK(unwound);
        CHECK(cleaned_up);
    });
}

TEST_CASE("a stream inherits the scope of whoever asks, each time anew") {
    run_clean([]() -> task<> {
        stream<int> source = slow_numbers(3);
        co_await torc::with_scope([&](scope& first) -> task<> {
            CHECK(*co_await source.next() == 0);
            first.cancel();
        });
        // That scope is gone and cancelled; the stream was not asked in it since.
        CHECK(*co_await torc::with_timeout(std::chrono::hours{1}, source.next()) == 1);
        auto deadline_of = []() -> stream<torc::Clock::time_point> {
            for (;;) co_yield torc::current_deadline();
        };
        auto deadlines = deadline_of();
        CHECK(*co_await deadlines.next() == torc::Clock::never);
        CHECK(*co_await torc::with_timeout(std::chrono::hours{1}, deadlines.next()) < torc::Clock::never);
        CHECK(*co_await deadlines.next() == torc::Clock::never);
    });
}

TEST_CASE("what the body lets go of is closed before the reader has the next value") {
    int closed = 0;
    run_clean([&]() -> task<> {
        auto pages = [&]() -> stream<int> {
            for (int page = 0; page < 3; ++page) {
                {
                    const SlowToClose connection{closed};
                }
                co_yield page;
            }
            const SlowToClose last{closed};
        };
        stream<int> source = pages();
        for (int page = 0; page < 3; ++page) {
            const int* item = co_await source.next();
            REQUIRE(item);
            CHECK(*item == page);
            CHECK(closed == page + 1);
        }
        CHECK(co_await source.next() == nullptr);
        CHECK(closed == 4);
    });
}

TEST_CASE("what a stream held when it was let go is closed before the task that let it go has ended") {
    int closed = 0;
    run_clean([&]() -> task<> {
        auto held = [&]() -> stream<int> {
            const SlowToClose connection{closed};
            co_yield 1;
            co_yield 2;
        };
        auto reader = [&]() -> task<> {
            {
                stream<int> source = held();
                CHECK(*co_await source.next() == 1);
            }
            CHECK(closed == 0);
        };
        co_await reader();
        CHECK(closed == 1);
    });
}

TEST_CASE("a stream hands over between tasks") {
    std::vector<int> got;
    run_clean([&]() -> task<> {
        torc::channel<int> items{2};
        auto drain = [](torc::channel<int>& from) -> stream<int> {
            while (auto item = co_await from.receive()) co_yield std::move(*item);
        };
        auto fill = [&]() -> task<> {
            for (int index = 0; index < 100; ++index) co_await items.send(index);
            items.close();
        };
        auto read = [&]() -> task<> {
            stream<int> source = drain(items);
            while (const int* item = co_await source.next()) got.push_back(*item);
        };
        co_await torc::gather(fill(), read());
    });
    REQUIRE(got.size() == 100);
    for (int index = 0; index < 100; ++index) CHECK(got[static_cast<std::size_t>(index)] == index);
}

TEST_CASE("the dump shows a stream where it waits") {
    run_clean([]() -> task<> {
        torc::channel<int> items{0};
        auto waiting_stream = [](torc::channel<int>& from) -> stream<int> {
            co_yield (co_await from.receive()).value();
        };
        auto read = [&]() -> task<> {
            stream<int> source = waiting_stream(items);
            CHECK(*co_await source.next() == 1);
        };
        auto look = [&]() -> task<> {
            const std::string dump = torc::Executor::here().dump_tasks();
            INFO(dump);
            CHECK(dump.find("channel receive") != std::string::npos);
            CHECK(dump.find("stream_test.cpp") != std::string::npos);
            co_await items.send(1);
        };
        co_await torc::gather(read(), look());
    });
}
