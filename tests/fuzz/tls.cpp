#include <torc/net/tls_error.hpp>
#include <torc/net/tls_selfsigned.hpp>

#include <array>
#include <cctype>
#include <deque>
#include <optional>

#include "../support/tls_pair.hpp"
#include "fuzz.hpp"
#include "randomness.hpp"

// Theory of operation. Two engines hold a real handshake and talk, and the input sits on the path between them: its
// first byte says which kind of connection, then come instructions of one letter, some with arguments. A small letter
// is about what goes to the server, a large one about what goes to the client.
//
//     n      deliver the next record         s place     ... in two pieces         m     ... all that wait, as one
//     piece d      drop it                         u           deliver it twice          o     swap it with the one
//     behind it f place bits   flip bits of it         t place     cut it short              r     send it back to its
//     sender y place byte   change its header       l byte byte change its length         i n bytes   put bytes before
//     it w n    the sender writes               c           ... closes                k, a  ... changes keys, of both
//     ends e      the stream ends here            g           deliver everything, both ways, until both are silent
//
// Required, whatever was done: what arrives is a beginning of what was sent; whoever reads the end of the stream has
// read all of it; ends that changed handshakes do not meet; an engine that failed says why, and says no more than an
// alert to its peer. If records were only cut and joined, everything arrives.
//
// The same input does the same every time: random numbers come from a generator that begins anew with each input, and
// nothing that changes is shared by two connections.

namespace torc::fuzz {
namespace {

using net::TlsContext;
using net::tls::Status;
using testing::TlsEnd;

constexpr std::size_t header_bytes = 5;
constexpr std::size_t most_written_bytes = 200'000;
constexpr int most_instructions = 400;

/// Certificates of fixed dates, because a date that changed would change the handshake's bytes.
net::CertificateRequest dated(net::CertificateRequest request) {
    using namespace std::chrono;
    request.not_before = sys_days{2020y / January / 1};
    request.not_after = sys_days{2120y / January / 1};
    return request;
}

struct Contexts {
    TlsContext client;
    TlsContext server;
};

struct Kind {
    bool old_version;         ///< TLS 1.2
    bool client_certificate;  ///< the server asks for one, and gets one
    bool resumes;             ///< an earlier session
};

class World {
   public:
    World() {
        begin_randomness();
        const net::ThrowawayAuthority root{dated({.common_name = "Fuzz Root"})};
        const net::TlsIdentity site = root.issue(dated({.names = {"site.test"}}));
        const net::TlsIdentity visitor = root.issue(dated({.common_name = "Visitor", .for_client = true}));
        for (int bits = 0; bits < 8; ++bits) {
            const Kind kind = kind_of(bits);
            net::TlsClientOptions client;
            client.trust.ca_pem = root.certificate_pem();
            client.alpn = {"http/1.1"};
            client.resumption = kind.resumes;
            net::TlsServerOptions server;
            server.identities = {site};
            server.alpn = {"h2", "http/1.1"};
            server.tickets = kind.resumes;
            if (kind.old_version) client.algorithms.max_version = net::TlsVersion::tls1_2;
            if (kind.client_certificate) {
                client.identity = visitor;
                server.client_certificate = net::TlsClientCertificate::require;
                server.client_trust.ca_pem = root.certificate_pem();
            }
            client_options_.push_back(client);
            contexts_.push_back({TlsContext::client(client), TlsContext::server(server)});
        }
    }

    static Kind kind_of(int bits) { return {(bits & 1) != 0, (bits & 2) != 0, (bits & 4) != 0}; }
    [[nodiscard]] Contexts of(int bits) const {
        const auto index = static_cast<std::size_t>(bits & 7);
        Contexts contexts = contexts_[index];
        // A client that resumes remembers sessions, which must not come from another input.
        if (kind_of(bits).resumes) contexts.client = TlsContext::client(client_options_[index]);
        return contexts;
    }

   private:
    std::vector<net::TlsClientOptions> client_options_;
    std::vector<Contexts> contexts_;
};

struct Side {
    explicit Side(net::tls::Engine engine) : end(std::move(engine)) {}

    TlsEnd end;
    std::deque<std::string> said;  ///< records on their way to the other side
    std::string sent;              ///< plaintext
    bool closed = false;
    bool ended = false;  ///< it was told that nothing more comes
    bool was_failed = false;
};

class Meeting {
   public:
    Meeting(const Contexts& contexts, const net::TlsSession& session)
        : client_(net::tls::Engine{contexts.client, {"site.test", 443, {}, session}}),
          server_(net::tls::Engine{contexts.server}) {
        client_.end.drive();
        collect(client_);
        server_.end.drive();
    }

    void run(Input& script) {
        for (int count = 0; !script.empty() && count < most_instructions; ++count) {
            const char letter = static_cast<char>(script.byte());
            const bool to_client = std::isupper(static_cast<unsigned char>(letter)) != 0;
            Side& from = to_client ? server_ : client_;
            Side& to = to_client ? client_ : server_;
            const char instruction = static_cast<char>(std::tolower(static_cast<unsigned char>(letter)));
            if (!act(instruction, from, script)) disturb(instruction, from, to, script);
        }
        deliver_everything();
    }

    void require_outcome() {
        const bool met = client_.end.engine.established() && server_.end.engine.established();
        for (Side* side : {&client_, &server_}) {
            if (!side->ended) side->end.end_input();
            check(*side);
            require(!side->end.engine.failed() || !side->end.engine.error().message().empty(),
                    "a failure is explained");
        }
        if (changed_handshake_) require(!met, "ends of a handshake that was changed do not meet");
        if (!disturbed_) {
            require(met, "ends that nobody disturbs meet", explain());
            require_arrived(client_, server_);
            require_arrived(server_, client_);
        }
        if (met) {
            const net::TlsPeerInfo ours = client_.end.engine.info();
            const net::TlsPeerInfo theirs = server_.end.engine.info();
            require(ours.verified && ours.server_name == "site.test", "a client knows whom it talks to");
            require(ours.version == theirs.version && ours.cipher == theirs.cipher && ours.alpn == theirs.alpn &&
                        ours.resumed == theirs.resumed,
                    "both know the same of their connection");
        }
    }

    [[nodiscard]] net::TlsSession session() const { return client_.end.engine.session(); }
    [[nodiscard]] const std::string& ciphertext() const { return ciphertext_; }

   private:
    /// What an honest peer and an honest network do. False if the instruction is none of these.
    bool act(char instruction, Side& from, Input& script) {
        Side& to = other(from);
        switch (instruction) {
            case 'n':
                if (!from.said.empty()) deliver(to, take(from));
                return true;
            case 's': {
                const std::string_view place = script.text(1);
                if (from.said.empty()) return true;
                const std::string record = take(from);
                const Pieces pieces = Pieces::cut(record, places_in(record.size(), place));
                for (const std::string_view piece : pieces.views()) deliver(to, piece);
                return true;
            }
            case 'm': {
                std::string all;
                while (!from.said.empty()) all += take(from);
                deliver(to, all);
                return true;
            }
            case 'g': deliver_everything(); return true;
            case 'w': write(from, std::size_t{1} + script.byte() * std::size_t{97}); return true;
            case 'c':
                from.closed = from.closed || from.end.engine.established();
                from.end.engine.close_notify();
                collect(from);
                return true;
            case 'k':
            case 'a':
                from.end.engine.update_keys(instruction == 'a');
                collect(from);
                return true;
            default: return false;
        }
    }

    /// What somebody on the path can do.
    void disturb(char instruction, Side& from, Side& to, Input& script) {
        if (std::string_view{"dutfoiryle"}.find(instruction) == std::string_view::npos) return;
        std::string arguments;
        if (instruction == 'f' || instruction == 'y' || instruction == 'l') arguments = script.text(2);
        if (instruction == 't') arguments = script.text(1);
        if (instruction == 'i') arguments = script.text(script.byte());
        if (instruction == 'i') {
            disturbed_ = disturbed_ || !arguments.empty();
            deliver(to, arguments);
            return;
        }
        if (instruction == 'e') {
            disturbed_ = true;
            if (!std::exchange(to.ended, true)) to.end.end_input();
            collect(to);
            check(to);
            return;
        }
        if (from.said.empty()) return;
        disturbed_ = true;
        if (instruction == 'o') {
            if (from.said.size() > 1) std::swap(from.said[0], from.said[1]);
            return;
        }
        arguments.resize(2);
        std::string record = take(from);
        switch (instruction) {
            case 'd': return;
            case 'u': deliver(to, record); break;
            case 't': record.resize(places_in(record.size(), arguments.substr(0, 1))[0]); break;
            case 'f': flip(record, arguments); break;
            case 'y': record[static_cast<std::uint8_t>(arguments[0]) % 3] = arguments[1]; break;
            case 'l': record.replace(3, 2, arguments); break;
            case 'r': deliver(from, record); return;
            default: return;
        }
        deliver(to, record);
    }

    void flip(std::string& record, std::string_view arguments) {
        constexpr char handshake = 22;
        const std::size_t place = header_bytes + places_in(record.size() - header_bytes - 1, arguments.substr(0, 1))[0];
        if (arguments[1] == 0) return;
        record[place] = static_cast<char>(record[place] ^ arguments[1]);
        const bool none = !client_.end.engine.established() && !server_.end.engine.established();
        if (record[0] == handshake && none) changed_handshake_ = true;
    }

    void write(Side& from, std::size_t size) {
        if (from.closed || from.sent.size() + size > most_written_bytes) return;
        std::string text(size, '\0');
        for (std::size_t i = 0; i < size; ++i) text[i] = static_cast<char>('a' + (from.sent.size() + i) * 7 % 26);
        for (std::string_view left = text; !left.empty();) {
            const net::tls::IoResult result = from.end.engine.write(testing::bytes_of(left));
            require(from.end.engine.output_bytes() < net::tls::Engine::output_limit_bytes + 1024, "output is bounded");
            require(result.n <= left.size(), "no more is written than was given");
            from.sent += left.substr(0, result.n);
            left.remove_prefix(result.n);
            collect(from);
            if (result.status == Status::failed || result.status == Status::want_input) break;
        }
        check(from);
    }

    static std::string take(Side& from) {
        std::string record = std::move(from.said.front());
        from.said.pop_front();
        return record;
    }

    /// Puts what an engine says on its way, a record a piece.
    void collect(Side& from) {
        std::string bytes;
        net::tls::Engine& engine = from.end.engine;
        while (!engine.output().empty()) {
            bytes += from.end.output();
            engine.consume_output(engine.output().size());
        }
        require(engine.output_bytes() == 0 && engine.output_held_bytes() == 0,
                "an engine that said all holds no memory");
        ciphertext_ += bytes;
        if (engine.failed()) {
            require(bytes.size() < 100 || !from.was_failed, "an engine that failed says no more than an alert");
            from.was_failed = true;
        }
        for (std::string_view left = bytes; !left.empty();) {
            require(left.size() >= header_bytes, "an engine says whole records");
            const std::size_t size =
                header_bytes + (static_cast<std::uint8_t>(left[3]) << 8 | static_cast<std::uint8_t>(left[4]));
            require(left[0] >= 20 && left[0] <= 23 && size <= 16384 + 256 + header_bytes && size <= left.size() &&
                        size > header_bytes,
                    "an engine says whole records of a kind that exists");
            from.said.emplace_back(left.substr(0, size));
            left.remove_prefix(size);
        }
    }

    void deliver(Side& to, std::string_view bytes) {
        if (to.ended) {
            disturbed_ = true;
            return;
        }
        const bool used_up = to.end.accept(bytes);
        require(used_up || to.end.status == Status::failed || to.end.status == Status::end_of_stream,
                "an engine that needs more has taken all there was");
        collect(to);
        check(to);
    }

    void deliver_everything() {
        while (!client_.said.empty() || !server_.said.empty()) {
            while (!client_.said.empty()) deliver(server_, take(client_));
            while (!server_.said.empty()) deliver(client_, take(server_));
        }
    }

    void check(Side& side) {
        const Side& peer = other(side);
        const TlsEnd& end = side.end;
        require(peer.sent.starts_with(end.received), "what arrives is a beginning of what was sent");
        if (end.status == Status::end_of_stream) {
            require(peer.closed && end.received.size() == peer.sent.size(), "who reads the end has read everything");
        }
        if (!end.engine.failed()) return;
        const Error& error = end.engine.error();
        const bool ours = error.code().category() == net::tls_category() || error.code() == errc::closed;
        require(ours && is_printable(error.message()), "a failure is one of TLS, in a line of text", error.what());
    }

    void require_arrived(const Side& from, const Side& to) {
        require_same(from.sent, to.end.received, "what nobody disturbs arrives");
        if (from.closed) {
            require(to.end.status == Status::end_of_stream, "an end that was said is read", explain());
        } else {
            require(to.end.status == Status::failed && to.end.engine.error().code() == net::tls_errc::truncated,
                    "an end that was not said is noticed", explain());
        }
    }

    [[nodiscard]] std::string explain() const {
        std::string words;
        for (const Side* side : {&client_, &server_}) {
            words += side == &client_ ? "client: " : "server: ";
            words += side->end.engine.failed() ? side->end.engine.error().what() : "has not failed";
            words += '\n';
        }
        return words;
    }

    Side& other(Side& side) { return &side == &client_ ? server_ : client_; }

    Side client_;
    Side server_;
    std::string ciphertext_;
    bool disturbed_ = false;
    bool changed_handshake_ = false;
};

std::string undisturbed_ciphertext(const World& world) {
    begin_randomness();
    Meeting meeting{world.of(0), {}};
    Input nothing{nullptr, 0};
    meeting.run(nothing);
    return meeting.ciphertext();
}

const World& world() {
    static const World made;
    static const bool repeats = undisturbed_ciphertext(made) == undisturbed_ciphertext(made);
    require(repeats, "two connections with the same random numbers are the same");
    return made;
}

void run(Input input) {
    const int bits = input.byte();
    const World& made = world();
    begin_randomness();
    const Contexts contexts = made.of(bits);
    net::TlsSession session;
    if (World::kind_of(bits).resumes) {
        Meeting first{contexts, {}};
        Input nothing{nullptr, 0};
        first.run(nothing);
        session = first.session();
        require(static_cast<bool>(session), "a first connection leaves a session to resume");
    }
    Meeting meeting{contexts, session};
    meeting.run(input);
    meeting.require_outcome();
}

}  // namespace
}  // namespace torc::fuzz

int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    torc::fuzz::run({data, size});
    return 0;
}
