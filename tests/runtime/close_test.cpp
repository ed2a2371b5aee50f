#include <torc/runtime/close.hpp>

#include <doctest/doctest.h>

#include <leak_check.hpp>
#include <memory>
#include <optional>
#include <plug.hpp>
#include <steps.hpp>
#include <vector>

#include <torc/runtime/as_result.hpp>
#include <torc/runtime/gather.hpp>
#include <torc/runtime/scope.hpp>
#include <torc/runtime/timeout.hpp>

// Structured close, with a resource that needs a few turns of the ring to close: the task in whose frame it lived, or
// that let go of it, ends only when that is done.

namespace {

using torc::Error;
using torc::scope;
using torc::task;
using namespace torc::test;

const std::error_code ungraceful = torc::make_error_code(torc::errc::end_of_stream);

enum class way { returns, throws, is_cancelled, times_out };

/// Lives in a frame that is left in one way or another.
task<> leave(Resource::Counts& counts, way how) {
    const Resource mine{counts, 5};
    {
        const Resource inner{counts, 2};
    }
    co_await torc::yield();
    if (how == way::throws) throw Error{torc::errc::not_found, torc::phase::none, "", "thrown"};
    if (how != way::returns) co_await forever();
}

}  // namespace

TEST_CASE("an executor closes what its last posts and the errors it noted hold, before it goes") {
    Resource::Counts counts;
    struct Holding : std::exception {
        explicit Holding(std::shared_ptr<Resource> what) : held(std::move(what)) {}
        std::shared_ptr<Resource> held;
    };
    {
        torc::Executor executor;
        std::optional<Resource> kept;
        executor.run([](Resource::Counts& all, std::optional<Resource>& given) -> task<> {
            given.emplace(all);
            auto fails = [](Resource::Counts& count) -> task<> {
                co_await torc::yield();
                throw Holding{std::make_shared<Resource>(count)};
            };
            CHECK_THROWS_AS(co_await fails(all), Holding);
        }(counts, kept));
        executor.post([held = std::move(*kept)]() mutable {});
        kept.reset();
        CHECK(counts.open == 2);
    }
    CHECK(counts.open == 0);
    CHECK(counts.closed == 2);
}

TEST_CASE("when a task has ended, what lived in its frame is closed") {
    way how = way::returns;
    SUBCASE("it returned") { how = way::returns; }
    SUBCASE("it threw") { how = way::throws; }
    SUBCASE("it was cancelled") { how = way::is_cancelled; }
    SUBCASE("its time was up") { how = way::times_out; }
    run_clean([&]() -> task<> {
        Resource::Counts counts;
        bool closed_when_seen = false;
        auto observer = [&]() -> task<> {
            try {
                co_await leave(counts, how);
            } catch (...) {
                closed_when_seen = counts.open == 0;
                throw;
            }
            closed_when_seen = counts.open == 0;
        };
        switch (how) {
            case way::returns: co_await observer(); break;
            case way::throws: CHECK_THROWS_WITH_AS(co_await observer(), "thrown", Error); break;
            case way::is_cancelled:
                co_await torc::with_scope([&](scope& here) -> task<> {
                    here.spawn(observer());
                    co_await turns(3);
                    here.cancel();
                });
                break;
            case way::times_out: {
                const auto late =
                    co_await torc::as_result(torc::with_timeout(std::chrono::milliseconds{1}, observer()));
                CHECK(late.error().code() == torc::errc::timed_out);
                break;
            }
        }
        CHECK(closed_when_seen);
        CHECK(counts.open == 0);
        CHECK(counts.closed == 2);
    });
}

TEST_CASE("closing starts where the scope ends, and the task goes on meanwhile") {
    run_clean([]() -> task<> {
        Resource::Counts counts;
        auto body = [&]() -> task<> {
            {
                const Resource inner{counts, 2};
            }
            CHECK(counts.open == 1);  // the destructor did not wait
            CHECK(torc::Executor::here().statistics().open_closes == 1);
            while (counts.open > 0) co_await torc::yield();
            CHECK(torc::Executor::here().statistics().open_closes == 0);
        };
        co_await body();
    });
}

TEST_CASE("a by-value parameter is closed on the account of the task that lets go of it") {
    run_clean([]() -> task<> {
        Resource::Counts counts;
        auto child = [](Resource) -> task<> { co_await torc::yield(); };
        auto parent = [&]() -> task<> {
            co_await child(Resource{counts, 5});
            CHECK(counts.open == 1);  // closing since the end of that expression
            CHECK(torc::Executor::here().statistics().open_closes == 1);
        };
        co_await parent();
        CHECK(counts.open == 0);
        auto never_awaited = [&]() -> task<> {
            const task<> unused = child(Resource{counts, 5});
            co_return;
        };
        co_await never_awaited();
        CHECK(counts.open == 0);
        CHECK(counts.closed == 2);
    });
}

TEST_CASE("a returned resource is closed on the account of whoever keeps it or drops it") {
    run_clean([]() -> task<> {
        Resource::Counts counts;
        auto open = [&]() -> task<Resource> {
            co_await torc::yield();
            co_return Resource{counts, 5};
        };
        auto keeper = [&]() -> task<> {
            const Resource mine = co_await open();
            CHECK(counts.open == 1);
            CHECK(counts.closed == 0);
        };
        auto dropper = [&]() -> task<> { co_await open(); };
        co_await keeper();
        CHECK(counts.closed == 1);
        co_await dropper();
        CHECK(counts.closed == 2);
    });
}

TEST_CASE("a resource that was moved from closes nothing") {
    run_clean([]() -> task<> {
        Resource::Counts counts;
        auto body = [&]() -> task<> {
            Resource first{counts};
            const Resource second = std::move(first);
            co_await first.close();  // NOLINT: that is the point
            CHECK(counts.open == 1);
        };
        co_await body();
        CHECK(counts.closed == 1);
    });
}

TEST_CASE("children of scopes and groups close before those who await them go on") {
    run_clean([]() -> task<> {
        Resource::Counts counts;
        co_await torc::gather(leave(counts, way::returns), leave(counts, way::returns));
        CHECK(counts.open == 0);
        co_await torc::with_scope([&](scope& here) -> task<> {
            auto child = [](Resource) -> task<> { co_await torc::yield(); };
            here.spawn(child(Resource{counts, 5}));
            here.spawn(leave(counts, way::returns));
            co_return;
        });
        CHECK(counts.open == 0);
        CHECK(counts.closed == 7);
    });
}

TEST_CASE("what is closed outside any task is drained before run returns, or when the executor ends") {
    Resource::Counts counts;
    const leak_check leaks;
    std::optional<Resource> kept;
    torc::Executor executor;
    executor.run([](std::optional<Resource>& out, Resource::Counts& all) -> task<> {
        out.emplace(all, 5);
        torc::Executor::here().post([&out] { out.reset(); });
        co_return;
    }(kept, counts));
    if (kept) {
        CHECK(counts.open == 1);
        executor.run(turns(2));
    }
    CHECK(counts.open == 0);
    const Resource late =
        executor.run([](Resource::Counts& all) -> task<Resource> { co_return Resource{all, 5}; }(counts));
    CHECK(counts.open == 1);
}

TEST_CASE("close is idempotent, and gives the first outcome again") {
    run_clean([]() -> task<> {
        Resource::Counts counts;
        Resource good{counts};
        co_await good.close();
        co_await good.close();
        CHECK(counts.closed == 1);
        Resource bad{counts, 2, ungraceful};
        for (int attempt = 0; attempt < 2; ++attempt) {
            const auto outcome = co_await torc::as_result(bad.close());
            REQUIRE_FALSE(outcome.has_value());
            CHECK(outcome.error().code() == ungraceful);
        }
        CHECK(counts.closed == 2);
    });
}

TEST_CASE("a close that is over at once is as good as one that takes turns") {
    run_clean([]() -> task<> {
        Resource::Counts counts;
        Resource quick{counts, 0};
        co_await quick.close();
        CHECK(counts.closed == 1);
        int resumed = 0;
        co_await turns(1);
        ++resumed;
        co_await turns(3);
        CHECK(resumed == 1);
        Resource bad{counts, 0, ungraceful};
        CHECK_FALSE((co_await torc::as_result(bad.close())).has_value());
        CHECK(torc::Executor::here().statistics().ungraceful_closes == 0);
        {
            const Resource dropped{counts, 0};
        }
        CHECK(counts.closed == 3);
        CHECK(torc::Executor::here().statistics().open_closes == 0);
    });
}

TEST_CASE("a resource that goes while another task awaits its close still reports to that task") {
    run_clean([]() -> task<> {
        Resource::Counts counts;
        auto resource = std::make_unique<Resource>(counts, 5, ungraceful);
        bool reported = false;
        auto closer = [&]() -> task<> {
            const auto outcome = co_await torc::as_result(resource->close());
            reported = !outcome && outcome.error().code() == ungraceful;
        };
        auto dropper = [&]() -> task<> {
            co_await torc::yield();
            resource.reset();
        };
        co_await torc::gather(closer(), dropper());
        CHECK(reported);
        CHECK(counts.closed == 1);
    });
}

TEST_CASE("closing runs its course in a cancelled scope") {
    run_clean([]() -> task<> {
        Resource::Counts counts;
        bool closed = false;
        co_await torc::with_scope([&](scope& here) -> task<> {
            Resource mine{counts, 5};
            here.cancel();
            co_await mine.close();
            closed = counts.closed == 1;
        });
        CHECK(closed);
    });
}

TEST_CASE("an awaited close throws its error, one from a destructor is counted") {
    run_clean([]() -> task<> {
        Resource::Counts counts;
        auto dropped = [&]() -> task<> {
            const Resource mine{counts, 2, ungraceful};
            co_return;
        };
        co_await dropped();
        CHECK(torc::Executor::here().statistics().ungraceful_closes == 1);
        Resource mine{counts, 2, ungraceful};
        CHECK_THROWS_AS(co_await mine.close(), Error);
        CHECK(torc::Executor::here().statistics().ungraceful_closes == 1);
        CHECK(torc::Executor::here().statistics().closes == 2);
    });
}

TEST_CASE("a thousand resources of one frame, and frames a thousand deep") {
    run_clean([]() -> task<> {
        Resource::Counts counts;
        auto many = [&]() -> task<> {
            std::vector<Resource> all;
            for (int index = 0; index < 1000; ++index) all.emplace_back(counts, index % 5);
            co_return;
        };
        co_await many();
        CHECK(counts.closed == 1000);
        struct deep {
            static task<> run(Resource::Counts& all, int levels) {
                const Resource mine{all, levels % 3};
                if (levels > 0) co_await run(all, levels - 1);
            }
        };
        co_await deep::run(counts, 1000);
        CHECK(counts.closed == 2001);
        CHECK(counts.open == 0);
    });
}

TEST_CASE("with the plug pulled at any await, everything is closed when its task has ended") {
    Resource::Counts counts;
    pull_the_plug(
        [&]() -> task<> {
            Resource::Counts inner;
            auto checked = [&](task<> child) -> task<> {
                try {
                    co_await std::move(child);
                } catch (...) {
                    CHECK(inner.open == 0);
                    throw;
                }
                CHECK(inner.open == 0);
            };
            co_await checked(leave(inner, way::returns));
            auto closes = [](Resource mine) -> task<> {
                co_await turns(1);
                co_await mine.close();
                co_await turns(1);
            };
            co_await closes(Resource{counts, 3});
        },
        [&](bool) { CHECK(counts.open == 0); });
}
