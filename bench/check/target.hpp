#pragma once

#include <netdb.h>
#include <netinet/in.h>
#include <sys/socket.h>

#include <cstddef>
#include <cstring>
#include <string>
#include <string_view>

#include "../common/contestant.hpp"

namespace bench {

/// Where to and with what words; found out once.
struct Target {
    bool secure = false;
    std::string host;
    sockaddr_in address{};
    std::string request;
};

inline Target target_of(std::string_view url) {
    Target target;
    std::string_view rest = url;
    if (rest.starts_with("https://")) {
        target.secure = true;
        rest.remove_prefix(8);
    } else if (rest.starts_with("http://")) {
        rest.remove_prefix(7);
    } else {
        die("a URL begins with http:// or https://");
    }
    const std::string_view authority = rest.substr(0, rest.find('/'));
    rest.remove_prefix(authority.size());
    const std::size_t colon = authority.find(':');
    if (colon == authority.npos) die("a URL names its port");
    target.host = authority.substr(0, colon);
    const std::string port{authority.substr(colon + 1)};
    addrinfo hints{};
    hints.ai_family = AF_INET;
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* found = nullptr;
    if (::getaddrinfo(target.host.c_str(), port.c_str(), &hints, &found) != 0) die("the URL's host has no address");
    std::memcpy(&target.address, found->ai_addr, sizeof target.address);
    ::freeaddrinfo(found);
    target.request = "GET " + (rest.empty() ? std::string{"/"} : std::string{rest}) + " HTTP/1.1\r\nHost: ";
    target.request += authority;
    target.request += "\r\nUser-Agent: bench\r\nConnection: close\r\n\r\n";
    return target;
}

}  // namespace bench
