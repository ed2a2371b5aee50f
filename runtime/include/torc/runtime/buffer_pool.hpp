#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>
#include <vector>

/// Buffers lent by the executor to receives that do not bring their own.
///
/// Who owns what: the pool owns the memory for the executor's whole life. An identifier is in exactly one place: in
/// `free`, with the driver (which may have handed it to the kernel), or in one `BufferSlice`. A slice gives its buffer
/// back to `free`, from where the driver takes it again in its next turn.
namespace torc {

class BufferPool {
   public:
    /// Memory is reserved, not touched: a buffer costs a page only once something was received into it. The first one
    /// begins with a page.
    BufferPool(std::size_t count, std::size_t buffer_bytes);

    [[nodiscard]] std::size_t count() const noexcept { return count_; }
    [[nodiscard]] std::size_t buffer_bytes() const noexcept { return buffer_bytes_; }
    [[nodiscard]] std::span<std::byte> buffer(std::uint16_t id) noexcept {
        return {memory_.get() + id * buffer_bytes_, buffer_bytes_};
    }

    /// An identifier nobody uses, or -1.
    [[nodiscard]] int take() noexcept {
        if (free_.empty()) return -1;
        const int id = free_.back();
        free_.pop_back();
        return id;
    }
    void give_back(std::uint16_t id) noexcept { free_.push_back(id); }

    /// Buffers now in the hands of slices.
    [[nodiscard]] std::size_t lent() const noexcept { return lent_; }
    /// Buffers that slices gave back, ever.
    [[nodiscard]] std::uint64_t returned() const noexcept { return returned_; }

   private:
    friend class BufferSlice;
    struct FreePages {
        void operator()(std::byte* memory) const noexcept;
    };
    std::size_t count_;
    std::size_t buffer_bytes_;
    std::size_t lent_ = 0;
    std::uint64_t returned_ = 0;
    std::unique_ptr<std::byte[], FreePages> memory_;
    std::vector<std::uint16_t> free_;  // never grows beyond count_, so giving back never allocates
};

/// Received bytes, borrowed from the executor; the buffer goes back when the slice is destroyed.
/// Lifetime: must not outlive the executor. Empty means the end of the stream.
class BufferSlice {
   public:
    BufferSlice() = default;
    BufferSlice(BufferPool& pool, std::uint16_t id, std::size_t size_bytes) noexcept
        : pool_(&pool), bytes_(pool.buffer(id).first(size_bytes)), id_(id) {
        ++pool.lent_;
    }
    /// A slice with memory of its own, for when the pool had nothing to lend.
    BufferSlice(std::unique_ptr<std::byte[]> own, std::size_t size_bytes) noexcept
        : bytes_(own.get(), size_bytes), own_(std::move(own)) {}
    BufferSlice(BufferSlice&& other) noexcept
        : pool_(std::exchange(other.pool_, nullptr)),
          bytes_(std::exchange(other.bytes_, {})),
          own_(std::move(other.own_)),
          id_(other.id_) {}
    BufferSlice& operator=(BufferSlice&& other) noexcept {
        if (this != &other) {
            release();
            pool_ = std::exchange(other.pool_, nullptr);
            bytes_ = std::exchange(other.bytes_, {});
            own_ = std::move(other.own_);
            id_ = other.id_;
        }
        return *this;
    }
    ~BufferSlice() { release(); }

    [[nodiscard]] std::span<std::byte> bytes() const noexcept { return bytes_; }
    [[nodiscard]] std::size_t size() const noexcept { return bytes_.size(); }
    [[nodiscard]] bool empty() const noexcept { return bytes_.empty(); }

    /// Takes `count` bytes off the front.
    void consume(std::size_t count) noexcept { bytes_ = bytes_.subspan(count); }

    /// Gives the buffer back now.
    void release() noexcept {
        if (pool_ != nullptr) {
            --pool_->lent_;
            ++pool_->returned_;
            std::exchange(pool_, nullptr)->give_back(id_);
        }
        own_.reset();
        bytes_ = {};
    }

   private:
    BufferPool* pool_ = nullptr;
    std::span<std::byte> bytes_;
    std::unique_ptr<std::byte[]> own_;
    std::uint16_t id_ = 0;
};

}  // namespace torc
