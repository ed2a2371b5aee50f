#include <doctest/doctest.h>

#include <cerrno>

#include <torc/runtime/error.hpp>

using torc::errc;
using torc::Error;

TEST_SUITE("error") {
    TEST_CASE("says the phase, the peer and what happened, in that order") {
        Error error = torc::error_from_result(-ECONNREFUSED, torc::phase::connect, "connect");
        error.with_peer("127.0.0.1:443");
        CHECK(std::string{error.what()} == "connect: 127.0.0.1:443: connection refused");
        CHECK(error.code() == std::errc::connection_refused);
    }

    TEST_CASE("a detail replaces the code's own words") {
        Error error{errc::invalid_argument, torc::phase::head, "", "the head is larger than 64 KiB"};
        CHECK(std::string{error.what()} == "head: the head is larger than 64 KiB");
        CHECK(error.code() == errc::invalid_argument);
    }

    TEST_CASE("changing a copy leaves the original as it was") {
        Error first{errc::timed_out, torc::phase::tls};
        Error second = first;
        second.at(torc::phase::body).attach(std::make_exception_ptr(1));
        CHECK(first.where() == torc::phase::tls);
        CHECK(first.attached().empty());
        CHECK(second.where() == torc::phase::body);
        CHECK(second.attached().size() == 1);
    }

    TEST_CASE("timed_out equals the standard condition") {
        CHECK(Error{errc::timed_out, {}}.code() == std::errc::timed_out);
    }
}
