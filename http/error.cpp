#include <torc/http/error.hpp>

// Theory of operation. One category for all of HTTP. The words here are the general ones; whoever reports an error adds
// a sentence that names the line, the byte or the number, and that sentence then stands in their place.

namespace torc::http {
namespace {

class Category final : public std::error_category {
   public:
    [[nodiscard]] const char* name() const noexcept override { return "torc.http"; }
    [[nodiscard]] std::string message(int code) const override {
        switch (static_cast<errc>(code)) {
            case errc::bad_url: return "the URL can not be understood";
            case errc::unknown_scheme: return "the URL's scheme is not http or https";
            case errc::bad_header: return "a header may not contain this";
            case errc::bad_message: return "the peer's message is malformed";
            case errc::bad_framing: return "the peer's message does not say clearly where it ends";
            case errc::unsupported_version: return "the peer speaks another version of HTTP";
            case errc::unknown_method: return "the method is not known";
            case errc::line_too_long: return "a line is longer than the limit allows";
            case errc::head_too_large: return "the head is larger than the limit allows";
            case errc::too_many_headers: return "there are more headers than the limit allows";
            case errc::trailers_too_large: return "the trailers are larger than the limit allows";
            case errc::body_too_large: return "the body is larger than the limit allows";
            case errc::too_many_interim: return "there are more interim responses than the limit allows";
            case errc::bad_coding: return "the content coding is unknown or damaged";
            case errc::expansion_too_large: return "the compressed body expands beyond the limit";
            case errc::too_many_redirects: return "there are more redirects than the limit allows";
            case errc::bad_redirect: return "the redirect does not lead anywhere";
            case errc::insecure_redirect: return "the redirect leads from https to http";
            case errc::unexpected_eof: return "the connection ended in the middle of a message";
            case errc::after_close: return "the peer sent more after the last message of the connection";
        }
        return "unknown HTTP error " + std::to_string(code);
    }
};

}  // namespace

const std::error_category& http_category() noexcept {
    static const Category category;
    return category;
}

std::error_code make_error_code(errc code) noexcept { return {static_cast<int>(code), http_category()}; }

}  // namespace torc::http
