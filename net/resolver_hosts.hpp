#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include <torc/net/address.hpp>

namespace torc::net::dns {

/// Tells whether a file is still the one that was looked at last.
class FileWatch {
   public:
    explicit FileWatch(std::string path) : path_(std::move(path)) {}
    [[nodiscard]] const std::string& path() const noexcept { return path_; }
    /// True the first time, and after the file was written, replaced, made or removed.
    [[nodiscard]] bool changed() noexcept;
    /// Makes `changed` true once more, for whoever could not read it this time.
    void look_again() noexcept { looked_ = false; }

   private:
    struct Identity {
        std::uint64_t device = 0;
        std::uint64_t inode = 0;
        std::int64_t size_bytes = -1;
        std::int64_t modified_ns = 0;
        bool operator==(const Identity&) const = default;
    };
    std::string path_;
    Identity seen_;
    bool looked_ = false;
};

/// hosts(5): names that this machine's owner wrote down. A file that is missing or may not be read holds none.
class HostsFile {
   public:
    explicit HostsFile(std::string path) : file_(std::move(path)) {}

    /// The addresses of a name in lower case, in the order of the file, with port 0.
    /// Errors: `Error` in phase resolve when the file can not be opened now for want of descriptors or memory.
    [[nodiscard]] const std::vector<Address>& find(const std::string& name);

   private:
    void read();
    void read_line(std::string_view line);

    FileWatch file_;
    std::unordered_map<std::string, std::vector<Address>> names_;
    std::vector<Address> none_;
};

/// Whether an errno says that this side, the process or the machine, has no more of something.
[[nodiscard]] bool is_shortage(int error) noexcept;

/// ASCII letters in lower case; the rest stays.
[[nodiscard]] std::string lower_case(std::string_view text);

/// Takes the first word off a line of such a file; empty if there is none.
[[nodiscard]] std::string_view next_word(std::string_view& line) noexcept;

}  // namespace torc::net::dns
