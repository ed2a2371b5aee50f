#pragma once

#include <concepts>
#include <cstddef>
#include <optional>
#include <type_traits>
#include <utility>
#include <vector>

#include <torc/runtime/wait_queue.hpp>

namespace torc {

/// A bounded queue between tasks: any number of senders, any number of receivers, all served in the order they came.
///
///     co_await jobs.send(std::move(job));
///     while (auto job = co_await jobs.receive()) ...
///
/// Where an item is: with its sender until `send` returned (it was accepted), then in the channel until exactly one
/// `receive` returned it. A `send` that throws, because it was cancelled or the channel closed, has not touched the
/// item: it is the caller's still. A `receive` that is cancelled takes nothing; one that was handed an item returns it,
/// however soon a cancel follows. Capacity 0 is a meeting: `send` returns once a receiver has the item. Items are
/// handed out in the order in which they were accepted; which of several receivers acts on its item first is another
/// matter.
///
/// Lifetime: must outlive everybody who waits; dies with a sentence otherwise. Items left in it go with it.
/// Requires: the executor's thread; one executor.
template <class T>
class channel {
    static_assert(std::is_nothrow_move_constructible_v<T>,
                  "items of a channel change hands while their sender is suspended, where no exception could go");

    class sender : public detail::waiter {
       public:
        void await_resume() {
            if (auto sent = take(); !sent) detail::throw_error(std::move(sent).error(), task_);
        }
        /// For `as_result`.
        result<void> take() const {
            throw_if_cancelled();
            if (!refused) return {};
            return std::unexpected{Error{errc::closed, phase::none, "channel send", "the channel was closed"}};
        }
        [[nodiscard]] std::string describe() const override { return "channel send"; }

        // For the channel: what this waits to send, and that it can not.
        T* item = nullptr;
        bool refused = false;

       protected:
        explicit sender(channel& to) noexcept : channel_(to) {}
        sender(sender&&) = default;
        ~sender() = default;

        [[nodiscard]] bool begin(detail::task_state& task, T& offered) noexcept {
            item = &offered;
            return this->wait_in(channel_.senders_, task, [&] {
                refused = channel_.closed_;
                return refused || channel_.accept(offered);
            });
        }

       private:
        channel& channel_;
    };

   public:
    /// Sends the caller's own object, or a copy that it made.
    template <class Held>
    class [[nodiscard("co_await it")]] send_awaitable final : public sender {
       public:
        send_awaitable(channel& to, Held held) : sender(to), held_(std::forward<Held>(held)) {}
        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
            return this->begin(self.promise(), held_);
        }

       private:
        Held held_;
    };

    class [[nodiscard("co_await it")]] receive_awaitable final : public detail::waiter {
       public:
        explicit receive_awaitable(channel& from) noexcept : channel_(from) {}
        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
            return this->wait_in(channel_.receivers_, self.promise(),
                                 [this] { return channel_.take_into(item_) || channel_.closed_; });
        }
        std::optional<T> await_resume() {
            throw_if_cancelled();
            return std::move(item_);
        }
        [[nodiscard]] std::string describe() const override { return "channel receive"; }

       private:
        friend class channel;
        channel& channel_;
        std::optional<T> item_;
    };

    /// Reserves room for `capacity` items.
    explicit channel(std::size_t capacity) : slots_(capacity) {}
    channel(const channel&) = delete;
    channel& operator=(const channel&) = delete;
    ~channel() {
        TORC_ASSERT(senders_.empty(), "a channel was destroyed while a task waited to send");
        TORC_ASSERT(receivers_.empty(), "a channel was destroyed while a task waited to receive");
    }

    /// Waits until there is room, or with capacity 0 a receiver, and moves `item` there.
    /// Lifetime: `item` must live until the await has ended; a temporary in the same expression does.
    /// Errors:   closed, also if the channel is closed while this waits; `cancelled` unwinds. `item` is as it was then.
    send_awaitable<T&&> send(T&& item) noexcept { return {*this, std::move(item)}; }
    /// Sends a copy, made now.
    send_awaitable<T> send(const T& item)
        requires std::copy_constructible<T>
    {
        return {*this, T(item)};
    }

    /// Waits for an item. Returns nothing once the channel is closed and all that was accepted has been received.
    /// Errors: `cancelled` unwinds.
    receive_awaitable receive() noexcept { return receive_awaitable{*this}; }

    /// True if the item was taken without waiting; otherwise, full or closed, it is as it was.
    [[nodiscard]] bool try_send(T&& item) noexcept { return !closed_ && accept(item); }
    [[nodiscard]] bool try_send(const T& item)
        requires std::copy_constructible<T>
    {
        if (closed_ || !has_room()) return false;
        return try_send(T(item));
    }

    /// An item if there is one now.
    [[nodiscard]] std::optional<T> try_receive() noexcept {
        std::optional<T> item;
        take_into(item);
        return item;
    }

    /// Ends it: senders, those waiting too, get `closed`, receivers what was accepted before and then nothing.
    /// Idempotent.
    void close() noexcept {
        closed_ = true;
        for (; !senders_.empty(); senders_.wake_first()) senders_.first<sender>().refused = true;
        receivers_.wake_all();  // they wait, so nothing is left to receive
    }

    [[nodiscard]] bool closed() const noexcept { return closed_; }
    [[nodiscard]] std::size_t capacity() const noexcept { return slots_.size(); }
    /// Items accepted and not yet received.
    [[nodiscard]] std::size_t size() const noexcept { return count_; }

   private:
    // A receiver waits only while nothing is stored and nobody sends; a sender only while the slots are full.
    [[nodiscard]] bool has_room() const noexcept { return !receivers_.empty() || count_ < slots_.size(); }

    [[nodiscard]] bool accept(T& item) noexcept {
        if (!has_room()) return false;
        if (receivers_.empty()) {
            store(std::move(item));
        } else {
            receivers_.first<receive_awaitable>().item_.emplace(std::move(item));
            receivers_.wake_first();
        }
        return true;
    }
    void store(T&& item) noexcept {
        std::size_t last = first_ + count_;
        if (last >= slots_.size()) last -= slots_.size();
        slots_[last].emplace(std::move(item));
        ++count_;
    }
    bool take_into(std::optional<T>& item) noexcept {
        if (count_ > 0) {
            item.emplace(std::move(*slots_[first_]));
            slots_[first_].reset();
            first_ = first_ + 1 == slots_.size() ? 0 : first_ + 1;
            --count_;
            if (!senders_.empty()) {
                store(std::move(*senders_.first<sender>().item));
                senders_.wake_first();
            }
        } else if (!senders_.empty()) {
            item.emplace(std::move(*senders_.first<sender>().item));
            senders_.wake_first();
        }
        return item.has_value();
    }

    std::vector<std::optional<T>> slots_;
    std::size_t first_ = 0;
    std::size_t count_ = 0;
    detail::wait_queue senders_;
    detail::wait_queue receivers_;
    bool closed_ = false;
};

}  // namespace torc
