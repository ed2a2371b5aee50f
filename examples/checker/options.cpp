#include "options.hpp"

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <torc/http/method.hpp>
#include <torc/net/tls_options.hpp>

#include "text.hpp"

// Theory of operation. The command line parser only sorts words: every value is taken as text and read here, so that
// what is wrong with one is said in the same way everywhere, as one sentence that names the option and the text.

namespace checker {
namespace {

constexpr const char* description =
    "Checks web sites, many at once, and prints for each as its answer arrives:\n"
    "  URL: status -> 200\n"
    "  URL: type -> <!doctype html>          (the first 17 characters of the body)\n"
    "or on standard error:\n"
    "  URL: error -> <phase>: <what happened>\n"
    "Without a URL it checks two HTTPS sites that it starts itself, on this machine's loopback.\n";

constexpr const char* further =
    "Lists of URLs: one a line; empty lines and what follows a '#' at the beginning of a line or after a space are\n"
    "skipped. A URL that is named twice is checked twice. A file is read through before anything is checked; what "
    "comes\n"
    "through a pipe is checked while it arrives, and a line that is no URL is then one failed check.\n"
    "\n"
    "Redirects are followed; with --max-redirects 0 they are not, and the status is that of the redirect. An answer "
    "to\n"
    "HEAD has no body, and so no line about its type. With --json failures are objects as well, and standard error\n"
    "stays empty; 'bytes' are those of the body after decoding.\n"
    "\n"
    "Exit status: 0 if every answer was 2xx or 3xx, 1 if some check failed, 2 for wrong usage, 130 after Ctrl-C.\n";

template <class Number>
Number number_of(std::string_view option, std::string_view text, Number least, Number most) {
    Number number{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
    if (error != std::errc{} || end != text.data() + text.size() || number < least || number > most) {
        throw UsageError{fmt::format("{} takes a whole number from {} to {}, not '{}'", option, least, most, text)};
    }
    return number;
}

std::chrono::nanoseconds seconds_of(std::string_view option, std::string_view text) {
    constexpr double least = 0.001;
    constexpr double most = 86'400;
    double seconds = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
    if (error != std::errc{} || end != text.data() + text.size() || !(seconds >= least && seconds <= most)) {
        throw UsageError{
            fmt::format("{} takes seconds from {} to {}, such as 2.5, not '{}'", option, least, most, text)};
    }
    return std::chrono::nanoseconds{std::llround(seconds * 1e9)};
}

void add_header(torc::http::Headers& headers, const std::string& text) {
    const std::size_t colon = text.find(':');
    if (colon == text.npos) throw UsageError{fmt::format("--header takes 'Name: value', not '{}'", text)};
    const std::string_view name = trimmed(std::string_view{text}.substr(0, colon));
    const std::string_view value = trimmed(std::string_view{text}.substr(colon + 1));
    if (const std::string fault = torc::http::Headers::fault_of(name, value); !fault.empty()) {
        throw UsageError{fmt::format("--header '{}': {}", text, fault)};
    }
    headers.add(name, value);
}

/// Reads the file once to see whether it can be used.
void check_authorities(const std::string& file) {
    if (file.empty()) return;
    torc::net::TlsClientOptions options;
    options.trust.ca_file = file;
    try {
        torc::net::TlsContext::client(options);
    } catch (const torc::Error& error) {
        throw UsageError{fmt::format("--cacert: {}", error.message())};
    }
}

/// Options as they stand on the command line.
struct Words {
    std::vector<std::string> urls;
    std::vector<std::string> files;
    std::string concurrency;
    std::string timeout;
    std::string ca_file;
    std::vector<std::string> resolve;
    std::string max_redirects;
    std::string method;
    std::vector<std::string> headers;
};

Options understand(Words words) {
    Options options;
    for (const std::string& url : words.urls) {
        if (url == "-") continue;
        if (auto parsed = parse_url(url); !parsed) {
            throw UsageError{fmt::format("'{}' can not be checked: {}", url, parsed.error().message())};
        }
    }
    options.urls = std::move(words.urls);
    options.files = std::move(words.files);
    if (!words.concurrency.empty()) {
        options.concurrency = number_of<std::size_t>("--concurrency", words.concurrency, 1, 100'000);
    }
    if (!words.timeout.empty()) options.timeout = seconds_of("--timeout", words.timeout);
    options.ca_file = std::move(words.ca_file);
    check_authorities(options.ca_file);
    for (const std::string& entry : words.resolve) {
        auto parsed = torc::net::StaticEntry::parse(entry);
        if (!parsed) throw UsageError{fmt::format("--resolve: {}", parsed.error().message())};
        options.resolve.push_back(std::move(*parsed));
    }
    if (!words.max_redirects.empty()) {
        options.max_redirects = number_of<std::size_t>("--max-redirects", words.max_redirects, 0, 1000);
    }
    if (!words.method.empty()) {
        if (!torc::http::is_token(words.method)) {
            throw UsageError{fmt::format("--method takes a word such as GET or HEAD, not '{}'", words.method)};
        }
        options.method = std::move(words.method);
    }
    for (const std::string& header : words.headers) add_header(options.headers, header);
    return options;
}

/// An option without a value, or a flag with one. The parser's own words begin with the option.
UsageError mismatch(const CLI::ArgumentMismatch& error) {
    const std::string text = one_line(error.what());
    const std::string option = text.substr(0, text.find_first_of(": "));
    if (text.find("flag override") == text.npos) return UsageError{fmt::format("{} needs a value", option)};
    return UsageError{fmt::format("--{} takes no value", option)};
}

/// What the parser has to complain about, in the tone of the rest.
UsageError complaint(const CLI::ParseError& error) {
    std::string text = one_line(error.what());
    if (!text.empty() && text.back() == '.') text.pop_back();
    return UsageError{fmt::format("{} (torc-check --help tells what there is)", text)};
}

}  // namespace

torc::result<torc::http::Url> parse_url(std::string_view text) {
    auto url = torc::http::Url::parse(text);
    if (url && url->scheme() != "http" && url->scheme() != "https") {
        return std::unexpected{
            torc::Error{torc::http::errc::unknown_scheme,
                        torc::phase::none,
                        {},
                        fmt::format("the scheme is {}, and only http and https can be checked", url->scheme())}};
    }
    return url;
}

std::optional<Options> parse_options(int count, char** arguments) {
    Words words;
    bool json = false;
    bool quiet = false;
    bool statistics = false;
    CLI::App app{description, "torc-check"};
    app.footer(further);
    app.get_formatter()->column_width(34);  // the widest option and its value stand on the line of what they do
    app.set_help_flag("-h,--help", "Print this and stop");
    app.set_version_flag("--version", "torc-check " TORC_CHECK_VERSION, "Print the version and stop");
    // Each appearance of a repeatable option takes one word, so that URLs may follow it.
    const auto one_each = [](CLI::Option* option) {
        option->type_size(1)->allow_extra_args(false)->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    };
    app.add_option("URL", words.urls, "What to check; - reads a list from standard input")->type_name("");
    one_each(app.add_option("-f,--file", words.files, "Check the URLs that this file lists; - is standard input")
                 ->type_name("FILE"));
    app.add_option("-c,--concurrency", words.concurrency, "How many sites to check at once (64)")->type_name("N");
    app.add_option("-t,--timeout", words.timeout, "How long one site may take in all (30)")->type_name("SECONDS");
    app.add_option("--cacert", words.ca_file, "Trust the authorities in this PEM file, instead of the system's")
        ->type_name("FILE");
    one_each(app.add_option("--resolve", words.resolve, "Take ADDR for HOST at PORT, without looking it up; repeatable")
                 ->type_name("HOST:PORT:ADDR"));
    app.add_option("--max-redirects", words.max_redirects, "How many redirects to follow (10)")->type_name("N");
    app.add_option("-X,--method", words.method, "The method of the requests (GET)")->type_name("METHOD");
    one_each(app.add_option("-H,--header", words.headers, "Send this header with the requests; repeatable")
                 ->type_name("'NAME: VALUE'"));
    app.add_flag("--json", json, "Print one JSON object a line")->disable_flag_override();
    app.add_flag("-q,--quiet", quiet, "Print only what failed, and no progress")->disable_flag_override();
    app.add_flag("--statistics", statistics, "Say at the end how many turns, operations and sockets it took")
        ->disable_flag_override();
    try {
        app.parse(count, arguments);
    } catch (const CLI::CallForHelp&) {
        fmt::print("{}", app.help());
        return std::nullopt;
    } catch (const CLI::CallForVersion&) {
        fmt::print("{}\n", app.version());
        return std::nullopt;
    } catch (const CLI::ExtrasError&) {
        throw UsageError{fmt::format("there is no option {} (torc-check --help tells what there is)",
                                     app.remaining().empty() ? "" : app.remaining().front())};
    } catch (const CLI::ArgumentMismatch& error) {
        throw mismatch(error);
    } catch (const CLI::ParseError& error) {
        throw complaint(error);
    }
    Options options = understand(std::move(words));
    options.json = json;
    options.quiet = quiet;
    options.statistics = statistics;
    return options;
}

}  // namespace checker
