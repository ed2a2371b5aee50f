#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <set>
#include <string>
#include <string_view>

#include <doctest/doctest.h>

/// Test data of other projects lies outside the tree: in TORC_CORPORA, or beside the source in ../shared/corpora.
inline std::filesystem::path corpus_path(const std::string& name) {
    const char* given = std::getenv("TORC_CORPORA");
    const std::filesystem::path root = given != nullptr ? given : TORC_SOURCE_ROOT "/../shared/corpora";
    return root / name;
}

/// Whether a corpus is there; says that it is skipped where it is not.
inline bool has_corpus(const std::string& name) {
    const std::filesystem::path path = corpus_path(name);
    if (std::filesystem::exists(path)) return true;
    MESSAGE("skipped: " << path.string() << " is not there (TORC_CORPORA says where it is)");
    return false;
}

/// The content of a corpus file; says that it is skipped and gives nothing where it is not there.
inline std::optional<std::string> read_corpus(const std::string& name) {
    if (!has_corpus(name)) return std::nullopt;
    std::ifstream file{corpus_path(name), std::ios::binary};
    REQUIRE(file);
    return std::string{std::istreambuf_iterator<char>{file}, {}};
}

/// The first column of the table under `heading` in a page of the guide.
inline std::set<std::string> rows_of_guide(const std::string& page, std::string_view heading) {
    std::ifstream file{TORC_SOURCE_ROOT "/docs/" + page};
    REQUIRE(file);
    std::set<std::string> rows;
    bool inside = false;
    int lines = 0;
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with('#')) inside = line == heading;
        // The first two lines of a table are its head.
        if (!inside || !line.starts_with('|') || ++lines <= 2) continue;
        const std::size_t end = line.find(" | ");
        rows.insert(line.substr(2, end - 2));
    }
    return rows;
}
