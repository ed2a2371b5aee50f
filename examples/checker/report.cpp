#include "report.hpp"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "text.hpp"

namespace checker {
namespace {

using Json = nlohmann::ordered_json;

/// Null if there is no text.
Json optional_text(const std::string& text) { return text.empty() ? Json{} : Json(text); }

/// In microseconds' precision; more would pretend.
double milliseconds(torc::Clock::duration value) {
    return std::round(std::chrono::duration<double, std::micro>(value).count()) / 1000;
}

Json timings_of(const torc::http::Timings& timings) {
    Json object;
    object["resolve"] = milliseconds(timings.resolve);
    object["connect"] = milliseconds(timings.connect);
    object["tls"] = milliseconds(timings.tls);
    object["send"] = milliseconds(timings.send);
    object["wait"] = milliseconds(timings.wait);
    object["body"] = milliseconds(timings.body);
    object["total"] = milliseconds(timings.total());
    return object;
}

Json tls_of(const torc::net::TlsPeerInfo& tls) {
    Json object;
    object["version"] = to_string(tls.version);
    object["cipher"] = tls.cipher;
    if (tls.certificate) {
        object["certificate_subject"] = one_line(tls.certificate->subject);
        object["certificate_issuer"] = one_line(tls.certificate->issuer);
        object["certificate_expires"] = fmt::format(
            "{:%Y-%m-%dT%H:%M:%SZ}", fmt::gmtime(std::chrono::system_clock::to_time_t(tls.certificate->not_after)));
    }
    return object;
}

std::string_view phase_of(const torc::Error& error) {
    return error.where() == torc::phase::none ? std::string_view{"check"} : to_string(error.where());
}

/// What happened and to whom; the phase stands elsewhere.
std::string words_of(const torc::Error& error) {
    if (error.peer().empty()) return one_line(error.message());
    return one_line(fmt::format("{}: {}", error.peer(), error.message()));
}

Json error_of(const torc::Error& error) {
    Json object;
    object["phase"] = phase_of(error);
    object["kind"] = kind_of(error.code());
    object["message"] = words_of(error);
    return object;
}

}  // namespace

std::string answer_lines(const Outcome& outcome) {
    std::string lines = fmt::format("{}: status -> {}\n", outcome.name, outcome.status);
    if (outcome.has_body) lines += fmt::format("{}: type -> {}\n", outcome.name, outcome.beginning);
    return lines;
}

std::string error_line(const Outcome& outcome) {
    return fmt::format("{}: error -> {}: {}\n", outcome.name, phase_of(*outcome.error), words_of(*outcome.error));
}

std::string json_line(const Outcome& outcome) {
    Json object;
    object["url"] = outcome.name;
    object["final_url"] = optional_text(outcome.final_url);
    object["status"] = outcome.status != 0 ? Json(outcome.status) : Json{};
    object["bytes"] = outcome.bytes;
    object["milliseconds"] = timings_of(outcome.timings);
    object["tls"] = outcome.tls ? tls_of(*outcome.tls) : Json{};
    object["address"] = optional_text(outcome.address);
    object["error"] = outcome.error ? error_of(*outcome.error) : Json{};
    // What servers say need not be UTF-8; JSON must.
    return object.dump(-1, ' ', false, Json::error_handler_t::replace) + '\n';
}

}  // namespace checker
