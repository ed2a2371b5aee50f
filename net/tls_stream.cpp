#include <torc/net/tls_stream.hpp>

#include <optional>
#include <vector>

#include <torc/net/tls_error.hpp>
#include <torc/runtime/as_result.hpp>
#include <torc/runtime/mutex.hpp>
#include <torc/runtime/timeout.hpp>

// Theory of operation. The state is an engine over memory, a socket, and the slice of ciphertext that the engine has
// not used up yet. It lies on the heap and is shared with the calls under way, so the stream may move and even go away
// while another task waits in it; that task then finds the socket gone.
//
// Output. Whatever the engine says collects in its queue. One at a time sends it: the holder of `sending`. A writer
// encrypts and sends under that lock, so outside it the queue holds nothing of the application's, only the protocol's
// own: a last handshake flight, tickets, an answer to a key update, an alert. A reader sends these before it waits for
// input, as the peer might be waiting for them; but when a writer is at work it leaves them to it and never waits for a
// writer, which might itself be waiting for the peer to be read.
//
// Endings, and what is said last when the socket closes (the record's farewell):
//
//   established, nothing half sent  what the protocol still has to say, then close_notify
//   failed                          the alert that the engine left
//   handshake not complete          nothing: a cancelled handshake has nothing to vouch for
//   broken                          nothing: records were cut off, so close_notify would vouch for a stream with a hole
//
// A stream is broken once a send failed or was cancelled with records encrypted and not all of them sent: their
// sequence numbers are used up, so they can be neither taken back nor skipped. Receiving goes on; it is how one learns
// of the alert or the answer with which the peer ended the conversation.

namespace torc::net {

namespace {

constexpr std::size_t plaintext_bytes = 16 * 1024;

/// Memory for one slice of plaintext: one of the executor's buffers if there is one to spare, else its own.
class PlaintextMemory {
   public:
    explicit PlaintextMemory(BufferPool& pool) : pool_(pool), id_(pool.take()) {
        if (id_ < 0) own_ = std::make_unique_for_overwrite<std::byte[]>(plaintext_bytes);
    }
    PlaintextMemory(const PlaintextMemory&) = delete;
    PlaintextMemory& operator=(const PlaintextMemory&) = delete;
    ~PlaintextMemory() {
        if (id_ >= 0) pool_.give_back(static_cast<std::uint16_t>(id_));
    }
    [[nodiscard]] std::span<std::byte> bytes() const noexcept {
        return id_ < 0 ? std::span{own_.get(), plaintext_bytes} : pool_.buffer(static_cast<std::uint16_t>(id_));
    }
    [[nodiscard]] BufferSlice slice(std::size_t size_bytes) noexcept {
        if (id_ < 0) return BufferSlice{std::move(own_), size_bytes};
        return BufferSlice{pool_, static_cast<std::uint16_t>(std::exchange(id_, -1)), size_bytes};
    }

   private:
    BufferPool& pool_;
    int id_;
    std::unique_ptr<std::byte[]> own_;
};

[[noreturn]] void throw_here(Error error) { detail::throw_error(std::move(error), Executor::here().running()); }

/// Every await is a point of cancellation, also one that finds all it needs in memory.
void meet_cancellation() {
    if (cancel_pending()) throw cancelled{};
}

/// Holds one of the two places, the reader's or the writer's.
class Place {
   public:
    Place(bool& taken, const char* operation) : taken_(taken) {
        if (taken) throw_here(Error{errc::busy, phase::none, operation});
        taken = true;
    }
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    ~Place() { taken_ = false; }

   private:
    bool& taken_;
};

}  // namespace

struct TlsStream::State {
    State(TcpStream stream, tls::Engine made) : tcp(std::move(stream)), engine(std::move(made)) {}

    TcpStream tcp;
    tls::Engine engine;
    BufferSlice input;  // the engine's window, while it is not used up
    mutex sending;
    std::optional<Error> send_failure;  // of a reader's flush, until it is known what the peer had to say
    bool reading = false;
    bool writing = false;
    bool broken = false;
    bool write_ended = false;  // shutdown_write was done

    void require_open(const char* operation) {
        if (!tcp.is_open()) throw_here(Error{errc::closed, phase::none, operation});
    }

    void break_output() noexcept {
        broken = true;
        while (!engine.output().empty()) engine.consume_output(engine.output().size());
    }

    void return_input() noexcept {
        if (engine.unread() == 0) input.release();
    }

    [[noreturn]] void throw_failure() {
        Error error = engine.error();
        if (send_failure && error.code() == tls_errc::truncated) error = *send_failure;
        if (error.peer().empty() && tcp.is_open()) error.with_peer(tcp.peer().to_string());
        throw_here(std::move(error));
    }

    task<> send_output();
    task<> fill();
    void prepare_farewell() noexcept;
    void let_go() noexcept;
};

/// Sends until the engine has nothing more to say, including what it says meanwhile. Requires: `sending` is held.
task<> TlsStream::State::send_output() {
    while (!engine.output().empty()) {
        const std::size_t size_bytes = engine.output().size();
        bool sent = false;
        try {
            co_await tcp.send(engine.output());
            sent = true;
        } catch (const Error&) {
            break_output();
            throw;
        } catch (const cancelled&) {
            if (!tcp.is_open() || tcp.record().output_broken()) break_output();
            throw;
        }
        if (sent) engine.consume_output(size_bytes);
    }
}

/// Gives the engine more input, or tells it that there is none.
task<> TlsStream::State::fill() {
    if (!engine.output().empty() && !broken) {
        bool failed = false;
        if (const auto guard = sending.try_lock()) {
            try {
                co_await send_output();
            } catch (const Error& error) {
                send_failure = error;
                failed = true;
            }
        }
        require_open("receive");
        if (failed) {
            // The connection may be well all the same (the kernel was short of memory), and the peer wait for what it
            // will never get. It hears that nothing more comes, so that this side does not wait for ever either.
            static_cast<void>(co_await as_result(tcp.shutdown_write()));
            require_open("receive");
        }
    }
    try {
        input = co_await tcp.receive();
    } catch (const Error&) {
        broken = true;
        throw;
    }
    if (input.empty()) {
        engine.input_ended();
    } else {
        engine.feed(input.bytes());
    }
}

void TlsStream::State::prepare_farewell() noexcept {
    if (!tcp.is_open()) return;
    engine.feed({});
    input.release();
    if (broken || sending.locked() || tcp.record().output_broken()) return;
    if (!engine.established() && !engine.failed()) return;
    try {
        engine.close_notify();
        std::vector<std::byte> last;
        for (; !engine.output().empty(); engine.consume_output(engine.output().size())) {
            last.insert(last.end(), engine.output().begin(), engine.output().end());
        }
        tcp.record().set_farewell(last);
    } catch (const std::bad_alloc&) {
        // The close goes on without a farewell: it is only less polite.
    }
}

void TlsStream::State::let_go() noexcept {
    prepare_farewell();
    [[maybe_unused]] const TcpStream gone = std::move(tcp);
}

TlsStream::TlsStream(std::shared_ptr<State> state) noexcept : state_(std::move(state)) {}

TlsStream& TlsStream::operator=(TlsStream&& other) noexcept {
    if (this != &other) {
        if (state_) state_->let_go();
        state_ = std::move(other.state_);
    }
    return *this;
}

TlsStream::~TlsStream() {
    if (state_) state_->let_go();
}

task<> TlsStream::handshake(State& state, bool is_server) {
    try {
        for (;;) {
            state.require_open("handshake");
            const tls::Status status = state.engine.handshake();
            state.return_input();
            if (status == tls::Status::failed) state.throw_failure();
            if (status == tls::Status::ok) break;
            co_await state.fill();
        }
        // A client of TLS 1.2 waits for what is left. When it has already begun to speak, the answer takes it along.
        if (is_server && state.engine.unread() == 0) {
            const auto guard = state.sending.try_lock();
            co_await state.send_output();
        }
    } catch (Error& error) {
        if (error.peer().empty() && state.tcp.is_open()) error.with_peer(state.tcp.peer().to_string());
        error.at(phase::tls);
        throw;
    } catch (const cancelled&) {
        state.break_output();
        throw;
    }
}

task<TlsStream> TlsStream::connect(TcpStream stream, TlsContext context, tls::ClientSide side) {
    tls::Engine engine{context, side};
    TlsStream made{std::make_shared<State>(std::move(stream), std::move(engine))};
    co_await handshake(*made.state_, false);
    co_return made;
}

task<TlsStream> TlsStream::accept(TcpStream stream, TlsContext context) {
    tls::Engine engine{context};
    TlsStream made{std::make_shared<State>(std::move(stream), std::move(engine))};
    co_await handshake(*made.state_, true);
    co_return made;
}

task<BufferSlice> TlsStream::receive() { return receive_slice(state_); }
task<std::size_t> TlsStream::receive(std::span<std::byte> buffer) { return receive_into(state_, buffer); }
task<> TlsStream::send(std::span<const std::byte> bytes) { return send_all(state_, bytes, {}, false); }
task<> TlsStream::send(std::span<const std::byte> first, std::span<const std::byte> second) {
    if (first.empty()) std::swap(first, second);
    return send_all(state_, first, second, false);
}
task<> TlsStream::shutdown_write() { return send_all(state_, {}, {}, true); }

task<BufferSlice> TlsStream::receive_slice(std::shared_ptr<State> state) {
    const Place reader{state->reading, "receive"};
    for (;;) {
        meet_cancellation();
        state->require_open("receive");
        {
            PlaintextMemory memory{state->tcp.record().executor().driver().buffers()};
            const auto [status, size_bytes] = state->engine.read(memory.bytes());
            state->return_input();
            if (status == tls::Status::ok) co_return memory.slice(size_bytes);
            if (status == tls::Status::end_of_stream) co_return BufferSlice{};
            if (status == tls::Status::failed) state->throw_failure();
        }
        co_await state->fill();
    }
}

task<std::size_t> TlsStream::receive_into(std::shared_ptr<State> state, std::span<std::byte> buffer) {
    TORC_ASSERT(!buffer.empty(), "a receive needs a buffer to receive into");
    const Place reader{state->reading, "receive"};
    for (;;) {
        meet_cancellation();
        state->require_open("receive");
        const auto [status, size_bytes] = state->engine.read(buffer);
        state->return_input();
        if (status == tls::Status::ok) co_return size_bytes;
        if (status == tls::Status::end_of_stream) co_return 0;
        if (status == tls::Status::failed) state->throw_failure();
        co_await state->fill();
    }
}

task<> TlsStream::send_all(std::shared_ptr<State> state, std::span<const std::byte> bytes,
                           std::span<const std::byte> behind, bool end) {
    const Place writer{state->writing, "send"};
    const mutex::guard guard = co_await state->sending.lock();
    meet_cancellation();
    state->require_open("send");
    if (state->engine.close_notify_sent() && (!end || state->write_ended)) {
        if (end) co_return;
        throw_here(Error{errc::closed, phase::send, "send", "this side has already ended the stream"});
    }
    if (state->broken) {
        Error error{std::make_error_code(std::errc::broken_pipe), phase::send, "send"};
        throw_here(std::move(error.with_peer(state->tcp.peer().to_string())));
    }

    // However this is left before all is said, what was encrypted and not sent leaves a hole.
    struct Unfinished {
        State* state;
        ~Unfinished() {
            if (state != nullptr) state->break_output();
        }
    } unfinished{bytes.empty() ? nullptr : state.get()};
    bool written = state->engine.close_notify_sent();  // by a shutdown_write that did not come to its end
    while (!written) {
        const auto [status, size_bytes] = state->engine.write(bytes, behind.size());
        bytes = bytes.subspan(size_bytes);
        if (status == tls::Status::failed) {
            unfinished.state = nullptr;  // what is left is the alert
            state->throw_failure();
        }
        written = bytes.empty() && behind.empty();
        if (bytes.empty()) {
            bytes = std::exchange(behind, {});
        } else {
            co_await state->send_output();
        }
    }
    if (end) state->engine.close_notify();
    co_await state->send_output();
    if (end) {
        state->require_open("shut down");
        co_await state->tcp.shutdown_write();
        state->write_ended = true;
    }
    unfinished.state = nullptr;
}

close_awaitable TlsStream::close() noexcept {
    if (!state_) return close_awaitable{nullptr};
    state_->prepare_farewell();
    return state_->tcp.close();
}

void TlsStream::update_keys(bool ask_peer) { state_->engine.update_keys(ask_peer); }

TlsPeerInfo TlsStream::info() const { return state_->engine.info(); }
TlsSession TlsStream::session() const { return state_->engine.session(); }
bool TlsStream::is_open() const noexcept { return state_ != nullptr && state_->tcp.is_open(); }
const Address& TlsStream::peer() { return state_->tcp.peer(); }
Address TlsStream::local() const { return state_->tcp.local(); }
SocketRecord& TlsStream::record() noexcept { return state_->tcp.record(); }

}  // namespace torc::net
