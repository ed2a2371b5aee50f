#pragma once

#include <concepts>
#include <memory>
#include <type_traits>
#include <utility>

#include <torc/runtime/task.hpp>

/// Streams: coroutines that give many values, one for each time they are asked.
namespace torc {

template <class T>
class stream;

namespace detail {

/// A `co_yield` is an end like that of a task, with the same marks, from which the body can go on: `finished` says that
/// nothing of it is under way, so whoever waits is resumed, and the frame may be destroyed. For the same reason it
/// waits, as a task's end does, for the closes of what the body let go of since it was resumed.
template <class T>
class stream_promise final : public task_state {
   public:
    stream<T> get_return_object(std::source_location where = std::source_location::current()) noexcept;
    void return_void() noexcept { ended = outcome::value; }

    class yielded {
       public:
        explicit yielded(T& value) noexcept : item_(std::addressof(value)) {}
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<stream_promise> self) noexcept {
            promise_ = &self.promise();
            promise_->hand_over(*item_);
        }
        void await_resume() const { promise_->go_on(); }

       private:
        T* item_;
        stream_promise* promise_ = nullptr;
    };
    class yielded_copy {
       public:
        explicit yielded_copy(const T& value) : copy_(value) {}
        bool await_ready() const noexcept { return false; }
        void await_suspend(std::coroutine_handle<stream_promise> self) noexcept {
            promise_ = &self.promise();
            promise_->hand_over(copy_);
        }
        void await_resume() const { promise_->go_on(); }

       private:
        T copy_;
        stream_promise* promise_ = nullptr;
    };

    yielded yield_value(T&& value, std::source_location where = std::source_location::current()) noexcept {
        awaiting = where;
        return yielded{value};
    }
    yielded_copy yield_value(const T& value, std::source_location where = std::source_location::current())
        requires std::copy_constructible<T>
    {
        awaiting = where;
        return yielded_copy{value};
    }

    T* item = nullptr;  ///< what was yielded last; lies in the frame

   private:
    void hand_over(T& value) noexcept {
        item = std::addressof(value);
        left_body = true;
        finished = open_closes == 0;
    }
    void go_on() const {
        if (scope->cancelled()) throw cancelled{};
    }
};

}  // namespace detail

/// A lazy coroutine that co_yields values and may co_await meanwhile. Its body runs only while it is asked for the next
/// value, as part of the task that asks: on its executor, in its scope and under its deadline at that time.
///
///     while (Line* line = co_await lines.next()) ...
///
/// Shape:    T is an object; a move-only one is yielded as an rvalue.
/// Lifetime: owns the coroutine's frame. It may be destroyed whenever no `next` is under way, also before its end: the
///           body's locals are destroyed at their `co_yield`, and what closes then is awaited by the task that lets go.
/// Requires: one reader at a time.
template <class T>
class [[nodiscard("a stream runs only when it is asked for values")]] stream {
    static_assert(std::is_object_v<T> && !std::is_const_v<T>, "a stream gives objects");

   public:
    using promise_type = detail::stream_promise<T>;
    using value_type = T;

    stream(stream&& other) noexcept : frame_(std::exchange(other.frame_, {})) {}
    stream& operator=(stream&& other) noexcept {
        if (this != &other) {
            if (frame_) frame_.destroy();
            frame_ = std::exchange(other.frame_, {});
        }
        return *this;
    }
    ~stream() {
        if (frame_) frame_.destroy();
    }

    class [[nodiscard("co_await it")]] next_awaiter {
       public:
        explicit next_awaiter(promise_type& body) noexcept : body_(body) {}
        bool await_ready() const noexcept { return body_.ended != detail::outcome::pending; }

        /// As awaiting a task does: runs the body in place, and does not suspend if it came to a value or its end.
        template <class Promise>
        bool await_suspend(std::coroutine_handle<Promise> self) noexcept {
            TORC_ASSERT(!body_.started || body_.finished,
                        "a stream was asked for a value while it was being asked for one");
            body_.left_body = body_.finished = false;
            body_.item = nullptr;
            detail::task_state& reader = self.promise();
            return reader.executor->wait_for(reader, body_);
        }
        T* await_resume() {
            if (body_.ended == detail::outcome::pending) return body_.item;
            const detail::outcome end = std::exchange(body_.ended, detail::outcome::value);
            if (end == detail::outcome::error) std::rethrow_exception(std::exchange(body_.error, nullptr));
            if (end == detail::outcome::cancelled) throw cancelled{};
            return nullptr;
        }

       private:
        promise_type& body_;
    };

    /// Runs the body to its next `co_yield`. Returns the value, or null at the end of the stream, now and ever after.
    /// Lifetime: the value lies in the stream, until the next `next` or the stream's end; it may be moved from.
    /// Errors:   what the body throws, once; the stream is at its end then. In a cancelled scope the body's await or
    ///           `co_yield` throws `cancelled`.
    next_awaiter next() noexcept {
        TORC_ASSERT(frame_, "a stream was asked for a value after it was moved from");
        return next_awaiter{frame_.promise()};
    }

   private:
    friend promise_type;
    explicit stream(std::coroutine_handle<promise_type> frame) noexcept : frame_(frame) {}
    std::coroutine_handle<promise_type> frame_;
};

template <class T>
stream<T> detail::stream_promise<T>::get_return_object(std::source_location where) noexcept {
    return stream<T>{introduce(*this, where)};
}

}  // namespace torc
