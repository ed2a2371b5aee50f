#pragma once

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <optional>
#include <string>

#include <doctest/doctest.h>

/// Test data of other projects lies outside the tree: in TORC_CORPORA, or beside the source in ../shared/corpora.
inline std::filesystem::path corpus_path(const std::string& name) {
    const char* given = std::getenv("TORC_CORPORA");
    const std::filesystem::path root = given != nullptr ? given : TORC_SOURCE_ROOT "/../shared/corpora";
    return root / name;
}

/// The content of a corpus file; says that it is skipped and gives nothing where it is not there.
inline std::optional<std::string> read_corpus(const std::string& name) {
    const std::filesystem::path path = corpus_path(name);
    std::ifstream file{path, std::ios::binary};
    if (!file) {
        MESSAGE("skipped: " << path.string() << " is not there (TORC_CORPORA says where it is)");
        return std::nullopt;
    }
    return std::string{std::istreambuf_iterator<char>{file}, {}};
}
