#include <cstdio>

#include "../../examples/checker/options.hpp"
#include "../../examples/checker/text.hpp"
#include "fuzz.hpp"

// Theory of operation. Each line is a word of the checker's command line. The file of --cacert is not read: what stands
// on this machine is no part of the input.
//
// Required: the words are understood, with every value within its bounds, or refused with one line of text that can be
// shown on a terminal.

namespace torc::fuzz {
namespace {

/// Standard output is where the help goes, and of no interest here.
void silence() {
    static const bool silent = std::freopen("/dev/null", "w", stdout) != nullptr;
    require(silent, "standard output can be silenced");
}

void require_within_bounds(const checker::Options& options) {
    using namespace std::chrono_literals;
    require(options.concurrency >= 1 && options.concurrency <= 100'000, "the concurrency is within its bounds");
    require(options.timeout >= 1ms && options.timeout <= 24h, "the timeout is within its bounds");
    require(options.max_redirects <= 1000, "the redirects are within their bounds");
    for (const std::string& url : options.urls) {
        require(url == "-" || checker::parse_url(url).has_value(), "every URL can be checked", url);
    }
    require(!options.method.empty() && options.method.find_first_of(" \r\n") == std::string::npos, "a method is a word",
            options.method);
    for (const auto& [name, value] : options.headers) {
        require(http::Headers::fault_of(name, value).empty(), "every header can be sent", name);
    }
    for (const net::StaticEntry& entry : options.resolve) {
        require(!entry.host.empty() && entry.port != 0 && !entry.addresses.empty(), "every entry is complete",
                entry.host);
    }
}

}  // namespace
}  // namespace torc::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace torc::fuzz;
    silence();
    Input input{data, size};
    std::vector<std::string> words{"torc-check"};
    while (!input.empty()) {
        std::string word{input.line()};
        std::erase(word, '\0');
        if (word.find("cacert") == std::string::npos) words.push_back(std::move(word));
    }
    std::vector<char*> arguments;
    for (std::string& word : words) arguments.push_back(word.data());
    try {
        const auto options = checker::parse_options(static_cast<int>(arguments.size()), arguments.data());
        if (options) require_within_bounds(*options);
    } catch (const checker::UsageError& error) {
        const std::string_view sentence = error.what();
        require(!sentence.empty(), "what is wrong is said");
        require_same(sentence, checker::one_line(sentence), "what is wrong is said in one line, fit for a terminal");
    }
    return 0;
}
