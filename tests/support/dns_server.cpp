#include "dns_server.hpp"

#include <arpa/inet.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <system_error>

// Theory of operation. One thread waits with poll(2) for datagrams, connections and a wake-up. Messages are those of
// RFC 1035 section 4: twelve bytes of header, one question, then the answers, each with its name written out. A
// question that is held back is kept with the way to its sender and answered when the wake-up finds it released.

namespace torc::test {

namespace {

constexpr std::uint16_t type_a = DnsRecords::type_a;
constexpr std::uint16_t type_cname = 5;
constexpr std::uint16_t type_aaaa = DnsRecords::type_aaaa;
constexpr std::size_t header_bytes = 12;

void put16(std::string& to, unsigned value) {
    to += static_cast<char>(value >> 8);
    to += static_cast<char>(value & 0xff);
}

unsigned get16(const std::string& from, std::size_t at) {
    return static_cast<unsigned>(static_cast<unsigned char>(from[at]) << 8 | static_cast<unsigned char>(from[at + 1]));
}

void put_name(std::string& to, const std::string& name) {
    for (std::size_t at = 0; at < name.size();) {
        const std::size_t dot = std::min(name.find('.', at), name.size());
        to += static_cast<char>(dot - at);
        to += name.substr(at, dot - at);
        at = dot + 1;
    }
    to += '\0';
}

void put_record(std::string& to, const std::string& name, std::uint16_t type, std::uint32_t ttl,
                const std::string& data) {
    put_name(to, name);
    put16(to, type);
    put16(to, 1);  // IN
    put16(to, ttl >> 16);
    put16(to, ttl & 0xffff);
    put16(to, static_cast<unsigned>(data.size()));
    to += data;
}

std::string bytes_of(int family, const std::string& address) {
    char bytes[16] = {};
    if (inet_pton(family, address.c_str(), bytes) != 1) throw std::invalid_argument{address};
    return {bytes, family == AF_INET ? std::size_t{4} : std::size_t{16}};
}

int checked(int result) {
    if (result < 0) throw std::system_error{errno, std::generic_category(), "the test's name server"};
    return result;
}

}  // namespace

DnsServer::DnsServer(const net::Address& address) {
    wake_fd_ = checked(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
    for (;;) {  // until a port is free for both
        udp_fd_ = checked(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        tcp_fd_ = checked(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
        if (bind(udp_fd_, address.data(), address.size()) != 0) {
            const int refused = errno;
            for (const int fd : {wake_fd_, udp_fd_, tcp_fd_}) close(fd);
            throw std::system_error{refused, std::generic_category(), "the test's name server"};
        }
        sockaddr_storage bound{};
        socklen_t size = sizeof bound;
        checked(getsockname(udp_fd_, reinterpret_cast<sockaddr*>(&bound), &size));
        address_ = net::Address::from_sockaddr(reinterpret_cast<sockaddr*>(&bound), size);
        if (bind(tcp_fd_, address_.data(), address_.size()) == 0) break;
        close(udp_fd_);
        close(tcp_fd_);
    }
    checked(listen(tcp_fd_, 16));
    thread_ = std::thread{[this] { serve(); }};
}

DnsServer::~DnsServer() {
    {
        const std::lock_guard lock{mutex_};
        stopping_ = true;
    }
    eventfd_write(wake_fd_, 1);
    thread_.join();
    for (const Connection& connection : connections_) close(connection.fd);
    close(udp_fd_);
    close(tcp_fd_);
    close(wake_fd_);
}

void DnsServer::set(const std::string& name, DnsRecords records) {
    const std::lock_guard lock{mutex_};
    records_[name] = std::move(records);
}

void DnsServer::release(const std::string& name) {
    {
        const std::lock_guard lock{mutex_};
        records_[name].held = false;
    }
    eventfd_write(wake_fd_, 1);
}

std::size_t DnsServer::questions(const std::string& name) {
    const std::lock_guard lock{mutex_};
    return udp_count_[name];
}

std::size_t DnsServer::questions_over_tcp(const std::string& name) {
    const std::lock_guard lock{mutex_};
    return tcp_count_[name];
}

void DnsServer::wait_for_questions(const std::string& name, std::size_t count) {
    std::unique_lock lock{mutex_};
    changed_.wait(lock, [&] { return udp_count_[name] >= count; });
}

void DnsServer::wait_until_disconnected() {
    std::unique_lock lock{mutex_};
    idle_rounds_ = 0;
    // The first round may have looked before this was called.
    while (idle_rounds_ < 2) {
        eventfd_write(wake_fd_, 1);
        changed_.wait(lock);
    }
}

void DnsServer::serve() {
    for (;;) {
        std::vector<pollfd> watched{{wake_fd_, POLLIN, 0}, {udp_fd_, POLLIN, 0}, {tcp_fd_, POLLIN, 0}};
        for (const Connection& connection : connections_) watched.push_back({connection.fd, POLLIN, 0});
        if (poll(watched.data(), watched.size(), -1) < 0) continue;
        eventfd_t ignored = 0;
        eventfd_read(wake_fd_, &ignored);
        std::deque<std::pair<Question, Peer>> released;
        {
            const std::lock_guard lock{mutex_};
            if (stopping_) return;
            for (auto at = held_.begin(); at != held_.end();) {
                if (const DnsRecords& records = records_[at->first.name];
                    records.held && records.concerns(at->first.type)) {
                    ++at;
                } else {
                    released.push_back(std::move(*at));
                    at = held_.erase(at);
                }
            }
        }
        for (const auto& [question, peer] : released) answer(question, peer);
        read_datagrams();
        for (std::size_t index = 0; index + 3 < watched.size(); ++index) {
            Connection& connection = connections_[index];
            if (watched[index + 3].revents == 0 || read_connection(connection)) continue;
            const std::lock_guard lock{mutex_};
            std::erase_if(held_, [&](const auto& one) { return one.second.fd == connection.fd; });
            close(std::exchange(connection.fd, -1));
        }
        std::erase_if(connections_, [](const Connection& connection) { return connection.fd < 0; });
        const int accepted = accept4(tcp_fd_, nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (accepted >= 0) connections_.push_back({accepted, {}});
        const std::lock_guard lock{mutex_};
        idle_rounds_ = accepted < 0 && connections_.empty() ? idle_rounds_ + 1 : 0;
        changed_.notify_all();
    }
}

void DnsServer::read_datagrams() {
    for (;;) {
        char buffer[4096];
        sockaddr_storage from{};
        socklen_t from_bytes = sizeof from;
        const ssize_t size =
            recvfrom(udp_fd_, buffer, sizeof buffer, 0, reinterpret_cast<sockaddr*>(&from), &from_bytes);
        if (size < 0) return;
        const char* const raw = reinterpret_cast<const char*>(&from);
        handle({buffer, static_cast<std::size_t>(size)}, {udp_fd_, false, {raw, raw + from_bytes}});
    }
}

bool DnsServer::read_connection(Connection& connection) {
    char buffer[4096];
    const ssize_t size = read(connection.fd, buffer, sizeof buffer);
    if (size <= 0) return size < 0 && errno == EAGAIN;
    connection.received.append(buffer, static_cast<std::size_t>(size));
    while (connection.received.size() >= 2) {
        const std::size_t length = get16(connection.received, 0);
        if (connection.received.size() < 2 + length) break;
        handle(connection.received.substr(2, length), {connection.fd, true, {}});
        connection.received.erase(0, 2 + length);
    }
    return true;
}

void DnsServer::handle(const std::string& message, const Peer& peer) {
    if (message.size() < header_bytes) return;
    Question question;
    question.id = static_cast<std::uint16_t>(get16(message, 0));
    std::size_t at = header_bytes;
    while (at < message.size() && message[at] != 0) {
        const auto length = static_cast<std::size_t>(static_cast<unsigned char>(message[at]));
        if (!question.name.empty()) question.name += '.';
        question.name += message.substr(at + 1, length);
        at += 1 + length;
    }
    if (at + 5 > message.size()) return;
    question.type = static_cast<std::uint16_t>(get16(message, at + 1));
    question.raw = message.substr(header_bytes, at + 5 - header_bytes);
    // Newer resolvers mix cases as a defence against forgers; the raw question keeps them.
    std::transform(question.name.begin(), question.name.end(), question.name.begin(), [](char letter) {
        return letter >= 'A' && letter <= 'Z' ? static_cast<char>(letter + 32) : letter;
    });
    {
        const std::lock_guard lock{mutex_};
        ++(peer.tcp ? tcp_count_ : udp_count_)[question.name];
        changed_.notify_all();
        const auto found = records_.find(question.name);
        if (found != records_.end() && found->second.held && found->second.concerns(question.type)) {
            held_.emplace_back(std::move(question), peer);
            return;
        }
    }
    answer(question, peer);
}

void DnsServer::answer(const Question& question, const Peer& peer) {
    const std::lock_guard lock{mutex_};
    const auto found = records_.find(question.name);
    const DnsRecords* const records = found == records_.end() ? nullptr : &found->second;
    if (records != nullptr && records->silent && records->concerns(question.type)) return;
    if (records != nullptr && records->garbage) return send(peer, question.raw.substr(0, 5) + "\xff\xff\xff\xff\xff");
    if (records != nullptr && records->wrong_question) {
        Question forged = question;
        forged.id = static_cast<std::uint16_t>(forged.id + 1);
        DnsRecords lie;
        lie.a = {"192.0.2.66"};
        lie.aaaa = {"2001:db8::66"};
        send(peer, build(forged, &lie, false));
    }
    send(peer, build(question, records, records != nullptr && records->truncated && !peer.tcp));
}

std::string DnsServer::build(const Question& question, const DnsRecords* records, bool truncate) {
    std::string answers;
    unsigned count = 0;
    std::string owner = question.name;
    const DnsRecords* from = records;
    for (int hop = 0; from != nullptr && !from->cname.empty() && hop < 8; ++hop) {
        std::string target;
        put_name(target, from->cname);
        put_record(answers, owner, type_cname, from->cname_ttl, target);
        ++count;
        owner = from->cname;
        const auto next = records_.find(owner);
        from = next == records_.end() ? nullptr : &next->second;
    }
    if (from != nullptr) {
        const int family = question.type == type_a ? AF_INET : AF_INET6;
        for (const std::string& address : family == AF_INET ? from->a : from->aaaa) {
            if (question.type != type_a && question.type != type_aaaa) break;
            put_record(answers, owner, question.type, from->ttl, bytes_of(family, address));
            ++count;
        }
    }
    unsigned rcode = 0;
    if (records == nullptr)
        rcode = 3;
    else if (records->concerns(question.type))
        rcode = static_cast<unsigned>(records->rcode);
    std::string message;
    put16(message, question.id);
    put16(message, 0x8180U | (truncate ? 0x0200U : 0U) | rcode);  // a response, recursion wanted and available
    put16(message, 1);
    put16(message, truncate ? 0 : count);
    put16(message, 0);
    put16(message, 0);
    message += question.raw;
    if (!truncate) message += answers;
    return message;
}

void DnsServer::send(const Peer& peer, const std::string& message) {
    if (!peer.tcp) {
        sendto(peer.fd, message.data(), message.size(), 0, reinterpret_cast<const sockaddr*>(peer.address.data()),
               static_cast<socklen_t>(peer.address.size()));
        return;
    }
    std::string framed;
    put16(framed, static_cast<unsigned>(message.size()));
    framed += message;
    // In two pieces, so that a reader has to put them together.
    const std::size_t half = framed.size() / 2;
    ::send(peer.fd, framed.data(), half, MSG_NOSIGNAL);
    ::send(peer.fd, framed.data() + half, framed.size() - half, MSG_NOSIGNAL);
}

}  // namespace torc::test
