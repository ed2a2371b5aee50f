#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include <certificates.hpp>
#include <dns_server.hpp>
#include <torc/http/server.hpp>
#include <torc/http/session.hpp>
#include <torc/net/udp.hpp>
#include <torc/runtime.hpp>

#include "load.hpp"

/// The mixed load of the soak: sites, and visitors that do everything that visitors do.
namespace torc::load {

/// What the visitors did so far.
struct Deeds {
    std::map<std::string, std::uint64_t> done;  ///< by kind
    std::uint64_t bytes = 0;                    ///< of bodies, both ways
    std::uint64_t faults = 0;                   ///< what should not have happened
    std::string first_fault;

    [[nodiscard]] std::uint64_t all() const;
};

/// Two sites, one over TLS, and an echo of datagrams.
class SoakSites {
   public:
    explicit SoakSites(const testing::CertificateWorld& world);

    task<> serve();
    void stop();
    [[nodiscard]] std::size_t connections() const;

    [[nodiscard]] std::string url(bool secure, std::string_view path) const;
    [[nodiscard]] const net::Address& plain_address() const { return plain_.local(); }
    [[nodiscard]] const net::Address& echo_address() const { return echo_.local(); }

   private:
    task<> serve_echo();

    http::Server plain_;
    http::Server secure_;
    net::UdpSocket echo_;
    event stopped_;
};

/// One visitor: each call does one thing, of a kind that its chances choose, and notes it.
class SoakVisitor {
   public:
    SoakVisitor(const SoakSites& sites, const testing::CertificateWorld& world, Deeds& deeds, std::uint64_t seed);
    task<> act();

   private:
    task<> look_at_pages();
    task<> download();
    task<> upload();
    task<> time_out();
    task<> be_cancelled();
    task<> leave_early();
    task<> reset_connection();
    task<> send_nonsense();
    task<> distrust();
    task<> be_refused();
    task<> meet_a_failure();
    task<> echo_datagrams();
    task<> look_up_names();
    task<> work_together();

    [[nodiscard]] http::SessionOptions options() const;
    void expect(bool good, const char* what);

    const SoakSites& sites_;
    Deeds& deeds_;
    Chance chance_;
    net::TlsContext trusting_;
    net::TlsContext distrusting_;
};

/// How names are looked up in the soak.
void use_name_server(const test::DnsServer& names);

}  // namespace torc::load
