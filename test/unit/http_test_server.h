// A scripted HTTP server for tests: it listens on a free port of 127.0.0.1, and a function of the
// test answers, hangs, lies or dies in its place, in a thread for each connection.
#pragma once

#include <gtest/gtest.h>
#include <netinet/in.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cctype>
#include <chrono>
#include <condition_variable>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

namespace payonce::test {

// No wait of a test is longer: one that would take it has failed.
inline constexpr std::chrono::seconds patience{20};

[[noreturn]] inline void fail_setup(const char* what) {
    throw std::runtime_error(what);
}

// A flag that one thread raises and others wait for.
class Gate {
  public:
    void open() {
        const std::lock_guard lock(mutex_);
        is_open_ = true;
        changed_.notify_all();
    }
    bool wait() {
        std::unique_lock lock(mutex_);
        return changed_.wait_for(lock, patience, [this] { return is_open_; });
    }

  private:
    std::mutex mutex_;
    std::condition_variable changed_;
    bool is_open_ = false;
};

struct SslDeleter {
    void operator()(SSL* ssl) const noexcept { SSL_free(ssl); }
};
struct SslContextDeleter {
    void operator()(SSL_CTX* context) const noexcept { SSL_CTX_free(context); }
};
using SslContext = std::unique_ptr<SSL_CTX, SslContextDeleter>;

// A key and a certificate that it signed itself, and the certificate in a file: a client that takes
// the file as its authorities trusts this identity and no other.
class Identity {
  public:
    // `subject` as OpenSSL writes it, such as "IP:127.0.0.1".
    explicit Identity(const std::string& subject) {
        EVP_PKEY* key = EVP_EC_gen("P-256");
        X509* certificate = X509_new();
        X509_set_version(certificate, X509_VERSION_3);
        ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
        X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
        X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
        X509_set_pubkey(certificate, key);
        X509_NAME* name = X509_get_subject_name(certificate);
        const auto* common_name = reinterpret_cast<const unsigned char*>("payonce test");
        X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, common_name, -1, -1, 0);
        X509_set_issuer_name(certificate, name);
        X509_EXTENSION* extension =
            X509V3_EXT_conf_nid(nullptr, nullptr, NID_subject_alt_name, subject.c_str());
        X509_add_ext(certificate, extension, -1);
        if (X509_sign(certificate, key, EVP_sha256()) == 0) {
            fail_setup("no certificate");
        }
        context_.reset(SSL_CTX_new(TLS_server_method()));
        SSL_CTX_use_certificate(context_.get(), certificate);
        SSL_CTX_use_PrivateKey(context_.get(), key);

        std::string path = testing::TempDir() + "payonce_net_XXXXXX";
        const int fd = mkstemp(path.data());
        std::FILE* file = fd < 0 ? nullptr : fdopen(fd, "w");
        if (file == nullptr || PEM_write_X509(file, certificate) == 0) {
            fail_setup("no certificate file");
        }
        std::fclose(file);
        file_ = path;
        X509_EXTENSION_free(extension);
        X509_free(certificate);
        EVP_PKEY_free(key);
    }
    ~Identity() { unlink(file_.c_str()); }
    Identity(const Identity&) = delete;
    Identity& operator=(const Identity&) = delete;

    const std::string& file() const { return file_; }
    SSL_CTX* context() const { return context_.get(); }

  private:
    SslContext context_;
    std::string file_;
};

struct Received {
    std::string start_line;
    std::map<std::string, std::string> headers;  // names in lower case
    std::string body;
};

inline Received parse_head(const std::string& head) {
    Received request;
    std::size_t start = head.find("\r\n");
    request.start_line = head.substr(0, start);
    while (start != std::string::npos && start + 2 < head.size()) {
        start += 2;
        const std::size_t end = head.find("\r\n", start);
        const std::string line = head.substr(start, end - start);
        const std::size_t colon = line.find(':');
        std::string name = line.substr(0, colon);
        std::transform(name.begin(), name.end(), name.begin(),
                       [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
        const std::size_t value = line.find_first_not_of(" \t", colon + 1);
        request.headers[name] = value == std::string::npos ? "" : line.substr(value);
        start = end;
    }
    return request;
}

// One accepted connection, as a script sees it. Only interrupt() may be called by another thread.
class Connection {
  public:
    Connection(int fd, int number) : number_(number), fd_(fd) {}
    ~Connection() { close(); }
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    // 1 for the server's first connection.
    int number() const { return number_; }

    bool start_tls(SSL_CTX* context) {
        ssl_.reset(SSL_new(context));
        SSL_set_fd(ssl_.get(), fd_);
        return SSL_accept(ssl_.get()) == 1;
    }

    // Empty when the client has closed the connection.
    std::optional<Received> read_request() {
        std::size_t head_end = 0;
        while ((head_end = unread_.find("\r\n\r\n")) == std::string::npos) {
            if (!read_some()) {
                return std::nullopt;
            }
        }
        const std::string head = unread_.substr(0, head_end);
        unread_.erase(0, head_end + 4);
        Received request = parse_head(head);
        const auto length = request.headers.find("content-length");
        if (length != request.headers.end()) {
            const std::size_t size = std::stoul(length->second);
            while (unread_.size() < size) {
                if (!read_some()) {
                    return std::nullopt;
                }
            }
            request.body = unread_.substr(0, size);
            unread_.erase(0, size);
        }
        return request;
    }

    // False when the client is gone.
    bool send(std::string_view bytes) {
        while (!bytes.empty()) {
            const auto sent =
                ssl_ ? SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size()))
                     : ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
            if (sent <= 0) {
                return false;
            }
            bytes.remove_prefix(static_cast<std::size_t>(sent));
        }
        return true;
    }

    void answer(std::string_view status, std::string_view body, std::string_view headers = "") {
        send("HTTP/1.1 " + std::string(status) +
             "\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" + std::string(headers) +
             "\r\n" + std::string(body));
    }

    // False when the client has closed the connection.
    bool read_some() {
        char bytes[4096];
        const auto got =
            ssl_ ? SSL_read(ssl_.get(), bytes, sizeof bytes) : recv(fd_, bytes, sizeof bytes, 0);
        if (got <= 0) {
            return false;
        }
        unread_.append(bytes, static_cast<std::size_t>(got));
        return true;
    }

    // Until the client closes the connection, or the test ends.
    void hang() {
        while (read_some()) {
        }
    }

    void close() {
        const std::lock_guard lock(mutex_);
        if (fd_ >= 0) {
            if (ssl_) {
                SSL_shutdown(ssl_.get());
                ssl_.reset();
            }
            ::close(fd_);
            fd_ = -1;
        }
    }

    // The client sees a reset instead of an orderly end.
    void reset() {
        const linger at_once{1, 0};
        setsockopt(fd_, SOL_SOCKET, SO_LINGER, &at_once, sizeof at_once);
        close();
    }

    void interrupt() {
        const std::lock_guard lock(mutex_);
        if (fd_ >= 0) {
            shutdown(fd_, SHUT_RDWR);
        }
    }

  private:
    const int number_;
    std::mutex mutex_;
    int fd_;
    std::unique_ptr<SSL, SslDeleter> ssl_;
    std::string unread_;
};

inline sockaddr_in loopback(std::uint16_t port) {
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(port);
    return address;
}

// Listens on a free port of 127.0.0.1 and runs the script for each connection, in a thread for
// each.
class Server {
  public:
    using Script = std::function<void(Connection&)>;

    explicit Server(Script script, const Identity* identity = nullptr)
        : script_(std::move(script)), identity_(identity) {
        // A script writes to connections that the client has closed; SSL_write knows no
        // MSG_NOSIGNAL.
        std::signal(SIGPIPE, SIG_IGN);
        listener_ = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address = loopback(0);
        socklen_t size = sizeof address;
        auto* any_address = reinterpret_cast<sockaddr*>(&address);
        if (listener_ < 0 || bind(listener_, any_address, size) != 0 ||
            listen(listener_, 512) != 0 || getsockname(listener_, any_address, &size) != 0) {
            fail_setup("no listening socket");
        }
        port_ = ntohs(address.sin_port);
        acceptor_ = std::thread([this] { accept_all(); });
    }

    ~Server() {
        stop_listening();
        acceptor_.join();
        for (const auto& connection : connections_) {
            connection->interrupt();
        }
        for (std::thread& thread : threads_) {
            thread.join();
        }
        close(listener_);
    }
    Server(const Server&) = delete;
    Server& operator=(const Server&) = delete;

    // From now on a connection is refused.
    void stop_listening() const { shutdown(listener_, SHUT_RDWR); }

    std::string url(const std::string& path = "/") const {
        return std::string(identity_ ? "https" : "http") + "://127.0.0.1:" + std::to_string(port_) +
               path;
    }
    int accepted() const { return accepted_; }

  private:
    void accept_all() {
        int fd = -1;
        while ((fd = accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC)) >= 0) {
            connections_.push_back(std::make_unique<Connection>(fd, ++accepted_));
            threads_.emplace_back([this, &connection = *connections_.back()] {
                if (!identity_ || connection.start_tls(identity_->context())) {
                    script_(connection);
                }
                connection.close();
            });
        }
    }

    const Script script_;
    const Identity* const identity_;
    int listener_ = -1;
    std::uint16_t port_ = 0;
    std::atomic<int> accepted_ = 0;
    std::list<std::unique_ptr<Connection>> connections_;
    std::vector<std::thread> threads_;
    std::thread acceptor_;
};

inline Server::Script answer_all(std::string status, std::string body, std::string headers = "") {
    return [status = std::move(status), body = std::move(body),
            headers = std::move(headers)](Connection& connection) {
        while (connection.read_request()) {
            connection.answer(status, body, headers);
        }
    };
}

// Sends these bytes for an answer and closes the connection.
inline Server::Script answer_raw(std::string bytes) {
    return [bytes = std::move(bytes)](Connection& connection) {
        connection.read_request();
        connection.send(bytes);
    };
}

}  // namespace payonce::test
