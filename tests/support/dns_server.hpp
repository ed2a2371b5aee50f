#pragma once

#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <mutex>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <torc/net/address.hpp>

/// A name server on loopback that says what it is told to, over UDP and TCP on one port. It runs on a thread of its
/// own; its members may be called from any thread.
namespace torc::test {

/// What is known of one name.
struct DnsRecords {
    std::vector<std::string> a;
    std::vector<std::string> aaaa;
    std::string cname;  ///< another name, whose records follow in the answer
    std::uint32_t ttl = 60;
    std::uint32_t cname_ttl = 60;
    static constexpr std::uint16_t type_a = 1;
    static constexpr std::uint16_t type_aaaa = 28;

    int rcode = 0;           ///< 2 SERVFAIL, 3 NXDOMAIN (what names that are not known get), 5 REFUSED
    bool silent = false;     ///< never answers
    bool held = false;       ///< answers once `release` was called
    bool truncated = false;  ///< over UDP, says that the answer does not fit
    bool wrong_question =
        false;             ///< before the true answer comes one with another identifier, as a forger would send it
    bool garbage = false;  ///< answers with bytes that are no message
    /// The type of the questions that `rcode`, `silent` and `held` are for; 0 stands for all.
    std::uint16_t only = 0;

    [[nodiscard]] bool concerns(std::uint16_t type) const noexcept { return only == 0 || only == type; }
};

class DnsServer {
   public:
    explicit DnsServer(const net::Address& address = net::Address::loopback(0));
    DnsServer(const DnsServer&) = delete;
    DnsServer& operator=(const DnsServer&) = delete;
    ~DnsServer();

    [[nodiscard]] net::Address address() const { return address_; }

    void set(const std::string& name, DnsRecords records);
    /// Answers the questions for a name that were held back, and those to come.
    void release(const std::string& name);

    /// How often a name was asked for: over UDP (both families, retries included) and over TCP.
    [[nodiscard]] std::size_t questions(const std::string& name);
    [[nodiscard]] std::size_t questions_over_tcp(const std::string& name);
    /// Blocks until a name was asked for so often.
    void wait_for_questions(const std::string& name, std::size_t count);
    /// Blocks until the server has closed its end of every connection that was made and closed before.
    void wait_until_disconnected();

   private:
    struct Peer {
        int fd = -1;
        bool tcp = false;
        std::vector<char> address;  // where a datagram came from
    };
    struct Question {
        std::uint16_t id = 0;
        std::uint16_t type = 0;
        std::string name;  // in lower case
        std::string raw;   // the question section, to be repeated
    };
    struct Connection {
        int fd = -1;
        std::string received;
    };

    void serve();
    void read_datagrams();
    bool read_connection(Connection& connection);
    void handle(const std::string& message, const Peer& peer);
    void answer(const Question& question, const Peer& peer);
    std::string build(const Question& question, const DnsRecords* records, bool truncate);
    static void send(const Peer& peer, const std::string& message);

    int udp_fd_ = -1;
    int tcp_fd_ = -1;
    int wake_fd_ = -1;
    net::Address address_;
    std::vector<Connection> connections_;

    std::mutex mutex_;
    std::condition_variable changed_;
    bool stopping_ = false;
    int idle_rounds_ = 0;  // since a connection was last seen
    std::map<std::string, DnsRecords> records_;
    std::map<std::string, std::size_t> udp_count_;
    std::map<std::string, std::size_t> tcp_count_;
    std::deque<std::pair<Question, Peer>> held_;
    std::thread thread_;
};

}  // namespace torc::test
