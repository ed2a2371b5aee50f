#include <doctest/doctest.h>

#include <string>
#include <string_view>

#include "transcript.hpp"

// Goal: what the parser reports, in which order, and how it follows one message after the other. Method: transcripts,
// each of which has to be the same for every cut of the input.

using torc::http::body_kind;
using torc::http::errc;
using torc::http::Parser;

namespace {

Reading requests() { return {}; }

Reading responses(std::string_view to = "GET") {
    Reading how;
    how.side = Parser::role::response;
    how.answers = to;
    return how;
}

Reading ended(Reading how) {
    how.at_end = true;
    return how;
}

std::string read(std::string_view bytes, const Reading& how) {
    const auto ways = read_every_way(bytes, how);
    CHECK(ways.size() == 1);
    if (ways.size() > 1) CHECK(ways[0] == ways[1]);
    return ways[0];
}

std::span<const std::byte> bytes_of(std::string_view text) { return std::as_bytes(std::span{text}); }

}  // namespace

TEST_SUITE("parser") {
    TEST_CASE("reads a request without a body") {
        CHECK(read("GET /a?b HTTP/1.1\r\nHost: x\r\nAccept:  */*  \r\n\r\n", requests()) ==
              "GET /a?b 1.1\nHost=x\nAccept=*/*\nbody=\nend, keep-alive\nbody=\nerror: ");
    }

    TEST_CASE("reads a request with a body of known length, and the one behind it") {
        CHECK(read("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\nHost: x\r\n\r\n",
                   requests()) ==
              "POST / 1.1\nHost=x\nContent-Length=5\nbody=hello\nend, keep-alive\n"
              "GET /b 1.1\nHost=x\nbody=\nend, keep-alive\nbody=\nerror: ");
    }

    TEST_CASE("reads a chunked body with extensions and trailers") {
        CHECK(read("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: Chunked\r\n\r\n"
                   "5;a=b;c=\"d;\\\"e\"\r\nhello\r\n00A\r\n 123456789\r\n0\r\nDigest: abc\r\nX: \ty\r\n\r\n",
                   requests()) ==
              "POST / 1.1\nHost=x\nTransfer-Encoding=Chunked\nbody=hello 123456789\ntrailer Digest=abc\ntrailer X=y\n"
              "end, keep-alive\nbody=\nerror: ");
    }

    TEST_CASE("reads a body that lasts until the end of the stream") {
        CHECK(read("HTTP/1.1 200 OK\r\n\r\nhello", ended(responses())) ==
              "200 [OK] 1.1\nbody=hello\nend, close\nerror: ");
        CHECK(read("HTTP/1.0 200\r\n\r\n", ended(responses())) == "200 [] 1.0\nbody=\nend, close\nerror: ");
    }

    TEST_CASE("responses to HEAD, and 204 and 304, have no body whatever they say") {
        const std::string_view next = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
        const std::string then = "200 [OK] 1.1\nContent-Length=0\nbody=\nend, keep-alive\nbody=\nerror: ";
        CHECK(read("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n" + std::string{next}, responses("HEAD")) ==
              "200 [OK] 1.1\nContent-Length=9\nbody=\nend, keep-alive\n" + then);
        CHECK(read("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n" + std::string{next}, responses()) ==
              "304 [Not Modified] 1.1\nContent-Length=9\nbody=\nend, keep-alive\n" + then);
        CHECK(read("HTTP/1.1 204 No Content\r\n\r\n" + std::string{next}, responses()) ==
              "204 [No Content] 1.1\nbody=\nend, keep-alive\n" + then);
    }

    TEST_CASE("a connection is not reused behind a 204 or 1xx that announces a body") {
        CHECK(read("HTTP/1.1 204 No Content\r\nContent-Length: 9\r\n\r\n", responses()) ==
              "204 [No Content] 1.1\nContent-Length=9\nbody=\nend, close\nbody=\nerror: ");
        CHECK(read("HTTP/1.1 103 X\r\nContent-Length: 9\r\n\r\nHTTP/1.1 204 OK\r\n\r\n", responses()) ==
              "interim 103 [X] 1.1\nContent-Length=9\n204 [OK] 1.1\nbody=\nend, close\nbody=\nerror: ");
    }

    TEST_CASE("interim responses come before the final one") {
        CHECK(read("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
                   "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
                   responses()) ==
              "interim 100 [Continue] 1.1\ninterim 103 [Early Hints] 1.1\nLink=</a>\n"
              "200 [OK] 1.1\nContent-Length=2\nbody=ok\nend, keep-alive\nbody=\nerror: ");
    }

    TEST_CASE("101 and a tunnel end HTTP, and nothing behind the head is touched") {
        const Transcript upgraded =
            read_whole("HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n\x01\x02", responses());
        CHECK(upgraded.text == "101 [Switching Protocols] 1.1\nUpgrade=x\nbody=\nend, close\nupgrade\n");
        CHECK(upgraded.consumed_bytes == 48);
        const Transcript tunnel =
            read_whole("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n\x16\x03", responses("CONNECT"));
        CHECK(tunnel.text == "200 [OK] 1.1\nContent-Length=4\nbody=\nend, close\nupgrade\n");
        CHECK(tunnel.consumed_bytes == 38);
        CHECK(read("HTTP/1.1 407 No\r\nContent-Length: 2\r\n\r\nno", responses("CONNECT")) ==
              "407 [No] 1.1\nContent-Length=2\nbody=no\nend, keep-alive\nbody=\nerror: ");
        const Transcript connect = read_whole("CONNECT h:443 HTTP/1.1\r\nHost: h:443\r\n\r\n\x16\x03", requests());
        CHECK(connect.text == "CONNECT h:443 1.1\nHost=h:443\nbody=\nend, close\nupgrade\n");
    }

    TEST_CASE("a request to upgrade may be answered as if it were an ordinary one") {
        Reading how = requests();
        how.stop_at_upgrade = false;
        CHECK(
            read("POST / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nhi"
                 "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
                 how) ==
            "POST / 1.1\nHost=x\nConnection=upgrade\nUpgrade=h2c\nContent-Length=2\nbody=hi\nend, keep-alive\nupgrade\n"
            "GET / 1.1\nHost=x\nbody=\nend, keep-alive\nbody=\nerror: ");
    }

    TEST_CASE("keep-alive follows the version and the Connection header") {
        const auto keeps = [](std::string_view start, std::string_view field) {
            const std::string text = std::string{start} + "Host: x\r\n" + std::string{field} + "\r\n";
            return read_whole(text, requests()).text.find("keep-alive\nbody") != std::string::npos;
        };
        CHECK(keeps("GET / HTTP/1.1\r\n", ""));
        CHECK_FALSE(keeps("GET / HTTP/1.1\r\n", "Connection: close\r\n"));
        CHECK_FALSE(keeps("GET / HTTP/1.1\r\n", "Connection: keep-alive, Close\r\n"));
        CHECK_FALSE(keeps("GET / HTTP/1.0\r\n", ""));
        CHECK(keeps("GET / HTTP/1.0\r\n", "Connection: Keep-Alive\r\n"));
    }

    TEST_CASE("bytes behind the last message of a connection are refused") {
        const Transcript t =
            read_whole("GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\nGET /b HTTP/1.1\r\n\r\n", requests());
        CHECK(t.code == errc::after_close);
        CHECK(t.messages == 1);
    }

    TEST_CASE("methods that not every release of llhttp knows are read alike") {
        CHECK(read("QUERY /a HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\n\r\nq", requests()) ==
              "QUERY /a 1.1\nHost=x\nContent-Length=1\nbody=q\nend, keep-alive\nbody=\nerror: ");
        CHECK(read("OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", requests()) ==
              "OPTIONS * 1.1\nHost=x\nbody=\nend, keep-alive\nbody=\nerror: ");
        CHECK(read("GET http://h/x HTTP/1.1\r\nHost: h\r\n\r\n", requests()) ==
              "GET http://h/x 1.1\nHost=h\nbody=\nend, keep-alive\nbody=\nerror: ");
    }

    TEST_CASE("an end of stream in the middle of a message says what is missing") {
        CHECK(read("GET / HTT", ended(requests())) == "body=\nerror: the connection ended in the middle of the head");
        CHECK(read("HTTP/1.1 100 Continue\r\n\r\n", ended(responses())) ==
              "interim 100 [Continue] 1.1\nbody=\nerror: the connection ended in the middle of the head");
        CHECK(read("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhel", ended(responses())) ==
              "200 [OK] 1.1\nContent-Length=5\nbody=hel\nerror: the connection ended too early: 2 bytes of the body "
              "are missing");
        CHECK(read("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n", ended(responses())) ==
              "200 [OK] 1.1\nTransfer-Encoding=chunked\nbody=hel\n"
              "error: the connection ended too early: the chunked body is not complete");
        CHECK(read_whole("GET / HTT", ended(requests())).code == errc::unexpected_eof);
    }

    TEST_CASE("an end of stream between messages is fine") {
        CHECK(read("", ended(requests())) == "error: ");
        CHECK(read("\r\n", ended(requests())) == "error: ");
        CHECK(read("GET / HTTP/1.1\r\nHost: x\r\n\r\n", ended(requests())) ==
              "GET / 1.1\nHost=x\nbody=\nend, keep-alive\nerror: ");
    }

    TEST_CASE("body spans point into what was fed") {
        Parser parser{Parser::role::response};
        const std::string text = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
        auto in = bytes_of(text);
        auto step = parser.feed(in);
        REQUIRE(step);
        CHECK(step->what == Parser::event::head);
        CHECK(step->consumed_bytes == text.size() - 5);
        CHECK(parser.body() == body_kind::length);
        CHECK(parser.content_length() == 5);
        CHECK(parser.head_done());
        CHECK_FALSE(parser.done());
        in = in.subspan(step->consumed_bytes);
        step = parser.feed(in);
        REQUIRE(step);
        CHECK(step->what == Parser::event::body);
        CHECK(step->body.data() == in.data());
        CHECK(step->body.size() == 5);
        CHECK(parser.done());
        step = parser.feed({});
        REQUIRE(step);
        CHECK(step->what == Parser::event::end);
    }

    TEST_CASE("a head may be taken away and outlives the parser") {
        torc::http::RequestHead head;
        {
            Parser parser{Parser::role::request};
            REQUIRE(parser.feed(bytes_of("GET /x HTTP/1.1\r\nHost: some.long.host.example.com\r\n\r\n")));
            head = parser.take_request();
            REQUIRE(parser.done());
            parser.next_message();
            REQUIRE(parser.feed(bytes_of("GET /y HTTP/1.1\r\nHost: y\r\n\r\n")));
            CHECK(parser.request().target == "/y");
        }
        CHECK(head.target == "/x");
        CHECK(head.headers.get("host") == "some.long.host.example.com");
        head.headers.set("Host", "z");
        CHECK(head.headers.get("host") == "z");
    }

    TEST_CASE("nothing is consumed behind a message until the next one is asked for") {
        Parser parser{Parser::role::request};
        const std::string_view text = "GET /x HTTP/1.1\r\nHost: x\r\n\r\nGET /y";
        auto step = parser.feed(bytes_of(text));
        REQUIRE(step);
        const auto rest = bytes_of(text).subspan(step->consumed_bytes);
        for (int i = 0; i < 3; ++i) {
            step = parser.feed(rest);
            REQUIRE(step);
            CHECK(step->what == Parser::event::end);
            CHECK(step->consumed_bytes == 0);
        }
        CHECK(parser.request().target == "/x");
        parser.next_message();
        CHECK_FALSE(parser.started());
        step = parser.feed(rest);
        REQUIRE(step);
        CHECK(step->what == Parser::event::need_more);
        CHECK(parser.started());
    }

    TEST_CASE("a message has started from its first byte to its end, among the trailers too") {
        Parser parser{Parser::role::response};
        CHECK_FALSE(parser.started());
        const std::string text = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n";
        for (const char byte : text) {
            for (auto rest = std::as_bytes(std::span{&byte, 1}); !rest.empty();) {
                const auto step = parser.feed(rest);
                REQUIRE(step);
                rest = rest.subspan(step->consumed_bytes);
            }
            CHECK(parser.started());
        }
        CHECK(parser.done());
        parser.next_message();
        CHECK_FALSE(parser.started());
    }

    TEST_CASE("an error is final") {
        Parser parser{Parser::role::request};
        const auto first = parser.feed(bytes_of("GET / HTTP/1.1\n"));
        REQUIRE_FALSE(first);
        const auto second = parser.feed(bytes_of("GET / HTTP/1.1\r\nHost: x\r\n\r\n"));
        REQUIRE_FALSE(second);
        CHECK(std::string{first.error().what()} == second.error().what());
        CHECK_FALSE(parser.finish());
    }

    TEST_CASE("each bound has its own error") {
        torc::http::Limits limits;
        limits.max_line_bytes = 40;
        limits.max_head_bytes = 100;
        limits.max_headers = 3;
        limits.max_trailer_bytes = 50;
        limits.max_chunk_line_bytes = 20;
        limits.max_chunk_extension_bytes = 30;
        limits.max_interim_responses = 2;
        limits.max_body_bytes = 8;
        const auto outcome = [&](std::string_view bytes, Reading how) {
            how.options.limits = limits;
            how.options.require_host = false;
            read(bytes, how);
            const Transcript t = read_whole(bytes, how);
            return t.refused() ? t.error : "accepted";
        };
        const std::string get = "GET / HTTP/1.1\r\n";
        CHECK(outcome("GET /" + std::string(40, 'a'), requests()) == "a header line is longer than 40 bytes");
        CHECK(outcome(get + "A: " + std::string(37, 'a') + "\r\n\r\n", requests()) == "accepted");
        CHECK(outcome(get + "A: " + std::string(38, 'a') + "\r\n\r\n", requests()) ==
              "a header line is longer than 40 bytes");
        CHECK(outcome(get + "A: " + std::string(35, 'a') + "\r\nB: " + std::string(37, 'b') + "\r\nC: d\r\n\r\n",
                      requests()) == "the head is larger than 100 bytes");
        CHECK(outcome(get + "A:1\r\nB:2\r\nC:3\r\n\r\n", requests()) == "accepted");
        CHECK(outcome(get + "A:1\r\nB:2\r\nC:3\r\nD:4\r\n\r\n", requests()) == "there are more than 3 header lines");
        CHECK(outcome("PUT / HTTP/1.1\r\nContent-Length: 9\r\n\r\n", requests()) == "the body is larger than 8 bytes");
        const std::string chunked = "PUT / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        CHECK(outcome(chunked + "8\r\n12345678\r\n0\r\n\r\n", requests()) == "accepted");
        CHECK(outcome(chunked + "5\r\n12345\r\n4\r\n", requests()) == "the body is larger than 8 bytes");
        CHECK(outcome(chunked + "1;a=12345678901234567\r\n", requests()) == "a chunk line is longer than 20 bytes");
        CHECK(outcome(chunked + "1;a=1234567890123\r\nx\r\n1;a=1234567890123\r\n", requests()) ==
              "the chunk extensions are larger than 30 bytes together");
        CHECK(outcome(chunked + "0\r\nA: " + std::string(30, 'a') + "\r\nB: " + std::string(30, 'b'), requests()) ==
              "the trailer section is larger than 50 bytes");
        CHECK(outcome(chunked + "0\r\nA:1\r\nB:2\r\nC:3\r\nD:4\r\n\r\n", requests()) ==
              "there are more than 3 header lines");
        CHECK(outcome("HTTP/1.1 200 OK\r\n\r\n12345678", ended(responses())) == "accepted");
        CHECK(outcome("HTTP/1.1 200 OK\r\n\r\n123456789", responses()) == "the body is larger than 8 bytes");
        CHECK(outcome("HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n", responses("HEAD")) == "accepted");
        const std::string interim = "HTTP/1.1 100 X\r\n\r\n";
        CHECK(outcome(interim + interim + interim, responses()) == "there are more than 2 interim responses");
    }
}
