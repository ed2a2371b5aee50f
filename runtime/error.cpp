#include <torc/runtime/error.hpp>

#include <utility>

// Theory of operation. The std::system_error base keeps the code; everything else lies in one shared block, so that
// copying an Error takes no memory. Changing a copy that shares its block clones the block
// first: what was thrown elsewhere never changes under its reader.

namespace torc {

struct Error::Particulars {
    torc::phase where = phase::none;
    std::string operation;
    std::string detail;
    std::string peer;
    std::string trace;
    std::vector<std::exception_ptr> attached;
    std::string what;

    void compose() {
        what.clear();
        auto part = [this](std::string_view text) {
            if (text.empty()) return;
            if (!what.empty()) what += ": ";
            what += text;
        };
        part(to_string(where));
        if (operation != to_string(where)) part(operation);
        part(peer);
        part(detail);
    }
};

namespace {

class Category final : public std::error_category {
   public:
    [[nodiscard]] const char* name() const noexcept override { return "torc"; }
    [[nodiscard]] std::string message(int code) const override {
        switch (static_cast<errc>(code)) {
            case errc::timed_out: return "timed out";
            case errc::closed: return "already closed on this side";
            case errc::busy: return "another task is already doing this on the same resource";
            case errc::end_of_stream: return "the peer ended the connection too early";
            case errc::invalid_argument: return "invalid argument";
            case errc::unsupported: return "not supported here";
            case errc::not_found: return "no such name";
            case errc::resolver_failed: return "the name could not be looked up";
        }
        return "unknown torc error " + std::to_string(code);
    }
    [[nodiscard]] std::error_condition default_error_condition(int code) const noexcept override {
        switch (static_cast<errc>(code)) {
            case errc::timed_out: return std::errc::timed_out;
            case errc::busy: return std::errc::device_or_resource_busy;
            case errc::invalid_argument: return std::errc::invalid_argument;
            case errc::unsupported: return std::errc::not_supported;
            default: return {code, *this};
        }
    }
};

std::string lower_first(std::string text) {
    if (text.size() > 1 && text[0] >= 'A' && text[0] <= 'Z' && text[1] >= 'a' && text[1] <= 'z') {
        text[0] = static_cast<char>(text[0] - 'A' + 'a');
    }
    return text;
}

}  // namespace

std::string_view to_string(phase where) noexcept {
    switch (where) {
        case phase::none: return "";
        case phase::resolve: return "resolve";
        case phase::connect: return "connect";
        case phase::tls: return "tls";
        case phase::send: return "send";
        case phase::head: return "head";
        case phase::body: return "body";
        case phase::close: return "close";
    }
    return "";
}

const std::error_category& torc_category() noexcept {
    static const Category category;
    return category;
}

std::error_code make_error_code(errc code) noexcept { return {static_cast<int>(code), torc_category()}; }

Error::Error(std::error_code code, torc::phase where, std::string_view operation, std::string detail)
    : std::system_error(code), particulars_(std::make_shared<Particulars>()) {
    particulars_->where = where;
    particulars_->operation = operation;
    particulars_->detail = detail.empty() ? lower_first(code.message()) : std::move(detail);
    particulars_->compose();
}

Error::Error(errc code, torc::phase where, std::string_view operation, std::string detail)
    : Error(make_error_code(code), where, operation, std::move(detail)) {}

torc::phase Error::where() const noexcept { return particulars_->where; }
std::string_view Error::operation() const noexcept { return particulars_->operation; }
std::string_view Error::message() const noexcept { return particulars_->detail; }
std::string_view Error::peer() const noexcept { return particulars_->peer; }
std::string_view Error::trace() const noexcept { return particulars_->trace; }
std::span<const std::exception_ptr> Error::attached() const noexcept { return particulars_->attached; }
const char* Error::what() const noexcept { return particulars_->what.c_str(); }

Error::Particulars& Error::own() {
    if (particulars_.use_count() > 1) particulars_ = std::make_shared<Particulars>(*particulars_);
    return *particulars_;
}

Error& Error::at(torc::phase where) {
    Particulars& mine = own();
    mine.where = where;
    mine.compose();
    return *this;
}

Error& Error::with_peer(std::string_view peer) {
    Particulars& mine = own();
    mine.peer = peer;
    mine.compose();
    return *this;
}

Error& Error::with_trace(std::string trace) {
    own().trace = std::move(trace);
    return *this;
}

Error& Error::attach(std::exception_ptr other) {
    own().attached.push_back(std::move(other));
    return *this;
}

Error error_from_result(int result, torc::phase where, std::string_view operation) {
    return Error{std::error_code{-result, std::generic_category()}, where, operation};
}

}  // namespace torc
