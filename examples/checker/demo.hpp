#pragma once

#include <string>
#include <vector>

#include <torc/http/server.hpp>
#include <torc/net/tls_selfsigned.hpp>
#include <torc/runtime/scope.hpp>

#include "options.hpp"

namespace checker {

/// Two HTTPS sites on this machine's loopback, with certificates made at this moment by an authority that is gone with
/// them. Nothing is short-cut: names are resolved, certificates verified, bodies sent over TLS.
/// Requires: made inside `run`; outlives the scope that serves it.
class DemoSites {
   public:
    DemoSites();

    /// What makes a checker find and trust them.
    void introduce(Options& options) const;

    void serve(torc::scope& where);
    void stop() noexcept;

   private:
    struct Site {
        Site(std::string name, const torc::net::ThrowawayAuthority& authority);
        std::string name;
        torc::http::Server server;
    };

    torc::net::ThrowawayAuthority authority_;
    Site first_;
    Site second_;
};

}  // namespace checker
