#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>

#include <forked.hpp>

#include <torc/net/address.hpp>

/// The site that a crowd visits, in a process of its own, and the wire by which it is watched.
namespace torc::load {

/// A site process as the test sees it.
class CrowdServer {
   public:
    /// Starts it. On port 0 it takes any; further processes may join it on that port.
    CrowdServer(std::uint16_t port, std::size_t most_connections);
    CrowdServer(const CrowdServer&) = delete;
    CrowdServer& operator=(const CrowdServer&) = delete;
    ~CrowdServer();

    [[nodiscard]] std::uint16_t port() const noexcept { return port_; }

    struct Now {
        std::size_t connections = 0;  ///< of the site
        std::string held;             ///< all that it holds, as text that compares
        std::size_t resident_kib = 0;
    };
    /// Asks it what it has now.
    Now now();
    /// Lets its memory grow by so many bytes and no more; lets it grow again.
    void limit_memory(std::size_t further_bytes) { ask("/limit/" + std::to_string(further_bytes)); }
    void allow_memory() { ask("/allow"); }
    /// Stops it. Gives its exit status; 0 if nothing at all was left.
    int stop();
    [[nodiscard]] const std::string& output() const noexcept { return process_.output(); }

   private:
    std::string ask(const std::string& path);
    std::optional<std::string> try_to_ask(const std::string& path);

    test::Forked process_;
    std::uint16_t port_ = 0;
    net::Address watched_;
    int wire_ = -1;
};

}  // namespace torc::load
