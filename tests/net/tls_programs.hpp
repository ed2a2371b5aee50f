#pragma once

#include <doctest/doctest.h>

#include <string>

#include "process.hpp"
#include "tls_meeting.hpp"

/// What tests against OpenSSL's own programs need.
namespace torc::testing {

/// Says that a test is left out where there is no such program.
inline bool openssl_is_missing() {
    if (has_program("openssl")) return false;
    MESSAGE("skipped: there is no openssl program");
    return true;
}

/// Certificates as files, for programs.
struct Files {
    TemporaryDirectory directory;
    net::TlsIdentity server = world().root.issue({.common_name = "Test Server", .names = {"site.test"}});
    net::TlsIdentity alice = world().root.issue({.common_name = "Alice", .for_client = true});
    std::string certificate = directory.file("server.pem", server.chain_pem);
    std::string key = directory.file("server.key", server.key_pem);
    std::string client_certificate = directory.file("client.pem", alice.chain_pem);
    std::string client_key = directory.file("client.key", alice.key_pem);
    std::string root = directory.file("root.pem", world().root.certificate_pem());
};

}  // namespace torc::testing
