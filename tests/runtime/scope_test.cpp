#include <torc/runtime/scope.hpp>

#include <doctest/doctest.h>

#include <leak_check.hpp>
#include <plug.hpp>
#include <stdexcept>
#include <steps.hpp>
#include <string>
#include <vector>

#include <torc/runtime/as_result.hpp>
#include <torc/runtime/timeout.hpp>

// Scopes: children added as one goes never outlive the scope, fail as in gather, and leave nothing.

namespace {

using torc::Error;
using torc::scope;
using torc::task;
using torc::with_scope;
using namespace torc::test;

}  // namespace

TEST_CASE("a scope returns when the body and every child have finished") {
    run_clean([]() -> task<> {
        std::vector<int> order;
        auto child = [&](int wait) -> task<> {
            co_await turns(wait);
            order.push_back(wait);
        };
        co_await with_scope([&](scope& here) -> task<> {
            here.spawn(child(3));
            here.spawn(child(1));
            CHECK(here.running() == 3);  // the body is one
            order.push_back(0);
            co_return;
        });
        CHECK(order == std::vector<int>{0, 1, 3});
    });
}

TEST_CASE("what a child's parameter starts as it is destroyed is waited for") {
    run_clean([]() -> task<> {
        int ended = 0;
        struct Starter {
            scope* here;
            int& ended;
            Starter(scope& in, int& count) : here(&in), ended(count) {}
            Starter(Starter&& other) noexcept : here(std::exchange(other.here, nullptr)), ended(other.ended) {}
            static task<> child(int wait, int& ended) {
                co_await turns(wait);
                ++ended;
            }
            ~Starter() {
                if (here == nullptr) return;
                here->spawn(child(0, ended));
                here->spawn(child(5, ended));
            }
        };
        auto child = [](Starter) -> task<> { co_await torc::yield(); };
        co_await with_scope([&](scope& here) -> task<> {
            here.spawn(child(Starter{here, ended}));
            co_return;
        });
        CHECK(ended == 2);
    });
}

TEST_CASE("a child starts where it is spawned, and may spawn more, even when the body has ended") {
    run_clean([]() -> task<> {
        int ended = 0;
        struct tree {
            static task<> grow(scope& here, int levels, int& ended) {
                if (levels > 0) {
                    here.spawn(grow(here, levels - 1, ended));
                    co_await torc::yield();
                    here.spawn(grow(here, levels - 1, ended));
                }
                ++ended;
            }
        };
        co_await with_scope([&](scope& here) -> task<> {
            bool started = false;
            auto child = [](bool& flag) -> task<> {
                flag = true;
                co_return;
            };
            here.spawn(child(started));
            CHECK(started);
            here.spawn(tree::grow(here, 10, ended));
            co_return;
        });
        CHECK(ended == 2047);
    });
}

TEST_CASE("a hundred thousand children pass through one scope in the memory of a few") {
    run_clean([]() -> task<> {
        co_await with_scope([](scope& here) -> task<> {
            const std::ptrdiff_t before = torc::detail::live_frames();
            for (int count = 0; count < 100'000; ++count) {
                here.spawn(turns(0));
                if (count % 100 == 0) co_await torc::yield();
            }
            CHECK(torc::detail::live_frames() == before);
        });
    });
}

TEST_CASE("the first failure of a child cancels the body and the others, the body's cancels the children") {
    run_clean([]() -> task<> {
        journal notes;
        CHECK_THROWS_WITH_AS(co_await with_scope([&](scope& here) -> task<> {
                                 here.spawn(forever(notes));
                                 here.spawn(fail_after(2, "a child"));
                                 co_await forever(notes);
                             }),
                             "a child", Error);
        CHECK(notes.unwound == 2);
        CHECK_THROWS_WITH_AS(co_await with_scope([&](scope& here) -> task<> {
                                 here.spawn(forever(notes));
                                 here.spawn(forever(notes));
                                 co_await turns(2);
                                 throw std::runtime_error("the body");
                             }),
                             "the body", std::runtime_error);
        CHECK(notes.unwound == 4);
    });
}

TEST_CASE("later failures are attached to the first") {
    run_clean([]() -> task<> {
        auto second = []() -> task<> {
            try {
                co_await forever();
            } catch (const torc::cancelled&) {
            }
            throw Error{torc::errc::closed, torc::phase::close, "", "second"};
        };
        std::size_t attached = 0;
        try {
            co_await with_scope([&](scope& here) -> task<> {
                here.spawn(second());
                co_await fail_after(1, "first");
            });
        } catch (const Error& error) {
            CHECK(error.message() == "first");
            attached = error.attached().size();
        }
        CHECK(attached == 1);
    });
}

TEST_CASE("a scope that was cancelled from inside returns normally") {
    run_clean([]() -> task<> {
        journal notes;
        bool went_on = false;
        co_await with_scope([&](scope& here) -> task<> {
            here.spawn(forever(notes));
            co_await turns(2);
            CHECK_FALSE(here.cancelled());
            here.cancel();
            CHECK(here.cancelled());
            here.cancel();
            here.spawn(forever(notes));  // runs to its first await
            CHECK(notes.unwound == 1);
            co_await turns(1);
            went_on = true;
        });
        CHECK_FALSE(went_on);
        CHECK(notes.begun == 2);
        CHECK(notes.unwound == 2);
        co_await turns(1);
    });
}

TEST_CASE("a scope that was cancelled from inside and from outside unwinds") {
    run_clean([]() -> task<> {
        journal notes;
        bool returned = false;
        co_await with_scope([&](scope& outer) -> task<> {
            auto inner = [&]() -> task<> {
                co_await with_scope([&](scope& here) -> task<> {
                    here.spawn(forever(notes));
                    here.cancel();
                    outer.cancel();
                    co_await forever(notes);
                });
                returned = true;
            };
            co_await inner();
        });
        CHECK_FALSE(returned);
        CHECK(notes.unwound == 2);
    });
}

TEST_CASE("a failure in a scope that was cancelled from inside is thrown all the same") {
    run_clean([]() -> task<> {
        CHECK_THROWS_WITH_AS(co_await with_scope([](scope& here) -> task<> {
                                 here.cancel();
                                 co_await fail_after(0, "still");
                             }),
                             "still", Error);
    });
}

TEST_CASE("a scope that is cancelled before its body runs is cancelled") {
    run_clean([]() -> task<> {
        journal notes;
        co_await with_scope([&](scope& here) {  // no coroutine: runs while the scope is still closed
            here.cancel();
            return forever(notes);
        });
        CHECK(notes.begun == 1);
        CHECK(notes.unwound == 1);
    });
}

TEST_CASE("a body that throws instead of giving a task fails the scope") {
    run_clean([]() -> task<> {
        CHECK_THROWS_WITH_AS(co_await with_scope([](scope&) -> task<> { throw std::runtime_error("no body"); }),
                             "no body", std::runtime_error);
    });
}

TEST_CASE("what children let go of is closed when the scope has returned: locals, and parameters with the frame") {
    run_clean([]() -> task<> {
        Resource::Counts counts;
        auto child = [&](Resource, int wait) -> task<> {
            const Resource local{counts};
            co_await turns(wait);
        };
        co_await with_scope([&](scope& here) -> task<> {
            here.spawn(child(Resource{counts}, 0));
            here.spawn(child(Resource{counts}, 3));
            co_await turns(1);
            here.spawn(child(Resource{counts}, 1));
        });
        CHECK(counts.open == 0);
        CHECK(counts.closed == 6);
    });
}

TEST_CASE("a limit of time around a scope is a timeout, and a limit inside is one of its failures") {
    run_clean([]() -> task<> {
        journal notes;
        auto in_scope = [&]() {
            return with_scope([&](scope& here) -> task<> {
                here.spawn(forever(notes));
                co_await forever(notes);
            });
        };
        const auto around = co_await torc::as_result(torc::with_timeout(std::chrono::milliseconds{1}, in_scope()));
        REQUIRE_FALSE(around.has_value());
        CHECK(around.error().code() == torc::errc::timed_out);
        CHECK(notes.unwound == 2);
        const auto inside = co_await torc::as_result(with_scope([&](scope& here) -> task<> {
            here.spawn(forever(notes));
            co_await torc::with_timeout(std::chrono::milliseconds{1}, forever(notes));
        }));
        REQUIRE_FALSE(inside.has_value());
        CHECK(inside.error().code() == torc::errc::timed_out);
        CHECK(notes.unwound == 4);
    });
}

TEST_CASE("scopes nest ten thousand deep, and one cancel ends them all") {
    struct deep {
        static task<> run(int levels, journal& notes) {
            co_await with_scope([&](scope& here) -> task<> {
                here.spawn(levels == 0 ? forever(notes) : run(levels - 1, notes));
                co_await forever(notes);
            });
        }
    };
    journal notes;
    run_clean([&]() -> task<> {
        co_await with_scope([&](scope& here) -> task<> {
            here.spawn(deep::run(10'000, notes));
            while (notes.begun < 10'002) co_await torc::yield();
            here.cancel();
        });
    });
    CHECK(notes.unwound == 10'002);
}

TEST_CASE("with the plug pulled at any await, everything unwinds") {
    Resource::Counts counts;
    pull_the_plug(
        [&]() -> task<> {
            auto child = [&](Resource, int wait) -> task<> {
                const Resource local{counts};
                co_await turns(wait);
            };
            co_await with_scope([&](scope& here) -> task<> {
                for (int wait = 0; wait < 4; ++wait) {
                    here.spawn(child(Resource{counts}, wait));
                    co_await torc::yield();
                }
                co_await with_scope([&](scope& inner) -> task<> {
                    inner.spawn(child(Resource{counts}, 2));
                    co_return;
                });
            });
        },
        [&](bool) { CHECK(counts.open == 0); });
}
