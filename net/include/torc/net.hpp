#pragma once

#if __cplusplus <= 202002L
#error "torc needs C++23: -std=c++23"
#endif

/// All of the network: addresses, name look-up, streams, listeners, TLS.
#include <torc/net/address.hpp>
#include <torc/net/happy_eyeballs.hpp>
#include <torc/net/listener.hpp>
#include <torc/net/resolution.hpp>
#include <torc/net/resolver.hpp>
#include <torc/net/stream.hpp>
#include <torc/net/tls_error.hpp>
#include <torc/net/tls_info.hpp>
#include <torc/net/tls_options.hpp>
#include <torc/net/tls_selfsigned.hpp>
#include <torc/net/tls_stream.hpp>
#include <torc/net/udp.hpp>
#include <torc/runtime.hpp>
