#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cerrno>
#include <optional>

#include "../../examples/checker/input.hpp"
#include "../../examples/checker/text.hpp"
#include "fuzz.hpp"

// Theory of operation. Three bytes say where a list of URLs is cut, the rest is the list; in it the byte 0x01 stands
// for 9000 letters and 0x02 for 9000 spaces, so that lines can be longer than anybody's buffer.
//
// Required: the lines of a list are the same from a file, and through a pipe in pieces; they are what the plain reader
// below finds; one that is too long is never taken for the URL it begins with; and every list is counted as it is read,
// or refused with one line of text.

namespace torc::fuzz {
namespace {

constexpr std::size_t longest_line_bytes = 64 * 1024;  // the checker's own bound

struct Line {
    std::uint64_t number = 0;
    std::string text;  ///< stripped; of one that is too long, nothing
    bool too_long = false;

    bool operator==(const Line&) const = default;
};

std::string to_string(const std::vector<Line>& lines) {
    std::string text;
    for (const Line& line : lines) {
        text += std::to_string(line.number) + ": " + (line.too_long ? "too long" : line.text) + "\n";
    }
    return text;
}

std::string_view strip(std::string_view text) {
    constexpr std::string_view spaces = " \t\r\n\f\v";
    const std::size_t begin = text.find_first_not_of(spaces);
    return begin == text.npos ? std::string_view{} : text.substr(begin, text.find_last_not_of(spaces) - begin + 1);
}

std::vector<Line> read_plainly(std::string_view list) {
    std::vector<Line> lines;
    for (std::uint64_t number = 1; !list.empty(); ++number) {
        std::string_view line = list.substr(0, list.find('\n'));
        list.remove_prefix(std::min(line.size() + 1, list.size()));
        if (number == 1 && line.starts_with("\xEF\xBB\xBF")) line.remove_prefix(3);
        bool too_long = line.size() >= longest_line_bytes;
        line = line.substr(0, longest_line_bytes);
        for (std::size_t at = 0; at < line.size(); ++at) {
            // A '#' begins a comment if it begins the line, or stands behind a space.
            if (line[at] == '#' && (strip(line.substr(0, at)).empty() || line[at - 1] == ' ' || line[at - 1] == '\t')) {
                line = line.substr(0, at);
                too_long = false;
            }
        }
        line = strip(line);
        if (too_long) lines.push_back({number, {}, true});
        if (!too_long && !line.empty()) lines.push_back({number, std::string{line}, false});
    }
    return lines;
}

class Descriptor {
   public:
    explicit Descriptor(int value) : value_(value) { require(value >= 0, "a descriptor can be had"); }
    Descriptor(const Descriptor&) = delete;
    Descriptor& operator=(const Descriptor&) = delete;
    ~Descriptor() { close(); }
    void close() {
        if (value_ >= 0) ::close(std::exchange(value_, -1));
    }
    [[nodiscard]] int value() const { return value_; }

   private:
    int value_;
};

void take_lines(checker::LineReader& reader, std::vector<Line>& lines) {
    while (const auto text = reader.take()) {
        const bool too_long = text->size() >= longest_line_bytes;
        lines.push_back({reader.line_number(), too_long ? std::string{} : std::string{*text}, too_long});
    }
}

std::vector<Line> read_file(int descriptor) {
    checker::LineReader reader{"list", ::dup(descriptor)};
    require(reader.repeatable(), "a file can be read twice");
    std::vector<Line> first;
    for (bool more = true; more;) {
        more = reader.fill();
        take_lines(reader, first);
    }
    reader.rewind();
    std::vector<Line> second;
    for (bool more = true; more;) {
        more = reader.fill();
        take_lines(reader, second);
    }
    require_same(to_string(first), to_string(second), "a file is the same when it is read again");
    return first;
}

std::vector<Line> read_pipe(const std::vector<std::string_view>& pieces) {
    int ends[2] = {-1, -1};
    require(::pipe2(ends, O_CLOEXEC) == 0, "a pipe can be had");
    Descriptor in{ends[1]};
    checker::LineReader reader{"list", ends[0]};
    require(!reader.repeatable(), "a pipe can not be read twice");
    std::vector<Line> lines;
    constexpr std::size_t most = 32 * 1024;  // fits into a pipe and is read at once
    for (std::string_view piece : pieces) {
        while (!piece.empty()) {
            const std::string_view part = piece.substr(0, most);
            piece.remove_prefix(part.size());
            require(::write(in.value(), part.data(), part.size()) == static_cast<ssize_t>(part.size()),
                    "a pipe takes it");
            require(reader.fill(), "a pipe that is open has no end");
            take_lines(reader, lines);
        }
    }
    in.close();
    require(!reader.fill(), "a pipe that is closed ends");
    take_lines(reader, lines);
    return lines;
}

void check_whole(int descriptor, const std::vector<Line>& lines) {
    checker::Options options;
    options.files.push_back("/proc/self/fd/" + std::to_string(descriptor));
    const auto bad = std::ranges::find_if(
        lines, [](const Line& line) { return line.too_long || !checker::parse_url(line.text).has_value(); });
    try {
        const checker::Input input{options};
        require(bad == lines.end(), "a list with a line that is no URL is refused", to_string(lines));
        require(input.total() == lines.size(), "a list's URLs are counted");
    } catch (const checker::UsageError& error) {
        const std::string_view sentence = error.what();
        require(bad != lines.end(), "a list of URLs is accepted", sentence);
        require(sentence.find("line " + std::to_string(bad->number) + ":") != sentence.npos, "the line is named",
                sentence);
        require_same(sentence, checker::one_line(sentence), "what is wrong is said in one line, fit for a terminal");
    }
}

void check_text(std::string_view text) {
    const std::string line = checker::one_line(text);
    require_same(line, checker::one_line(line), "what is fit for a terminal is left as it is");
    require(is_printable(line), "a line has no control characters");
    for (std::string_view left = line; !left.empty();)
        require(!checker::take_character(left).empty(), "a line is UTF-8");
    const std::string beginning = checker::one_line(text, 17);
    std::size_t characters = 0;
    for (std::string_view left = beginning; !left.empty(); ++characters) checker::take_character(left);
    require(characters <= 17, "no more characters are taken than asked for");
}

}  // namespace
}  // namespace torc::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace torc::fuzz;
    Input input{data, size};
    const std::string_view places = input.text(3);
    std::string list;
    for (const char c : input.rest()) {
        if ((c == '\x01' || c == '\x02') && list.size() < 200'000) {
            list.append(9000, c == '\x01' ? 'x' : ' ');
        } else {
            list += c;
        }
    }
    check_text(list.substr(0, 2000));

    const Descriptor file{::memfd_create("list", MFD_CLOEXEC)};
    require(::write(file.value(), list.data(), list.size()) == static_cast<ssize_t>(list.size()), "a file is written");
    require(::lseek(file.value(), 0, SEEK_SET) == 0, "a file begins");
    const std::vector<Line> lines = read_plainly(list);
    require_same(to_string(lines), to_string(read_file(file.value())), "a file has the lines that it has");
    require_same(to_string(lines), to_string(read_pipe({list})), "a list is the same through a pipe");
    require_same(to_string(lines), to_string(read_pipe(Pieces::cut(list, places_in(list.size(), places)).views())),
                 "a list is the same in pieces");
    if (list.size() < 500) {
        require_same(to_string(lines), to_string(read_pipe(Pieces::of_size(list, 1).views())),
                     "it is the same byte by byte");
    }
    check_whole(file.value(), lines);
    return 0;
}
