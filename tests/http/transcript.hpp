#pragma once

#include <algorithm>
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <torc/http/parser.hpp>

/// Everything a parser reports for a stream of bytes, as text, independent of how the stream was cut into pieces.
struct Transcript {
    std::string text;
    std::string error;  ///< empty if there was none
    std::error_code code;
    std::size_t messages = 0;  ///< complete ones
    std::size_t consumed_bytes = 0;

    [[nodiscard]] bool refused() const { return !error.empty(); }
    [[nodiscard]] std::string all() const { return text + "error: " + error; }
};

struct Reading {
    torc::http::Parser::role side = torc::http::Parser::role::request;
    torc::http::Parser::Options options;
    std::string answers = "GET";  ///< for responses: the method they answer
    bool at_end = false;          ///< the stream ends behind the bytes
    bool stop_at_upgrade = true;  ///< what follows is another protocol
};

inline void append_head_text(std::string& out, const torc::http::Parser& parser, bool request) {
    if (request) {
        const auto& head = parser.request();
        out += head.method + " " + head.target + " 1." + std::to_string(head.minor_version) + "\n";
    } else {
        const auto& head = parser.response();
        out += std::to_string(head.status) + " [" + head.reason + "] 1." + std::to_string(head.minor_version) + "\n";
    }
    const auto& headers = request ? parser.request().headers : parser.response().headers;
    for (const auto& [name, value] : headers) out.append(name).append("=").append(value).append("\n");
}

/// Feeds `pieces` one after the other.
inline Transcript read_pieces(const std::vector<std::string_view>& pieces, const Reading& how) {
    using torc::http::Parser;
    const bool request = how.side == Parser::role::request;
    Parser parser{how.side, how.options};
    parser.expect_response_to(how.answers);
    Transcript transcript;
    std::string body;
    const auto fails = [&](const torc::Error& error) {
        transcript.error = error.message();
        transcript.code = error.code();
        transcript.text += "body=" + body + "\n";
    };
    const auto read = [&](std::string_view piece) {
        auto in = std::as_bytes(std::span{piece});
        while (true) {
            const auto progress = parser.feed(in);
            if (!progress) {
                fails(progress.error());
                return false;
            }
            in = in.subspan(progress->consumed_bytes);
            transcript.consumed_bytes += progress->consumed_bytes;
            switch (progress->what) {
                case Parser::event::need_more:
                    if (in.empty()) return true;
                    transcript.text += "STUCK\n";
                    return false;
                case Parser::event::interim:
                    transcript.text += "interim ", append_head_text(transcript.text, parser, request);
                    break;
                case Parser::event::head: append_head_text(transcript.text, parser, request); break;
                case Parser::event::body: {
                    const auto* bytes = reinterpret_cast<const char*>(progress->body.data());
                    body.append(bytes, progress->body.size());
                    break;
                }
                case Parser::event::end: {
                    transcript.text += "body=" + body + "\n";
                    for (const auto& [name, value] : parser.trailers()) {
                        transcript.text.append("trailer ").append(name).append("=").append(value).append("\n");
                    }
                    transcript.text += parser.keep_alive() ? "end, keep-alive\n" : "end, close\n";
                    if (parser.upgrade()) transcript.text += "upgrade\n";
                    body.clear();
                    ++transcript.messages;
                    if (parser.upgrade() && how.stop_at_upgrade) return false;
                    parser.next_message();
                    if (in.empty()) return true;
                    break;
                }
            }
        }
    };
    bool going = true;
    for (const std::string_view piece : pieces) going = going && read(piece);
    // An event may be due without more bytes.
    going = going && read("");
    if (going && how.at_end) {
        if (const auto ended = parser.finish(); !ended) {
            fails(ended.error());
        } else if (parser.done()) {
            read("");
        }
    } else if (going) {
        transcript.text += "body=" + body + "\n";
    }
    return transcript;
}

inline Transcript read_whole(std::string_view bytes, const Reading& how) { return read_pieces({bytes}, how); }

/// The transcripts of every cut in two, of one byte at a time, and of the whole, without repetitions: one, if all is
/// well.
inline std::vector<std::string> read_every_way(std::string_view bytes, const Reading& how) {
    std::vector<std::string> seen{read_whole(bytes, how).all()};
    const auto add = [&](const std::vector<std::string_view>& pieces) {
        std::string text = read_pieces(pieces, how).all();
        if (std::find(seen.begin(), seen.end(), text) == seen.end()) seen.push_back(std::move(text));
    };
    std::vector<std::string_view> single;
    for (std::size_t cut = 0; cut < bytes.size(); ++cut) {
        single.push_back(bytes.substr(cut, 1));
        add({bytes.substr(0, cut), bytes.substr(cut)});
    }
    add(single);
    return seen;
}
