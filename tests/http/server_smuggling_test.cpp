#include <torc/runtime/as_result.hpp>

#include "malformed.hpp"
#include "server_client.hpp"

// Goal: over a real connection too, nothing that stands behind a malformed request is ever served, whoever reads the
// body or does not, and whether it comes at once or byte by byte. Method: every row of the table with a second request
// behind it; the handler keeps a log of what it was asked. The neighbour of each row is served, and so is what follows
// it.

using namespace torc;
using namespace torc::testing;
using http::Responder;
using http::ServerFault;
using http::ServerOptions;
using http::ServerRequest;

namespace {

struct HandlerLog {
    std::vector<std::string> asked;   ///< "GET /"
    std::vector<std::string> served;  ///< with the body: "POST / hello"

    void clear() { *this = {}; }
};

/// Sends `bytes`, at once or one by one, and gives what comes until the server ends the connection.
task<std::string> talk(http::Server& server, std::string bytes, bool one_by_one) {
    RawClient client = co_await RawClient::connect(server);
    if (one_by_one) {
        for (const char byte : bytes) {
            task<> sending = client.send(std::string(1, byte));
            // Refused already, and the server has given up waiting for the rest.
            const result<void> sent = co_await as_result(std::move(sending));
            if (!sent) break;
        }
    } else {
        co_await client.send(bytes);
    }
    std::string answers = co_await client.receive_rest();
    co_return answers;
}

std::size_t count(std::string_view text, std::string_view part) {
    std::size_t found = 0;
    for (std::size_t at = 0; (at = text.find(part, at)) != std::string_view::npos; at += part.size()) ++found;
    return found;
}

void expect_refusal(const Malformed& row, const std::string& answers, const HandlerLog& log) {
    INFO("answers: ", answers);
    CHECK(answers.starts_with("HTTP/1.1 " + std::to_string(row.status) + " "));
    CHECK(answers.find("\r\nConnection: close\r\n") != std::string::npos);
    CHECK(count(answers, "\nHTTP/1.1 ") == 0);
    CHECK(log.served.empty());
    // A head that is in order may have been shown to the handler before its body was refused.
    CHECK((log.asked.empty() || log.asked == std::vector<std::string>{"POST /"}));
}

void expect_service(const Malformed& row, const std::string& answers, const HandlerLog& log) {
    INFO("answers: ", answers);
    REQUIRE(log.served.size() == 2);
    CHECK(log.served[0] == row.seen);
    CHECK(log.served[1] == "GET /next ");
    CHECK(count(answers, "HTTP/1.1 200 OK\r\n") == 2);
    CHECK(answers.ends_with("\r\n\r\nGET /next "));
}

const std::string next_request = "GET /next HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

ServerOptions with_small_limits() {
    ServerOptions options;
    options.limits = malformed_limits();
    return options;
}

}  // namespace

TEST_SUITE("http server: smuggling") {
    TEST_CASE("a malformed request gets its answer, nothing behind it is served, and its neighbour is") {
        HandlerLog log;
        auto handler = [&log](ServerRequest& request, Responder& response) -> task<> {
            const std::string head = std::string{request.method()} + " " + std::string{request.target()};
            log.asked.push_back(head);
            const std::string body = co_await request.text();
            log.served.push_back(head + " " + body);
            co_await response.send(200, log.served.back());
        };
        const std::vector<Malformed> table = everything_malformed(true);
        auto body = [&](http::Server& server) -> task<> {
            for (const Malformed& row : table) {
                CAPTURE(row.what);
                for (const bool one_by_one : {false, true}) {
                    CAPTURE(one_by_one);
                    log.clear();
                    const std::string refused =
                        co_await talk(server, row.bad + std::string{hidden_request}, one_by_one);
                    expect_refusal(row, refused, log);
                    log.clear();
                    const std::string served = co_await talk(server, row.good + next_request, one_by_one);
                    expect_service(row, served, log);
                }
            }
        };
        const FaultLog faults = with_server(handler, body, with_small_limits());
        CHECK(faults.count(ServerFault::stage::request) == faults.all.size());
        CHECK(faults.all.size() == 2 * table.size());
    }

    TEST_CASE("a body that nobody reads hides nothing either") {
        HandlerLog log;
        auto handler = [&log](ServerRequest& request, Responder& response) -> task<> {
            log.served.push_back(std::string{request.method()} + " " + std::string{request.target()});
            co_await response.send(200, log.served.back());
        };
        auto body = [&](http::Server& server) -> task<> {
            for (const Malformed& row : malformed_chunks(true)) {
                CAPTURE(row.what);
                for (const bool one_by_one : {false, true}) {
                    CAPTURE(one_by_one);
                    log.clear();
                    const std::string cut = co_await talk(server, row.bad + std::string{hidden_request}, one_by_one);
                    CHECK(cut == ok("POST /"));
                    CHECK(log.served == std::vector<std::string>{"POST /"});
                    log.clear();
                    const std::string served = co_await talk(server, row.good + next_request, one_by_one);
                    CHECK(log.served == std::vector<std::string>{"POST /", "GET /next"});
                    CHECK(count(served, "HTTP/1.1 200 OK\r\n") == 2);
                }
            }
        };
        const FaultLog faults = with_server(handler, body, with_small_limits());
        CHECK(faults.count(ServerFault::stage::request) == faults.all.size());
    }

    TEST_CASE("nothing behind a CONNECT request is served, whether or not it is in order") {
        HandlerLog log;
        auto handler = [&log](ServerRequest& request, Responder& response) -> task<> {
            log.asked.emplace_back(request.target());
            co_await response.send(200);
        };
        auto body = [&](http::Server& server) -> task<> {
            const std::string head = "CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\n";
            for (const bool one_by_one : {false, true}) {
                std::string answer = co_await talk(server, head + "\r\n" + next_request, one_by_one);
                CHECK(answer.starts_with("HTTP/1.1 501 Not Implemented\r\n"));
                CHECK(count(answer, "\nHTTP/1.1 ") == 0);
                answer = co_await talk(server, head + "Content-Length: 5\r\n\r\nhello" + next_request, one_by_one);
                CHECK(answer.starts_with("HTTP/1.1 400 Bad Request\r\n"));
                CHECK(count(answer, "\nHTTP/1.1 ") == 0);
            }
        };
        with_server(handler, body);
        CHECK(log.asked.empty());
    }
}
