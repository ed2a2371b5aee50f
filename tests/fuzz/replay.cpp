// Runs a target, without the fuzzer, on every file of a directory: what was found once is tried by every build.
//
//     fuzz-NAME DIRECTORY|FILE...

#include <exception>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <vector>

#include "fuzz.hpp"

namespace {

namespace fs = std::filesystem;

std::vector<fs::path> files_of(int count, char** arguments) {
    std::vector<fs::path> files;
    for (int i = 1; i < count; ++i) {
        if (!fs::is_directory(arguments[i])) {
            files.emplace_back(arguments[i]);
            continue;
        }
        for (const auto& entry : fs::directory_iterator{arguments[i]}) files.push_back(entry.path());
    }
    std::ranges::sort(files);
    return files;
}

/// What went wrong, in words; empty if nothing did.
std::string run(const fs::path& path) {
    std::ifstream file{path, std::ios::binary};
    if (!file) return "can not be read";
    const std::vector<char> bytes{std::istreambuf_iterator<char>{file}, {}};
    try {
        LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
        return {};
    } catch (const torc::fuzz::Violation&) {
        return "a property does not hold";
    } catch (const std::exception& error) {
        return std::string{"an exception that nothing here may throw: "} + error.what();
    }
}

}  // namespace

int main(int count, char** arguments) {
    const std::vector<fs::path> files = files_of(count, arguments);
    int failed = 0;
    for (const fs::path& path : files) {
        const std::string fault = run(path);
        if (fault.empty()) continue;
        std::fprintf(stderr, "%s: %s\n", path.c_str(), fault.c_str());
        ++failed;
    }
    std::fprintf(stderr, "%zu inputs, %d failed\n", files.size(), failed);
    return files.empty() || failed != 0 ? 1 : 0;
}
