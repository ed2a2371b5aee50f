#include <torc/http/url.hpp>

#include <torc/http/message.hpp>
#include <torc/http/parser.hpp>

#include "fuzz.hpp"

// Theory of operation. The first line is a URL, all that follows a reference found at it.
//
// Required: a URL, printed and parsed again, is the same; so is every URL made from another. Its parts put together are
// the whole, and none of them can break out of its place in a request.

namespace torc::fuzz {
namespace {

using http::Url;

void require_error(const Error& error) {
    require(error.code() == http::errc::bad_url || error.code() == http::errc::unknown_scheme,
            "an error is about URLs");
    require(!error.message().empty() && is_printable(error.message()), "an error is a line of text", error.message());
}

void require_fixed(const Url& url) {
    const auto again = Url::parse(url.href());
    require(again.has_value(), "a URL that was printed can be parsed", url.href());
    require_same(url.href(), again->href(), "a URL that was printed and parsed is the same");
    require(*again == url && again->scheme() == url.scheme() && again->host() == url.host() &&
                again->port() == url.port() && again->path() == url.path() && again->query() == url.query() &&
                again->fragment() == url.fragment() && again->user() == url.user() &&
                again->password() == url.password() && again->target() == url.target() &&
                again->authority() == url.authority() && again->is_ipv4() == url.is_ipv4() &&
                again->is_ipv6() == url.is_ipv6() && again->has_explicit_port() == url.has_explicit_port() &&
                again->has_credentials() == url.has_credentials(),
            "its parts are the same", url.href());
}

void require_parts(const Url& url) {
    require(std::ranges::all_of(url.href(), [](char c) { return c > 0x20 && c < 0x7f; }), "a URL is visible ASCII",
            url.href());
    require(url.path().starts_with('/') && url.target().starts_with(url.path()), "a path begins with a slash",
            url.href());
    require(!url.host().empty() && url.host().find_first_of("/?#@\\[]<> ") == std::string_view::npos,
            "a host is a host", url.href());
    require(url.is_ipv6() || url.host().find(':') == std::string_view::npos, "only an IPv6 address has colons",
            url.href());
    require(!url.path().empty() && url.path().find_first_of("?#\\") == std::string_view::npos,
            "a path ends where it ends", url.href());
    require(url.query().find('#') == std::string_view::npos, "a query ends where it ends", url.href());
    for (std::string_view rest = url.path(); !rest.empty();) {
        rest.remove_prefix(1);
        const std::string_view segment = rest.substr(0, rest.find('/'));
        require(segment != "." && segment != "..", "no dot segment is left", url.href());
        rest.remove_prefix(segment.size());
    }
    require_same(url.origin() + std::string{url.target()}, url.without_credentials().without_fragment().href(),
                 "origin and target are the whole");
    require(url.same_origin(url.without_credentials()), "credentials do not belong to the origin");
    require(!url.without_credentials().has_credentials() && url.without_credentials().user().empty(), "credentials go");
    require(url.without_fragment().fragment().empty() && url.without_fragment().target() == url.target(),
            "a fragment goes");
}

void require_request(const Url& url) {
    http::RequestHead head;
    head.target = url.target();
    std::string written;
    require(append_head(written, head).has_value(), "a URL can be asked for", url.href());
    http::Limits limits;
    limits.max_head_bytes = limits.max_line_bytes = std::size_t{4} << 20;
    http::Parser parser{http::Parser::role::request, {limits, false}};
    const auto step = parser.feed(std::as_bytes(std::span{written}));
    require(step && step->what == http::Parser::event::head && step->consumed_bytes == written.size(),
            "our own parser reads the request", url.href());
    require_same(url.target(), parser.request().target, "it reads what was asked for");
}

/// Dots, against the path's text.
void require_directories(const Url& url) {
    const std::string_view path = url.path();
    const std::string directory{path.substr(0, path.rfind('/'))};
    const std::string parent = directory.substr(0, directory.empty() ? 0 : directory.rfind('/'));
    const auto path_of = [&](std::string_view reference) {
        const auto found = url.resolve(reference);
        require(found.has_value(), "a path can be resolved", url.href());
        return std::string{found->path()};
    };
    require_same(directory + "/", path_of("."), "one dot is the directory");
    require_same(directory + "/x", path_of("y/../%2E/x"), "a directory that is left is as if it was never entered");
    require_same(parent + "/", path_of(".."), "two dots are the directory above");
    require_same(parent + "/x", path_of("../x"), "two dots lead to the directory above");
    require_same("/x", path_of("/../x"), "nothing is above the root");
}

void require_reference(const Url& base, std::string_view reference) {
    const auto url = base.resolve(reference);
    const auto alone = Url::parse(reference);
    if (alone && alone->scheme() != base.scheme()) {
        require(url && *url == *alone, "a URL of another scheme stands for itself", reference);
    }
    if (!url) {
        require_error(url.error());
        return;
    }
    require_fixed(*url);
    require_parts(*url);
    const auto again = base.resolve(url->href());
    require(again && *again == *url, "a reference that was resolved stays what it is", url->href());
    const Url marked = base.with_fragment(reference);
    require_fixed(marked);
    require(marked.without_fragment() == base.without_fragment(), "a fragment changes nothing else", marked.href());
}

}  // namespace
}  // namespace torc::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace torc::fuzz;
    Input input{data, size};
    const std::string_view text = input.line();
    const std::string_view reference = input.rest();
    const auto url = torc::http::Url::parse(text);
    if (!url) {
        require_error(url.error());
        return 0;
    }
    require_fixed(*url);
    require_fixed(url->without_credentials());
    require_parts(*url);
    require_request(*url);
    const auto same = url->resolve("");
    require(same && *same == url->without_fragment(), "an empty reference is the same document", url->href());
    require_directories(*url);
    require_reference(*url, reference);
    return 0;
}
