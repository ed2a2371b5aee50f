#pragma once

#include <chrono>
#include <cstddef>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include <torc/http/headers.hpp>
#include <torc/http/url.hpp>
#include <torc/net/resolver.hpp>

#include "text.hpp"

/// What the command line asks for.
namespace checker {

/// A command line, or a list of URLs, that can not be meant. Its text is one sentence for the person who wrote it, in
/// one line that is fit for a terminal whatever of their words it repeats.
struct UsageError : std::runtime_error {
    explicit UsageError(std::string_view sentence) : std::runtime_error(one_line(sentence)) {}
};

struct Options {
    std::vector<std::string> urls;   ///< in the order given; "-" stands for standard input
    std::vector<std::string> files;  ///< lists of URLs; "-" as above
    std::size_t concurrency = 64;
    std::chrono::nanoseconds timeout = std::chrono::seconds{30};  ///< of one site, from the look-up to the last byte
    std::string ca_file;                                          ///< empty: the system's trust store
    std::string ca_pem;                                           ///< of the sites the program starts itself
    std::vector<torc::net::StaticEntry> resolve;
    std::size_t max_redirects = 10;
    std::string method = "GET";
    torc::http::Headers headers;
    bool json = false;
    bool quiet = false;
    bool statistics = false;

    /// Nothing to check was named.
    [[nodiscard]] bool wants_demo() const noexcept { return urls.empty() && files.empty(); }
};

/// Reads the command line. After `--help` and `--version`, which print, there are no options.
/// Errors: UsageError.
std::optional<Options> parse_options(int count, char** arguments);

/// The URL that `text` means, if it is one that can be checked.
/// Errors: `Error` whose message says what is wrong with it.
torc::result<torc::http::Url> parse_url(std::string_view text);

}  // namespace checker
