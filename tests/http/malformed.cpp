#include "malformed.hpp"

#include <iterator>
#include <utility>

// Every row names one fault. Its neighbour is a message as like it as can be that is in order, so that no reader passes
// by refusing everything: where a row gives none, that is a plain message of the same kind.

namespace torc::testing {
namespace {

using http::errc;

const std::string nul(1, '\0');

// A literal may contain no NUL, so each is put in by name.
struct Row {
    std::string what;
    std::string bad;
    std::string good = {};
    errc code = errc::bad_framing;
    std::string body = {};  // of the neighbour, where it has one of its own
    int status = 400;
};

const std::string with_length = "Content-Length: 5\r\n\r\nhello";
const std::string with_chunks = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";

std::string times(std::size_t count, std::string_view text) {
    std::string all;
    for (std::size_t i = 0; i < count; ++i) all += text;
    return all;
}

std::vector<Row> length_rows() {
    return {
        {"two lengths that differ", "Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello"},
        {"the same length twice", "Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello"},
        {"two lengths, one in small letters", "Content-Length: 5\r\ncontent-length: 0\r\n\r\nhello"},
        {"a list of equal lengths", "Content-Length: 5, 5\r\n\r\nhello"},
        {"a list of different lengths", "Content-Length: 5, 6\r\n\r\nhello"},
        {"a length and a comma", "Content-Length: 5,\r\n\r\nhello"},
        {"a comma and a length", "Content-Length: ,5\r\n\r\nhello"},
        {"an empty length", "Content-Length:\r\n\r\nhello", "Content-Length:5\r\n\r\nhello"},
        {"a length of spaces", "Content-Length: \t \r\n\r\nhello", "Content-Length: \t 5 \t \r\n\r\nhello"},
        {"a plus sign", "Content-Length: +5\r\n\r\nhello"},
        {"a minus sign", "Content-Length: -5\r\n\r\nhello"},
        {"minus zero", "Content-Length: -0\r\n\r\nhello"},
        {"a space inside a length", "Content-Length: 5 5\r\n\r\nhello"},
        {"a tab inside a length", "Content-Length: 5 \t5\r\n\r\nhello"},
        {"a hexadecimal length", "Content-Length: 0x5\r\n\r\nhello", "Content-Length: 05\r\n\r\nhello"},
        {"a letter behind a length", "Content-Length: 5a\r\n\r\nhello"},
        {"a fraction", "Content-Length: 5.0\r\n\r\nhello"},
        {"an exponent", "Content-Length: 1e1\r\n\r\nhello"},
        {"a quoted length", "Content-Length: \"5\"\r\n\r\nhello"},
        {"a length with a parameter", "Content-Length: 5;x\r\n\r\nhello"},
        {"a length with an underscore", "Content-Length: 1_0\r\n\r\nhello"},
        {"a length of 2^63", "Content-Length: 9223372036854775808\r\n\r\nhello",
         "Content-Length: 0000000000000000005\r\n\r\nhello"},
        {"a length of 2^64 + 5", "Content-Length: 18446744073709551621\r\n\r\nhello",
         "Content-Length: 00000000000000000005\r\n\r\nhello"},
        {"a length of 2^32 + 5, which is beyond the limit", "Content-Length: 4294967301\r\n\r\nhello", "",
         errc::body_too_large, "", 413},
        {"a length of 23 digits", "Content-Length: 99999999999999999999999\r\n\r\nhello"},
        {"a digit that is not ASCII", "Content-Length: \xef\xbc\x95\r\n\r\nhello"},
        {"a byte that is no digit", "Content-Length: \xb5\r\n\r\nhello"},
    };
}

std::vector<Row> coding_rows() {
    return {
        {"a length, then chunks", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
        {"chunks, then a length", "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"},
        {"chunks, then a length of 0", "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n"},
        {"a length, then another coding", "Content-Length: 5\r\nTransfer-Encoding: identity\r\n\r\nhello"},
        {"the coding identity", "Transfer-Encoding: identity\r\n\r\nhello"},
        {"the coding gzip", "Transfer-Encoding: gzip\r\n\r\nhello"},
        {"gzip, then chunked", "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
        {"chunked, then gzip", "Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n"},
        {"chunked, then identity", "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n"},
        {"identity, then chunked", "Transfer-Encoding: identity, chunked\r\n\r\n0\r\n\r\n"},
        {"chunked in chunked", "Transfer-Encoding: chunked, chunked\r\n\r\n0\r\n\r\n"},
        {"chunked and a comma", "Transfer-Encoding: chunked,\r\n\r\n0\r\n\r\n"},
        {"a comma and chunked", "Transfer-Encoding: ,chunked\r\n\r\n0\r\n\r\n"},
        {"chunked in two headers", "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
        {"chunked, and identity in a second header",
         "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"},
        {"identity, and chunked in a second header",
         "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
        {"two headers, one in small letters", "transfer-encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n",
         "transfer-encoding: CHUNKED\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
        {"a name that ends in chunked", "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n"},
        {"a name that begins with chunked", "Transfer-Encoding: chunkedx\r\n\r\n0\r\n\r\n"},
        {"a parameter", "Transfer-Encoding: chunked;q=1\r\n\r\n0\r\n\r\n"},
        {"quotes", "Transfer-Encoding: \"chunked\"\r\n\r\n0\r\n\r\n"},
        {"a space inside", "Transfer-Encoding: chun ked\r\n\r\n0\r\n\r\n"},
        {"an empty coding", "Transfer-Encoding:\r\n\r\n0\r\n\r\n",
         "Transfer-Encoding:chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"},
        {"a vertical tab before chunked",
         "Transfer-Encoding: \x0b"
         "chunked\r\n\r\n0\r\n\r\n",
         "Transfer-Encoding: \tchunked\t \r\n\r\n5\r\nhello\r\n0\r\n\r\n", errc::bad_message},
        {"a vertical tab behind chunked", "Transfer-Encoding: chunked\x0b\r\n\r\n0\r\n\r\n", "", errc::bad_message},
        {"a no-break space before chunked",
         "Transfer-Encoding: \xa0"
         "chunked\r\n\r\n0\r\n\r\n"},
    };
}

// With whom the framing field is not the fault itself, but would be hidden or shown by it.
std::vector<Row> line_rows() {
    const std::string length = "Content-Length: 5\r\n\r\nhello";
    std::vector<Row> rows = {
        {"a space before the colon of a length", "Content-Length : 5\r\n\r\nhello"},
        {"a tab before the colon of a length", "Content-Length\t: 5\r\n\r\nhello"},
        {"a space before the colon of a coding", "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", with_chunks},
        {"a tab before the colon of a coding", "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n", with_chunks},
        {"a no-break space before the colon", "Content-Length\xa0: 5\r\n\r\nhello"},
        {"a space before the name", " Content-Length: 5\r\n\r\nhello"},
        {"a byte order mark before the name", "\xef\xbb\xbf" + length},
        {"a length folded into the line before", "X: y\r\n Content-Length: 5\r\n\r\nhello", "X: y\r\n" + length},
        {"a folded line before a length", "X: y\r\n\tz\r\nContent-Length: 5\r\n\r\nhello", "X: y\tz\r\n" + length},
        {"a fold behind a coding", "Transfer-Encoding: chunked\r\n z\r\n\r\n0\r\n\r\n", with_chunks},
        {"a coding behind a fold", "Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n", with_chunks},
        {"a length behind a fold", "Content-Length:\r\n\t5\r\n\r\nhello"},
        {"a line of spaces", "X: y\r\n  \r\n" + length, "X: y  \r\n" + length},
        {"no name", ": 5\r\nContent-Length: 5\r\n\r\nhello"},
        {"no colon", "Content-Length\r\n\r\nhello"},
        {"a space inside a name", "Content Length: 5\r\n\r\nhello", "X-Content_Length: 6\r\n" + length},
        {"a name that is no token", "X(: y\r\n" + length, "!#$%&'*+-.^_`|~: y\r\n" + length},
        {"a quoted name", "\"X\": y\r\n" + length, "X: \"y\"\r\n" + length},
        {"a line feed alone between headers", "X: y\nContent-Length: 5\r\n\r\nhello", "X: y\r\n" + length},
        {"a carriage return alone between headers", "X: y\rContent-Length: 5\r\n\r\nhello", "X: y\r\n" + length},
        {"two carriage returns", "X: y\r\r\n" + length, "X: y\r\n" + length},
        {"line feed and carriage return swapped", "X: y\n\r" + length, "X: y\r\n" + length},
        {"line feeds at the end of the head", "Content-Length: 5\n\nhello"},
        {"a line feed alone at the end of the head", "Content-Length: 5\r\n\nhello"},
        {"an end of the head with swapped bytes", "Content-Length: 5\n\r\nhello"},
        {"a carriage return alone at the end of the last header", "Content-Length: 5\r\rhello"},
        {"a carriage return alone at the end of the head", "Content-Length: 5\r\n\rhello"},
        {"a line feed inside a value that could hold a header", "X: y\nTransfer-Encoding: chunked\r\n" + length,
         "X: y Transfer-Encoding: chunked\r\n" + length},
        {"NUL in a value", "X: " + nul + "\r\n" + length, "X: 0\r\n" + length},
        {"NUL in a name", "X" + nul + ": y\r\n" + length, "X0: y\r\n" + length},
        {"NUL behind a length", "Content-Length: 5" + nul + "\r\n\r\nhello"},
        {"NUL behind a coding", "Transfer-Encoding: chunked" + nul + "\r\n\r\n0\r\n\r\n", with_chunks},
        {"a control byte in a value", "X: \x01\r\n" + length, "X: \x80\xff\r\n" + length},
        {"a control byte in a name", "X\x01: y\r\n" + length, "X: y\r\n" + length},
        {"DEL in a value", "X: \x7f\r\n" + length, "X: ~\r\n" + length},
        {"a form feed in a value", "X: \x0c\r\n" + length, "X: \t\r\n" + length},
        {"a byte beyond ASCII in a name", "\xc3\xa9: y\r\n" + length, "e: \xc3\xa9\r\n" + length},
    };
    for (Row& row : rows) {
        row.code = errc::bad_message;
        if (row.good.empty()) row.good = with_length;
    }
    const Row large[] = {
        {"a header line that is too long", "X: " + std::string(200, 'y') + "\r\n" + length,
         "X: " + std::string(120, 'y') + "\r\n" + length, errc::line_too_long, "", 431},
        {"a name that is too long", std::string(200, 'x') + ": y\r\n" + length,
         std::string(120, 'x') + ": y\r\n" + length, errc::line_too_long, "", 431},
        {"a head that is too large", times(4, "X: " + std::string(120, 'y') + "\r\n") + length,
         times(2, "X: " + std::string(120, 'y') + "\r\n") + length, errc::head_too_large, "", 431},
        {"too many headers", times(16, "X: y\r\n") + length, times(14, "X: y\r\n") + length, errc::too_many_headers, "",
         431},
        {"a length of so many zeros that the line is too long",
         "Content-Length: " + std::string(200, '0') + "5\r\n\r\nhello",
         "Content-Length: " + std::string(120, '0') + "5\r\n\r\nhello", errc::line_too_long, "", 431},
    };
    rows.insert(rows.end(), std::begin(large), std::end(large));
    return rows;
}

// Chunked bodies.
std::vector<Row> chunk_rows() {
    const std::string rest = "\r\na\r\n0\r\n\r\n";
    std::vector<Row> rows = {
        {"no size", "\r\n0\r\n\r\n"},
        {"a size that is no number", "x\r\n0\r\n\r\n"},
        {"a negative size", "-1\r\n0\r\n\r\n"},
        {"a size of minus zero", "-0\r\n\r\n", "00\r\n\r\n", errc::bad_framing, " "},
        {"a plus sign", "+1" + rest},
        {"a size that begins with 0x", "0x1" + rest, "01" + rest},
        {"a space before the size", " 1" + rest},
        {"a space behind the size", "1 " + rest},
        {"a tab behind the size", "1\t" + rest},
        {"a space before an extension", "1 ;a" + rest, "1;a" + rest},
        {"a letter behind the size", "1g" + rest, "a\r\n0123456789\r\n0\r\n\r\n", errc::bad_framing, "0123456789"},
        {"an underscore in the size", "0_1" + rest},
        {"a digit that is not ASCII", "\xef\xbc\x91" + rest},
        {"an extension without a name", "1;" + rest, "1;a" + rest},
        {"an extension without a name between others", "1;;a" + rest, "1;a;b" + rest},
        {"a space before an extension's name", "1; a" + rest, "1;a" + rest},
        {"an extension without its value", "1;a=" + rest, "1;a=b" + rest},
        {"an extension whose quotes do not end", "1;a=\"b" + rest, "1;a=\"b\"" + rest},
        {"an extension whose last quote is escaped", "1;a=\"b\\\"" + rest, "1;a=\"b\\\"\"" + rest},
        {"something behind the quotes", "1;a=\"b\"c" + rest, "1;a=\"b\";c" + rest},
        {"a line break in quotes", "1;a=\"\r\n\"" + rest, "1;a=\"\\r\\n\"" + rest},
        {"the end of the body in quotes", "1;a=\"\r\na\r\n0\r\n\r\n\"" + rest, "1;a=\"0\"" + rest},
        {"a size that is too large for 63 bits", "8000000000000000" + rest, "0000000000000001" + rest},
        {"a size that is too large for 64 bits by far", "ffffffffffffffff" + rest, "000000000000001" + rest},
        {"a size that is 1 to whoever keeps 64 bits", "10000000000000001" + rest},
        {"a size of 1 that has 17 digits", "00000000000000001" + rest, "0000000000000001" + rest},
        {"a size that is 1 to whoever keeps 32 bits", "100000001" + rest, "000000001" + rest, errc::body_too_large, "",
         413},
        {"zeros without end", std::string(40, '0') + "1" + rest, "0000000000000001" + rest},
        {"less than announced", "2" + rest, "2\r\naa\r\n0\r\n\r\n", errc::bad_framing, "aa"},
        {"more than announced", "1\r\nab\r\n0\r\n\r\n", "2\r\nab\r\n0\r\n\r\n", errc::bad_framing, "ab"},
        {"no line break behind the bytes", "1\r\na0\r\n\r\n"},
        {"two line breaks behind the bytes", "1\r\na\r\n\r\n0\r\n\r\n"},
        {"a line feed alone behind the bytes", "1\r\na\n0\r\n\r\n"},
        {"a carriage return alone behind the bytes", "1\r\na\r0\r\n\r\n"},
        {"no last chunk", "1\r\na\r\n\r\n"},
        {"a space behind the last size", "1\r\na\r\n0 \r\n\r\n", "1\r\na\r\n000\r\n\r\n"},
        {"a length among the trailers", "0\r\nContent-Length: 5\r\n\r\n", "0\r\nX-Length: 5\r\n\r\n", errc::bad_framing,
         " "},
        {"a coding among the trailers", "0\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\nX-Coding: chunked\r\n\r\n",
         errc::bad_framing, " "},
        {"a coding in small letters among the trailers", "0\r\nX: y\r\ntransfer-encoding: x\r\n\r\n",
         "0\r\nX: y\r\nx-coding: x\r\n\r\n", errc::bad_framing, " "},
        {"a host among the trailers", "0\r\nHost: evil\r\n\r\n", "0\r\nX-Host: evil\r\n\r\n", errc::bad_framing, " "},
        {"extensions that together are too long", times(4, "1;" + std::string(50, 'a') + "\r\na\r\n") + "0\r\n\r\n",
         times(2, "1;" + std::string(50, 'a') + "\r\na\r\n") + "0\r\n\r\n", errc::bad_framing, "aa"},
        {"chunks that together are too large", times(3, "78\r\n" + std::string(120, 'a') + "\r\n") + "0\r\n\r\n",
         times(2, "78\r\n" + std::string(120, 'a') + "\r\n") + "0\r\n\r\n", errc::body_too_large, std::string(240, 'a'),
         413},
    };
    const Row lines[] = {
        {"a line feed in an extension", "1;a\nb" + rest, "1;ab" + rest},
        {"a line feed in a quoted extension", "1;a=\"\n\"" + rest, "1;a=\"\"" + rest},
        {"NUL in an extension", "1;a" + nul + rest, "1;a0" + rest},
        {"a line feed alone behind the size", "1\na\r\n0\r\n\r\n", "1" + rest},
        {"a carriage return alone behind the size", "1\ra\r\n0\r\n\r\n", "1" + rest},
        {"two carriage returns behind the size", "1\r\r\na\r\n0\r\n\r\n", "1" + rest},
        {"a line feed alone at the end of the trailers", "0\r\n\n", "0\r\n\r\n", errc::bad_message, " "},
        {"a line feed alone behind the last size", "0\n\r\n", "0\r\n\r\n", errc::bad_message, " "},
        {"a line feed alone between trailers", "0\r\nX: y\n\r\n", "0\r\nX: y\r\n\r\n", errc::bad_message, " "},
        {"a space before a trailer's colon", "0\r\nX : y\r\n\r\n", "0\r\nX: y\r\n\r\n", errc::bad_message, " "},
        {"a space before a trailer", "0\r\n X: y\r\n\r\n", "0\r\nX: y\r\n\r\n", errc::bad_message, " "},
        {"a folded trailer", "0\r\nX: y\r\n z\r\n\r\n", "0\r\nX: y z\r\n\r\n", errc::bad_message, " "},
        {"a trailer without a colon", "0\r\nX\r\n\r\n", "0\r\nX:\r\n\r\n", errc::bad_message, " "},
        {"a trailer without a name", "0\r\n: y\r\n\r\n", "0\r\nX: y\r\n\r\n", errc::bad_message, " "},
        {"NUL in a trailer", "0\r\nX: " + nul + "\r\n\r\n", "0\r\nX: 0\r\n\r\n", errc::bad_message, " "},
    };
    for (Row row : lines) {
        row.code = errc::bad_message;
        rows.push_back(std::move(row));
    }
    const Row large[] = {
        {"a chunk line that is too long", "1;" + std::string(100, 'a') + rest, "1;" + std::string(50, 'a') + rest,
         errc::line_too_long},
        {"trailers that are too large", "0\r\n" + times(3, "X: " + std::string(100, 'y') + "\r\n") + "\r\n",
         "0\r\n" + times(2, "X: " + std::string(100, 'y') + "\r\n") + "\r\n", errc::trailers_too_large, " "},
        {"too many trailers", "0\r\n" + times(17, "X: y\r\n") + "\r\n", "0\r\n" + times(16, "X: y\r\n") + "\r\n",
         errc::too_many_headers, " "},
    };
    rows.insert(rows.end(), std::begin(large), std::end(large));
    for (Row& row : rows) {
        if (row.good.empty()) row.good = "1" + rest;
        if (row.body.empty()) row.body = "a";
        if (row.body == " ") row.body.clear();
    }
    return rows;
}

std::string start_of(bool request) { return request ? "POST / HTTP/1.1\r\nHost: x\r\n" : "HTTP/1.1 200 OK\r\n"; }

std::string seen_of(bool request, const std::string& body) { return (request ? "POST / " : "200 ") + body; }

Malformed made(const Row& row, const std::string& start, std::string seen) {
    return {row.what, start + row.bad, start + row.good, std::move(seen), row.code, row.status};
}

}  // namespace

http::Limits malformed_limits() {
    http::Limits limits;
    limits.max_line_bytes = 160;
    limits.max_head_bytes = 420;
    limits.max_headers = 16;
    limits.max_trailer_bytes = 256;
    limits.max_chunk_line_bytes = 64;
    limits.max_chunk_extension_bytes = 128;
    limits.max_interim_responses = 4;
    limits.max_body_bytes = 300;
    return limits;
}

std::vector<Malformed> malformed_fields(bool request) {
    std::vector<Malformed> all;
    const auto add = [&](std::vector<Row> rows, const std::string& neighbour) {
        for (Row& row : rows) {
            if (row.good.empty()) row.good = neighbour;
            all.push_back(made(row, start_of(request), seen_of(request, "hello")));
        }
    };
    add(length_rows(), with_length);
    add(coding_rows(), with_chunks);
    add(line_rows(), with_length);
    return all;
}

std::vector<Malformed> malformed_chunks(bool request) {
    std::vector<Malformed> all;
    const std::string start = start_of(request) + "Transfer-Encoding: chunked\r\n\r\n";
    for (const Row& row : chunk_rows()) all.push_back(made(row, start, seen_of(request, row.body)));
    return all;
}

std::vector<Malformed> malformed_requests() {
    const std::string rest = "Host: x\r\n\r\n";
    const std::string get = "GET / HTTP/1.1\r\n";
    struct Line {
        std::string what;
        std::string bad;
        std::string good;
        std::string seen;
        errc code = errc::bad_message;
        int status = 400;
    };
    const Line lines[] = {
        {"HTTP/0.9", "GET /\r\n", get, "GET / ", errc::unsupported_version, 505},
        {"a method alone", "GET\r\n", get, "GET / "},
        {"a space in place of the version", "GET / \r\n", get, "GET / ", errc::unsupported_version, 505},
        {"two spaces behind the method", "GET  / HTTP/1.1\r\n", get, "GET / "},
        {"two spaces before the version", "GET /  HTTP/1.1\r\n", get, "GET / ", errc::unsupported_version, 505},
        {"a space behind the version", "GET / HTTP/1.1 \r\n", get, "GET / ", errc::unsupported_version, 505},
        {"a tab in place of a space", "GET\t/ HTTP/1.1\r\n", get, "GET / "},
        {"a space before the method", " GET / HTTP/1.1\r\n", get, "GET / "},
        {"a space in the target", "GET /a b HTTP/1.1\r\n", "GET /a%20b HTTP/1.1\r\n", "GET /a%20b ",
         errc::unsupported_version, 505},
        {"a method in small letters", "get / HTTP/1.1\r\n", get, "GET / ", errc::unknown_method, 501},
        {"a method that is no token", "G(T / HTTP/1.1\r\n", get, "GET / "},
        {"a method that nobody knows", "FOO / HTTP/1.1\r\n", "PATCH / HTTP/1.1\r\n", "PATCH / ", errc::unknown_method,
         501},
        {"a method that goes on", "GETX / HTTP/1.1\r\n", get, "GET / ", errc::unknown_method, 501},
        {"a target that is neither path nor URL", "GET a HTTP/1.1\r\n", "GET /a HTTP/1.1\r\n", "GET /a "},
        {"a URL without a scheme", "GET ://x HTTP/1.1\r\n", "GET http://x/ HTTP/1.1\r\n", "GET http://x/ "},
        {"a byte beyond ASCII in the target", "GET /\xc3\xa9 HTTP/1.1\r\n", "GET /%C3%A9 HTTP/1.1\r\n", "GET /%C3%A9 "},
        {"a control byte in the target", "GET /\x01 HTTP/1.1\r\n", "GET /%01 HTTP/1.1\r\n", "GET /%01 "},
        {"NUL in the target", "GET /" + nul + " HTTP/1.1\r\n", "GET /%00 HTTP/1.1\r\n", "GET /%00 "},
        {"a tab in the target", "GET /a\tb HTTP/1.1\r\n", "GET /a%09b HTTP/1.1\r\n", "GET /a%09b "},
        {"NUL in the method", "GE" + nul + "T / HTTP/1.1\r\n", get, "GET / "},
        {"the version 0.9", "GET / HTTP/0.9\r\n", get, "GET / ", errc::unsupported_version, 505},
        {"the version 1.2", "GET / HTTP/1.2\r\n", get, "GET / ", errc::unsupported_version, 505},
        {"the version 2.0", "GET / HTTP/2.0\r\n", get, "GET / ", errc::unsupported_version, 505},
        {"the version 1.10", "GET / HTTP/1.10\r\n", get, "GET / ", errc::unsupported_version, 505},
        {"a letter behind the version", "GET / HTTP/1.1x\r\n", get, "GET / ", errc::unsupported_version, 505},
        {"a version in small letters", "GET / http/1.1\r\n", get, "GET / ", errc::unsupported_version, 505},
        {"a version without its dot", "GET / HTTP/11\r\n", get, "GET / ", errc::unsupported_version, 505},
        {"another protocol", "GET / HTTPS/1.1\r\n", get, "GET / ", errc::unsupported_version, 505},
        {"a line feed alone behind the request line", "GET / HTTP/1.1\n", get, "GET / "},
        {"a carriage return alone behind the request line", "GET / HTTP/1.1\r", get, "GET / "},
        {"a header in place of the version", "GET / Host: x\r\n", get, "GET / ", errc::unsupported_version, 505},
        {"a target that is too long", "GET /" + std::string(200, 'a') + " HTTP/1.1\r\n",
         "GET /" + std::string(120, 'a') + " HTTP/1.1\r\n", "GET /" + std::string(120, 'a') + " ", errc::line_too_long,
         414},
        {"a method that is too long", std::string(200, 'A') + " / HTTP/1.1\r\n", get, "GET / ", errc::line_too_long,
         414},
        {"a line feed before the request", "\n" + get, "\r\n" + get, "GET / "},
        {"a carriage return before the request", "\r" + get, "\r\n" + get, "GET / "},
        {"nine blank lines before the request", times(9, "\r\n") + get, times(8, "\r\n") + get, "GET / "},
        {"a line of a space before the request", " \r\n" + get, "\r\n" + get, "GET / "},
        {"a space behind blank lines", "\r\n " + get, "\r\n" + get, "GET / "},
    };
    std::vector<Malformed> all;
    for (const Line& line : lines) {
        all.push_back({line.what, line.bad + rest, line.good + rest, line.seen, line.code, line.status});
    }
    const std::string chunks = "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n";
    const Malformed whole[] = {
        {"transfer codings in HTTP/1.0", "POST / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\n" + chunks,
         "POST / HTTP/1.0\r\nHost: x\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", "POST / hello",
         errc::bad_framing},
        {"HTTP/1.0 with a length and chunks",
         "POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 5\r\n" + chunks,
         "POST / HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", "POST / hello",
         errc::bad_framing},
        {"the preface of HTTP/2", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
         "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
         "HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
         "GET / ", errc::unknown_method, 501},
        {"a TLS hello", std::string("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 11), get + rest, "GET / ",
         errc::bad_message},
        {"the greeting of another protocol", "SSH-2.0-OpenSSH_9.2\r\n", get + rest, "GET / ", errc::unknown_method,
         501},
        {"no host", get + "\r\n", "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "GET / ", errc::bad_message},
        {"the same host twice", get + "Host: a\r\nHost: a\r\n\r\n", get + "Host: a\r\nX-Host: a\r\n\r\n", "GET / ",
         errc::bad_message},
        {"two hosts", get + "Host: a\r\nHOST: b\r\n\r\n", get + "HOST: b\r\n\r\n", "GET / ", errc::bad_message},
        {"a space in the host", get + "Host: a b\r\n\r\n", get + "Host: a.b\r\n\r\n", "GET / ", errc::bad_message},
        {"a path in the host", get + "Host: a/b\r\n\r\n", get + "Host: a:80\r\n\r\n", "GET / ", errc::bad_message},
        {"a user in the host", get + "Host: u@a\r\n\r\n", get + "Host: [::1]:80\r\n\r\n", "GET / ", errc::bad_message},
        {"a query in the host", get + "Host: a?b\r\n\r\n", get + "Host:\r\n\r\n", "GET / ", errc::bad_message},
        {"a host beyond ASCII", get + "Host: \xc3\xa9\r\n\r\n", get + "Host: xn--9ca\r\n\r\n", "GET / ",
         errc::bad_message},
        {"a list of hosts", get + "Host: a, b\r\n\r\n", get + "Host: a\r\nX: a, b\r\n\r\n", "GET / ",
         errc::bad_message},
    };
    all.insert(all.end(), std::begin(whole), std::end(whole));
    return all;
}

std::vector<Malformed> malformed_responses() {
    const std::string ok = "HTTP/1.1 200 OK\r\n";
    const std::string empty = "Content-Length: 0\r\n\r\n";
    struct Line {
        std::string what;
        std::string bad;
        std::string good;
        std::string seen = "200 ";
        errc code = errc::bad_message;
    };
    const Line lines[] = {
        {"a version alone", "HTTP/1.1\r\n", "HTTP/1.1 200\r\n"},
        {"no status", "HTTP/1.1 \r\n", "HTTP/1.1 200 \r\n"},
        {"a status of two digits", "HTTP/1.1 20\r\n", "HTTP/1.1 200\r\n"},
        {"a status of four digits", "HTTP/1.1 2000 OK\r\n", ok},
        {"a letter in the status", "HTTP/1.1 20x OK\r\n", ok},
        {"a status below 100", "HTTP/1.1 099 OK\r\n", "HTTP/1.1 999 OK\r\n", "999 "},
        {"two spaces before the status", "HTTP/1.1  200 OK\r\n", "HTTP/1.1 200  OK\r\n"},
        {"a tab before the status", "HTTP/1.1\t200 OK\r\n", ok, "200 ", errc::unsupported_version},
        {"a tab behind the status", "HTTP/1.1 200\tOK\r\n", "HTTP/1.1 200 \tOK\r\n"},
        {"a negative status", "HTTP/1.1 -20 OK\r\n", ok},
        {"the version 2", "HTTP/2 200 OK\r\n", ok, "200 ", errc::unsupported_version},
        {"the version 1.2", "HTTP/1.2 200 OK\r\n", ok, "200 ", errc::unsupported_version},
        {"the version 0.9", "HTTP/0.9 200 OK\r\n", ok, "200 ", errc::unsupported_version},
        {"a version in small letters", "http/1.1 200 OK\r\n", ok},
        {"a control byte in the reason", "HTTP/1.1 200 O\x01K\r\n", "HTTP/1.1 200 O\xffK\r\n"},
        {"NUL in the reason", "HTTP/1.1 200 O" + nul + "K\r\n", ok},
        {"a line feed alone behind the status line", "HTTP/1.1 200 OK\n", ok},
        {"a carriage return alone behind the status line", "HTTP/1.1 200 OK\r", ok},
        {"the greeting of another protocol", "SSH-2.0-OpenSSH_9.2\r\n", ok},
        {"a space before the status line", " HTTP/1.1 200 OK\r\n", ok},
        {"ICY in place of a version", "ICY 200 OK\r\n", ok},
        {"HTTP/0.9", "<html>hello</html>\r\n", ok},
        {"a reason that is too long", "HTTP/1.1 200 " + std::string(200, 'a') + "\r\n",
         "HTTP/1.1 200 " + std::string(120, 'a') + "\r\n", "200 ", errc::line_too_long},
        {"a line feed before the response", "\n" + ok, "\r\n" + ok},
        {"nine blank lines before the response", times(9, "\r\n") + ok, times(8, "\r\n") + ok},
        {"a body behind an interim response", "HTTP/1.1 100 Continue\r\nContent-Length: 5\r\n\r\nhello" + ok,
         "HTTP/1.1 100 Continue\r\nX: y\r\n\r\n" + ok},
        {"chunks behind an interim response", "HTTP/1.1 103 Early\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + ok,
         "HTTP/1.1 103 Early\r\n\r\n" + ok},
        {"interim responses without end", times(5, "HTTP/1.1 100 Continue\r\n\r\n") + ok,
         times(4, "HTTP/1.1 100 Continue\r\n\r\n") + ok, "200 ", errc::too_many_interim},
    };
    std::vector<Malformed> all;
    for (const Line& line : lines) {
        all.push_back({line.what, line.bad + empty, line.good + empty, line.seen, line.code});
    }
    all.push_back({"transfer codings in HTTP/1.0",
                   "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                   "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 5\r\n\r\nhello", "200 hello",
                   errc::bad_framing});
    return all;
}

std::vector<Malformed> everything_malformed(bool request) {
    std::vector<Malformed> all = malformed_fields(request);
    for (auto more : {malformed_chunks(request), request ? malformed_requests() : malformed_responses()}) {
        all.insert(all.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
    }
    return all;
}

}  // namespace torc::testing
