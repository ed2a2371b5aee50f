#include <torc/runtime/channel.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <leak_check.hpp>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <torc/runtime/as_result.hpp>
#include <torc/runtime/gather.hpp>
#include <torc/runtime/scope.hpp>
#include <torc/runtime/timeout.hpp>

// Channels: where an item is at every moment. Whatever is cancelled or closed when, each item is in the end with
// exactly one owner: the sender whose send failed, the receiver it was handed to, or the channel.

namespace {

using torc::channel;
using torc::scope;
using torc::task;
using torc::test::run_clean;
using token = std::unique_ptr<int>;

task<> settle() {
    for (int turn = 0; turn < 10; ++turn) co_await torc::yield();
}

token make_token(int value) { return std::make_unique<int>(value); }

}  // namespace

TEST_CASE("items come out in the order in which they went in") {
    for (const std::size_t capacity : {0u, 1u, 2u, 7u, 100u}) {
        CAPTURE(capacity);
        std::vector<int> received;
        run_clean([&]() -> task<> {
            channel<token> items{capacity};
            auto send = [&]() -> task<> {
                for (int index = 0; index < 50; ++index) {
                    co_await items.send(make_token(index));
                    CHECK(items.size() <= capacity);
                }
                items.close();
            };
            auto receive = [&]() -> task<> {
                while (auto item = co_await items.receive()) received.push_back(**item);
            };
            co_await torc::gather(send(), receive());
        });
        REQUIRE(received.size() == 50);
        for (int index = 0; index < 50; ++index) CHECK(received[static_cast<std::size_t>(index)] == index);
    }
}

TEST_CASE("a sender waits while the channel is full, and takes its place in turn") {
    std::vector<std::string> order;
    run_clean([&]() -> task<> {
        channel<std::string> items{1};
        auto send = [&](std::string text) -> task<> {
            co_await items.send(text);
            order.push_back("sent " + text);
        };
        auto receive = [&]() -> task<> {
            co_await settle();
            CHECK(order == std::vector<std::string>{"sent a"});
            CHECK(items.size() == 1);
            CHECK_FALSE(items.try_send(std::string{"overtaking"}));
            for (const char* expected : {"a", "b", "c"}) {
                const auto item = co_await items.receive();
                REQUIRE(item);
                CHECK(*item == expected);
            }
        };
        co_await torc::gather(send("a"), send("b"), send("c"), receive());
    });
    CHECK(order == std::vector<std::string>{"sent a", "sent b", "sent c"});
}

TEST_CASE("with no capacity a send returns when a receiver has the item, whoever came first") {
    run_clean([]() -> task<> {
        channel<int> meeting{0};
        bool sent = false;
        auto send = [&]() -> task<> {
            co_await meeting.send(1);
            sent = true;
        };
        auto receive_late = [&]() -> task<> {
            co_await settle();
            CHECK_FALSE(sent);
            CHECK(co_await meeting.receive() == 1);
        };
        co_await torc::gather(send(), receive_late());
        CHECK(sent);

        auto receive = [&]() -> task<int> { co_return (co_await meeting.receive()).value(); };
        auto send_late = [&]() -> task<> {
            co_await settle();
            CHECK(meeting.try_send(2));
            CHECK_FALSE(meeting.try_send(3));  // the receiver has its item, there is no room for another
        };
        const auto [item, nothing] = co_await torc::gather(receive(), send_late());
        CHECK(item == 2);
    });
}

TEST_CASE("many senders and many receivers: every item arrives once, and nobody gets a sender's items out of order") {
    std::map<int, std::vector<int>> by_sender;
    run_clean([&]() -> task<> {
        channel<std::pair<int, int>> items{3};
        auto send = [&](int name) -> task<> {
            for (int index = 0; index < 100; ++index) {
                co_await items.send({name, index});
                if (index % 7 == name) co_await torc::yield();
            }
        };
        auto send_all = [&]() -> task<> {
            std::vector<task<>> senders;
            for (int name = 0; name < 5; ++name) senders.push_back(send(name));
            co_await torc::gather(std::move(senders));
            items.close();
        };
        auto receive = [&]() -> task<int> {
            int count = 0;
            std::map<int, int> last;
            while (auto item = co_await items.receive()) {
                const auto [name, index] = *item;
                by_sender[name].push_back(index);
                CHECK((!last.contains(name) || last[name] < index));
                last[name] = index;
                ++count;
            }
            co_return count;
        };
        const auto [done, a, b, c] = co_await torc::gather(send_all(), receive(), receive(), receive());
        CHECK(a + b + c == 500);
        CHECK(a > 50);  // served in turn, nobody starves
        CHECK(b > 50);
        CHECK(c > 50);
    });
    REQUIRE(by_sender.size() == 5);
    for (auto& [name, indices] : by_sender) {
        std::sort(indices.begin(), indices.end());
        REQUIRE(indices.size() == 100);
        for (int index = 0; index < 100; ++index) CHECK(indices[static_cast<std::size_t>(index)] == index);
    }
}

TEST_CASE("a closed channel gives what was accepted, then nothing; its senders learn that it is closed") {
    run_clean([]() -> task<> {
        channel<token> items{2};
        co_await items.send(make_token(1));
        co_await items.send(make_token(2));
        items.close();
        items.close();
        CHECK(items.closed());

        token mine = make_token(3);
        std::error_code why;
        try {
            co_await items.send(std::move(mine));
        } catch (const torc::Error& error) {
            why = error.code();
            CHECK(std::string{error.what()}.find("the channel was closed") != std::string::npos);
        }
        CHECK(why == torc::errc::closed);
        REQUIRE(mine);
        CHECK(*mine == 3);
        CHECK_FALSE(items.try_send(std::move(mine)));
        REQUIRE(mine);
        const torc::result<void> as_value = co_await torc::as_result(items.send(std::move(mine)));
        REQUIRE_FALSE(as_value);
        CHECK(as_value.error().code() == torc::errc::closed);
        CHECK(mine);

        CHECK(**co_await items.receive() == 1);
        CHECK(**items.try_receive() == 2);
        CHECK_FALSE(co_await items.receive());
        CHECK_FALSE(items.try_receive());
    });
}

TEST_CASE("closing wakes those who wait on either side") {
    run_clean([]() -> task<> {
        channel<token> full{1};
        channel<token> empty{1};
        int refused = 0;
        int ended = 0;
        auto send = [&](int value) -> task<> {
            token mine = make_token(value);
            const torc::result<void> sent = co_await torc::as_result(full.send(std::move(mine)));
            if (!sent && sent.error().code() == torc::errc::closed && mine && *mine == value) ++refused;
        };
        auto receive = [&]() -> task<> {
            if (!co_await empty.receive()) ++ended;
        };
        auto close = [&]() -> task<> {
            co_await settle();
            full.close();
            empty.close();
        };
        co_await torc::gather(send(0), send(1), send(2), receive(), receive(), close());
        CHECK(refused == 2);
        CHECK(ended == 2);
        CHECK(**co_await full.receive() == 0);
        CHECK_FALSE(co_await full.receive());
    });
}

TEST_CASE("a cancelled sender still has its item, and nobody receives it") {
    for (const std::size_t capacity : {0u, 1u}) {
        CAPTURE(capacity);
        run_clean([&]() -> task<> {
            channel<token> items{capacity};
            if (capacity > 0) co_await items.send(make_token(-1));
            token first = make_token(1);
            token second = make_token(2);
            auto send = [&](token& mine) -> task<> { co_await items.send(std::move(mine)); };
            co_await torc::with_scope([&](scope& outer) -> task<> {
                co_await torc::with_scope([&](scope& inner) -> task<> {
                    inner.spawn(send(first));
                    outer.spawn(send(second));
                    co_await settle();
                    inner.cancel();
                });
                if (capacity > 0) CHECK(**co_await items.receive() == -1);
                CHECK(**co_await items.receive() == 2);
            });
            REQUIRE(first);
            CHECK(*first == 1);
            CHECK_FALSE(second);
            CHECK_FALSE(items.try_receive());
        });
    }
}

TEST_CASE("an item handed to a receiver before the cancel came is delivered to it") {
    run_clean([]() -> task<> {
        for (const bool cancel_first : {false, true}) {
            CAPTURE(cancel_first);
            channel<token> items{0};
            token received;
            bool unwound = false;
            token mine = make_token(1);
            bool accepted = false;
            auto receive = [&]() -> task<> {
                try {
                    received = (co_await items.receive()).value();
                } catch (const torc::cancelled&) {
                    unwound = true;
                    throw;
                }
            };
            co_await torc::with_scope([&](scope& children) -> task<> {
                children.spawn(receive());
                co_await settle();
                if (cancel_first) children.cancel();
                accepted = items.try_send(std::move(mine));
                if (!cancel_first) children.cancel();
            });
            CHECK(accepted != cancel_first);
            CHECK(unwound == cancel_first);
            CHECK((received != nullptr) != cancel_first);
            CHECK((mine != nullptr) == cancel_first);
        }
    });
}

TEST_CASE("a sender whose item was taken before the cancel came has sent it") {
    run_clean([]() -> task<> {
        channel<token> items{0};
        bool sent = false;
        token mine = make_token(5);
        auto send = [&]() -> task<> {
            co_await items.send(std::move(mine));
            sent = true;
        };
        co_await torc::with_scope([&](scope& children) -> task<> {
            children.spawn(send());
            co_await settle();
            const auto item = items.try_receive();
            REQUIRE(item);
            CHECK(**item == 5);
            children.cancel();
        });
        CHECK(sent);
        CHECK_FALSE(mine);
    });
}

TEST_CASE("wherever a scope with senders and receivers is cancelled, no item is lost and none is doubled") {
    // Items are numbered as they are made. Whoever ends up with one enters it here.
    for (int cancel_after = 0; cancel_after < 60; ++cancel_after) {
        for (const std::size_t capacity : {0u, 1u, 3u}) {
            CAPTURE(cancel_after);
            CAPTURE(capacity);
            int made = 0;
            std::vector<int> found;
            run_clean([&]() -> task<> {
                channel<token> items{capacity};
                auto send = [&](int pause) -> task<> {
                    for (;;) {
                        token mine = make_token(made++);
                        try {
                            co_await items.send(std::move(mine));
                        } catch (const torc::cancelled&) {
                            REQUIRE(mine);
                            found.push_back(*mine);
                            throw;
                        }
                        for (int turn = 0; turn < pause; ++turn) co_await torc::yield();
                    }
                };
                auto receive = [&](int pause) -> task<> {
                    for (;;) {
                        const auto item = co_await items.receive();
                        found.push_back(**item);
                        for (int turn = 0; turn < pause; ++turn) co_await torc::yield();
                    }
                };
                co_await torc::with_scope([&](scope& children) -> task<> {
                    // A pause in every loop: sends and receives that need not wait do not give way.
                    for (const int pause : {1, 2, 5}) {
                        children.spawn(send(pause));
                        children.spawn(receive(pause));
                    }
                    for (int turn = 0; turn < cancel_after; ++turn) co_await torc::yield();
                    children.cancel();
                });
                while (const auto left = items.try_receive()) found.push_back(**left);
            });
            std::sort(found.begin(), found.end());
            REQUIRE(static_cast<int>(found.size()) == made);
            for (int index = 0; index < made; ++index) CHECK(found[static_cast<std::size_t>(index)] == index);
        }
    }
}

TEST_CASE("a receive can be given up after a time, and the channel goes on") {
    run_clean([]() -> task<> {
        channel<int> items{1};
        std::error_code why;
        try {
            co_await torc::with_timeout(std::chrono::milliseconds{1}, items.receive());
        } catch (const torc::Error& error) {
            why = error.code();
        }
        CHECK(why == torc::errc::timed_out);
        co_await torc::with_timeout(std::chrono::hours{1}, items.send(4));
        CHECK(co_await items.receive() == 4);
    });
}

TEST_CASE("items that nobody received are destroyed with the channel") {
    auto shared = std::make_shared<int>(1);
    run_clean([&]() -> task<> {
        channel<std::shared_ptr<int>> items{4};
        co_await items.send(shared);
        co_await items.send(shared);
        CHECK(shared.use_count() == 3);
        CHECK(*items.try_receive() == shared);
        CHECK(shared.use_count() == 2);
    });
    CHECK(shared.use_count() == 1);
}

TEST_CASE("the dump says who waits on which side") {
    run_clean([]() -> task<> {
        channel<int> one{0};
        channel<int> other{0};
        auto send = [&]() -> task<> { co_await one.send(1); };
        auto receive = [&]() -> task<> { co_await other.receive(); };
        auto look = [&]() -> task<> {
            const std::string dump = torc::Executor::here().dump_tasks();
            INFO(dump);
            CHECK(dump.find(": channel send for ") != std::string::npos);
            CHECK(dump.find(": channel receive for ") != std::string::npos);
            co_await one.receive();
            other.close();
        };
        co_await torc::gather(send(), receive(), look());
    });
}
