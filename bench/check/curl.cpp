// Theory of operation: libcurl's multi interface on an epoll set of our own (curl_multi_socket_action), which is its
// way for many transfers: curl is told which sockets are ready and does not look at the others. So many easy handles as
// checks are wanted at once are made up front and used again and again; only a connection is never used twice.
//
// What helps curl is done: no proxy is looked for in the environment, no signal is armed, HTTP/1.1 is not negotiated.
// The parsed CA file is kept between connections only when it is the one source of trust, so the default directory is
// taken away. TLS sessions are shared by a share handle when tickets are to be used, and not kept otherwise. curl keeps
// one session for each host and may offer a ticket more than once.

#include <curl/curl.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <memory>
#include <string>
#include <vector>

#include "../common/contestant.hpp"

namespace {

struct Check {
    CURL* easy = nullptr;
    std::uint64_t began_ns = 0;
    std::uint64_t body_bytes = 0;
};

struct Request {
    std::string url;
    std::string ca_file;
    bool resume = false;
};

class Checks {
   public:
    explicit Checks(Request request) : request_(std::move(request)), set_(::epoll_create1(EPOLL_CLOEXEC)) {
        headers_ = curl_slist_append(nullptr, "Connection: close");
        if (request_.resume) {
            share_ = curl_share_init();
            curl_share_setopt(share_, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
        }
        multi_ = curl_multi_init();
        curl_multi_setopt(multi_, CURLMOPT_PIPELINING, long{CURLPIPE_NOTHING});
        curl_multi_setopt(multi_, CURLMOPT_SOCKETFUNCTION, &Checks::watch);
        curl_multi_setopt(multi_, CURLMOPT_SOCKETDATA, this);
        curl_multi_setopt(multi_, CURLMOPT_TIMERFUNCTION, &Checks::set_timer);
        curl_multi_setopt(multi_, CURLMOPT_TIMERDATA, this);
    }
    Checks(const Checks&) = delete;
    ~Checks() {
        for (const auto& each : checks_) curl_easy_cleanup(each->easy);
        curl_multi_cleanup(multi_);
        curl_share_cleanup(share_);
        curl_slist_free_all(headers_);
        ::close(set_);
    }

    void carry_out(bench::Order order, bench::Account& account) {
        while (checks_.size() < order.at_once) checks_.push_back(make());
        std::uint64_t to_begin = order.count;
        for (std::size_t at = 0; at < order.at_once && to_begin > 0; ++at, --to_begin) begin(*checks_[at]);
        epoll_event events[256];
        while (account.checks() < order.count) {
            int running = 0;
            const int ready = ::epoll_wait(set_, events, std::size(events), wait_ms());
            for (int at = 0; at < ready; ++at) {
                const unsigned what = events[at].events;
                const int mask = ((what & EPOLLIN) != 0 ? CURL_CSELECT_IN : 0) |
                                 ((what & EPOLLOUT) != 0 ? CURL_CSELECT_OUT : 0) |
                                 ((what & (EPOLLERR | EPOLLHUP)) != 0 ? CURL_CSELECT_ERR : 0);
                curl_multi_socket_action(multi_, events[at].data.fd, mask, &running);
            }
            if (due_ns_ != never && bench::now_ns() >= due_ns_) {
                due_ns_ = never;
                curl_multi_socket_action(multi_, CURL_SOCKET_TIMEOUT, 0, &running);
            }
            int queued = 0;
            while (const CURLMsg* const message = curl_multi_info_read(multi_, &queued)) {
                if (message->msg != CURLMSG_DONE) continue;
                Check& check = finish(message->easy_handle, message->data.result, account);
                if (to_begin == 0) continue;
                --to_begin;
                begin(check);
            }
        }
    }

   private:
    static constexpr std::uint64_t never = ~std::uint64_t{0};

    std::unique_ptr<Check> make() {
        auto check = std::make_unique<Check>();
        check->easy = curl_easy_init();
        const auto set = [easy = check->easy](CURLoption option, auto value) {
            if (curl_easy_setopt(easy, option, value) != CURLE_OK) bench::die("this libcurl lacks an option");
        };
        set(CURLOPT_URL, request_.url.c_str());
        set(CURLOPT_PRIVATE, check.get());
        set(CURLOPT_HTTPHEADER, headers_);
        set(CURLOPT_USERAGENT, "bench");
        set(CURLOPT_HTTP_VERSION, long{CURL_HTTP_VERSION_1_1});
        set(CURLOPT_SSL_ENABLE_ALPN, 0L);
        set(CURLOPT_FORBID_REUSE, 1L);
        set(CURLOPT_NOSIGNAL, 1L);
        set(CURLOPT_PROXY, "");
        set(CURLOPT_WRITEDATA, check.get());
        set(CURLOPT_WRITEFUNCTION, &Checks::take);
        set(CURLOPT_SSLVERSION, long{CURL_SSLVERSION_TLSv1_3});
        set(CURLOPT_SSL_SESSIONID_CACHE, request_.resume ? 1L : 0L);
        set(CURLOPT_SHARE, share_);
        if (!request_.ca_file.empty()) set(CURLOPT_CAINFO, request_.ca_file.c_str());
        set(CURLOPT_CAPATH, static_cast<char*>(nullptr));
        return check;
    }

    void begin(Check& check) {
        check.began_ns = bench::now_ns();
        check.body_bytes = 0;
        curl_multi_add_handle(multi_, check.easy);
    }

    Check& finish(CURL* easy, CURLcode result, bench::Account& account) {
        char* known = nullptr;
        long status = 0;
        curl_easy_getinfo(easy, CURLINFO_PRIVATE, &known);
        curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &status);
        auto& check = *reinterpret_cast<Check*>(known);
        curl_multi_remove_handle(multi_, easy);
        if (result == CURLE_OK && status == 200) {
            account.good(bench::now_ns() - check.began_ns, check.body_bytes);
        } else {
            account.bad();
        }
        return check;
    }

    static std::size_t take(char*, std::size_t, std::size_t size, void* check) {
        static_cast<Check*>(check)->body_bytes += size;
        return size;
    }

    /// What a socket is known by in the set is told to curl, which hands it back; the first time there is nothing.
    static int watch(CURL*, curl_socket_t file, int what, void* self, void* known) {
        auto& checks = *static_cast<Checks*>(self);
        if (what == CURL_POLL_REMOVE) {
            ::epoll_ctl(checks.set_, EPOLL_CTL_DEL, file, nullptr);
            return 0;
        }
        epoll_event event{};
        if ((what & CURL_POLL_IN) != 0) event.events |= EPOLLIN;
        if ((what & CURL_POLL_OUT) != 0) event.events |= EPOLLOUT;
        event.data.fd = file;
        ::epoll_ctl(checks.set_, known == nullptr ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, file, &event);
        if (known == nullptr) curl_multi_assign(checks.multi_, file, &checks);
        return 0;
    }

    static int set_timer(CURLM*, long wait_ms, void* self) {
        static_cast<Checks*>(self)->due_ns_ =
            wait_ms < 0 ? never : bench::now_ns() + static_cast<std::uint64_t>(wait_ms) * 1'000'000;
        return 0;
    }

    [[nodiscard]] int wait_ms() const {
        if (due_ns_ == never) return -1;
        const std::uint64_t now_ns = bench::now_ns();
        return due_ns_ <= now_ns ? 0 : static_cast<int>((due_ns_ - now_ns) / 1'000'000 + 1);
    }

    Request request_;
    int set_;
    std::uint64_t due_ns_ = never;
    curl_slist* headers_ = nullptr;
    CURLSH* share_ = nullptr;
    CURLM* multi_ = nullptr;
    std::vector<std::unique_ptr<Check>> checks_;
};

}  // namespace

int main(int count, char** arguments) {
    if (count < 2) bench::die("bench-check-curl URL [CA-FILE [resume]]");
    curl_global_init(CURL_GLOBAL_DEFAULT);
    {
        Checks checks{{arguments[1], count > 2 ? arguments[2] : "", count > 3}};
        static bench::Account account;
        while (const auto order = bench::next_order()) {
            account.begin();
            checks.carry_out(*order, account);
            account.report();
        }
    }
    curl_global_cleanup();
}
