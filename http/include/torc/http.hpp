#pragma once

#if __cplusplus <= 202002L
#error "torc needs C++23: -std=c++23"
#endif

/// All of HTTP: sessions, the server, URLs, headers, and what they stand on.
#include <torc/http/blocking.hpp>
#include <torc/http/coding.hpp>
#include <torc/http/error.hpp>
#include <torc/http/headers.hpp>
#include <torc/http/limits.hpp>
#include <torc/http/message.hpp>
#include <torc/http/method.hpp>
#include <torc/http/parser.hpp>
#include <torc/http/redirect.hpp>
#include <torc/http/response.hpp>
#include <torc/http/server.hpp>
#include <torc/http/session.hpp>
#include <torc/http/status.hpp>
#include <torc/http/text.hpp>
#include <torc/http/transport.hpp>
#include <torc/http/url.hpp>
#include <torc/net.hpp>
