#include <doctest/doctest.h>

#include <string>

#include <torc/http/message.hpp>

#include "transcript.hpp"

using namespace torc::http;

namespace {

template <class Head>
std::string written(const Head& head) {
    std::string out = "before ";
    const auto good = append_head(out, head);
    if (!good) {
        CHECK(out == "before ");
        CHECK(good.error().code() == errc::bad_header);
        return "error: " + std::string{good.error().message()};
    }
    return out.substr(7);
}

RequestHead request(std::string method, std::string target) {
    RequestHead head;
    head.method = std::move(method);
    head.target = std::move(target);
    return head;
}

ResponseHead response(int status, std::string reason = "") {
    ResponseHead head;
    head.status = status;
    head.reason = std::move(reason);
    return head;
}

}  // namespace

TEST_SUITE("message") {
    TEST_CASE("writes a request head") {
        RequestHead head = request("POST", "/a?b");
        head.headers = Headers{{"Host", "x"}, {"A", ""}};
        CHECK(written(head) == "POST /a?b HTTP/1.1\r\nHost: x\r\nA: \r\n\r\n");
        head.minor_version = 0;
        CHECK(written(head).starts_with("POST /a?b HTTP/1.0\r\n"));
    }

    TEST_CASE("writes a response head, with the registry's words where none are given") {
        CHECK(written(response(404)) == "HTTP/1.1 404 Not Found\r\n\r\n");
        CHECK(written(response(404, "Nope")) == "HTTP/1.1 404 Nope\r\n\r\n");
        CHECK(written(response(599)) == "HTTP/1.1 599 \r\n\r\n");
    }

    TEST_CASE("refuses what would break out of the start line, and writes nothing then") {
        CHECK(written(request("GET /x HTTP/1.1\r\nA:", "/")) ==
              "error: \"GET /x HTTP/1.1\\x0d\\x0aA:\" can not be a method");
        CHECK(written(request("", "/")) == "error: \"\" can not be a method");
        CHECK(written(request("GET", "/a b")) == "error: \"/a b\" can not be a request target");
        CHECK(written(request("GET", "/a\r\nX: y")) == "error: \"/a\\x0d\\x0aX: y\" can not be a request target");
        CHECK(written(request("GET", "")) == "error: \"\" can not be a request target");
        CHECK(written(response(99)) == "error: 99 can not be a status");
        CHECK(written(response(200, "OK\r\nX: y")) ==
              "error: the reason phrase \"OK\\x0d\\x0aX: y\" contains a control character");
    }

    TEST_CASE("writes chunk headers of every size") {
        CHECK(ChunkHeader{1}.view() == "1\r\n");
        CHECK(ChunkHeader{255}.view() == "ff\r\n");
        CHECK(ChunkHeader{4096}.view() == "1000\r\n");
        CHECK(ChunkHeader{~std::uint64_t{0}}.view() == "ffffffffffffffff\r\n");
    }

    TEST_CASE("writes trailers, but not those that were needed before") {
        std::string out;
        REQUIRE(append_last_chunk(out, Headers{{"Digest", "x"}}));
        CHECK(out == "0\r\nDigest: x\r\n\r\n");
        const auto refused = append_last_chunk(out, Headers{{"content-length", "5"}});
        REQUIRE_FALSE(refused);
        CHECK(refused.error().message() == "the header \"content-length\" may not be sent as a trailer");
        CHECK(out == "0\r\nDigest: x\r\n\r\n");
    }

    TEST_CASE("what it writes is read back as it was") {
        RequestHead head = request("PUT", "/x");
        head.headers = Headers{{"Host", "h:1"}, {"Transfer-Encoding", "chunked"}, {"X", "\xc3\xa9 \t ?"}};
        std::string bytes = written(head);
        for (const std::string body : {"hello", "world!"}) {
            bytes.append(ChunkHeader{body.size()}.view()).append(body).append(chunk_end);
        }
        REQUIRE(append_last_chunk(bytes, Headers{{"T", "v"}}));
        CHECK(read_whole(bytes, {}).all() ==
              "PUT /x 1.1\nHost=h:1\nTransfer-Encoding=chunked\nX=\xc3\xa9 \t ?\nbody=helloworld!\ntrailer T=v\n"
              "end, keep-alive\nbody=\nerror: ");
    }
}
