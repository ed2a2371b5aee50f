#include <algorithm>
#include <cstring>

#include "tls_internal.hpp"

// Theory of operation. OpenSSL reads and writes through a BIO of our own kind. Its read side copies from the window
// the engine's driver lent with feed(), straight into OpenSSL's record buffer; when the window is empty it says
// "retry". It says so even once the transport has ended, only noting that more was wanted: an end reported to OpenSSL
// would make it write an alert nobody reads and spoil the session for resumption. The engine turns the note into an
// error. The write side never blocks: it appends to the output queue.
//
// The queue is a list of blocks that stay where they are until consumed. A reader may make OpenSSL say something (an
// alert, an answer to a KeyUpdate) while an earlier block is being sent by the kernel; appending must not move it. When
// the last byte is consumed every block is freed, so an idle connection holds none.
//
// No exception may pass through OpenSSL's frames: running out of memory becomes a failed write and a flag.

namespace torc::net::tls {

namespace {

constexpr std::size_t min_block_bytes = 1024;

Transport& transport_of(BIO* bio) noexcept { return *static_cast<Transport*>(BIO_get_data(bio)); }

int bio_read(BIO* bio, char* to, std::size_t size, std::size_t* got) noexcept {
    Transport& transport = transport_of(bio);
    BIO_clear_retry_flags(bio);
    *got = 0;
    if (transport.input.empty()) {
        transport.hit_end = transport.input_ended;
        BIO_set_retry_read(bio);
        return -1;
    }
    const std::size_t n = std::min(size, transport.input.size());
    std::memcpy(to, transport.input.data(), n);
    transport.input = transport.input.subspan(n);
    for (std::size_t i = 0; i < n && transport.seen < transport.first_bytes.size(); ++i) {
        transport.first_bytes[transport.seen++] = static_cast<unsigned char>(to[i]);
    }
    *got = n;
    return 1;
}

int bio_write(BIO* bio, const char* from, std::size_t size, std::size_t* written) noexcept {
    Transport& transport = transport_of(bio);
    BIO_clear_retry_flags(bio);
    *written = 0;
    try {
        transport.output.append(std::as_bytes(std::span{from, size}));
    } catch (...) {
        transport.out_of_memory = true;
        return 0;
    }
    *written = size;
    return 1;
}

long bio_control(BIO*, int command, long, void*) noexcept { return command == BIO_CTRL_FLUSH ? 1 : 0; }

// Made once and kept: a BIO_METHOD must outlive every BIO of its kind, those in static objects included.
const BIO_METHOD* bio_method() {
    static const BIO_METHOD* const method = [] {
        BIO_METHOD* made = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "torc memory");
        if (made == nullptr) throw std::bad_alloc();
        BIO_meth_set_read_ex(made, bio_read);
        BIO_meth_set_write_ex(made, bio_write);
        BIO_meth_set_ctrl(made, bio_control);
        return made;
    }();
    return method;
}

}  // namespace

BioPtr make_bio(Transport& transport) {
    BioPtr bio{BIO_new(bio_method())};
    if (!bio) throw std::bad_alloc();
    BIO_set_data(bio.get(), &transport);
    BIO_set_init(bio.get(), 1);
    return bio;
}

void OutputQueue::append(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        if (blocks_.empty() || blocks_.back().end == blocks_.back().capacity) {
            const std::size_t capacity = std::max({bytes.size(), expected_bytes_, min_block_bytes});
            blocks_.push_back({std::make_unique_for_overwrite<std::byte[]>(capacity), 0, 0, capacity});
        }
        Block& block = blocks_.back();
        const std::size_t n = std::min(bytes.size(), block.capacity - block.end);
        std::memcpy(block.bytes.get() + block.end, bytes.data(), n);
        block.end += n;
        pending_bytes_ += n;
        bytes = bytes.subspan(n);
    }
}

std::span<const std::byte> OutputQueue::front() const noexcept {
    if (blocks_.empty()) return {};
    const Block& block = blocks_.front();
    return {block.bytes.get() + block.begin, block.end - block.begin};
}

void OutputQueue::consume(std::size_t n) noexcept {
    if (n == 0) return;
    Block& block = blocks_.front();
    block.begin += n;
    pending_bytes_ -= n;
    if (pending_bytes_ == 0) {
        clear();
    } else if (block.begin == block.end) {
        blocks_.erase(blocks_.begin());
    }
}

void OutputQueue::clear() noexcept {
    std::vector<Block>{}.swap(blocks_);
    pending_bytes_ = 0;
}

std::size_t OutputQueue::held_bytes() const noexcept {
    std::size_t held_bytes = 0;
    for (const Block& block : blocks_) held_bytes += block.capacity;
    return held_bytes;
}

}  // namespace torc::net::tls
