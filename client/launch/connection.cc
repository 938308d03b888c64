#include "client/launch/connection.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace orch::launch {
namespace {

int Broken(std::string* error, const char* what) {
  *error = std::string(what) + ": " + (errno == EAGAIN || errno == EWOULDBLOCK ? "timed out" : strerror(errno));
  return -1;
}

void SetTimeout(int fd, int timeout_ms) {
  const timeval limit{timeout_ms / 1000, timeout_ms % 1000 * 1000};
  setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

int ConnectUnix(const std::string& path, int timeout_ms, std::string* error) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof(address.sun_path)) {
    *error = "the socket's path is too long";
    return -1;
  }
  memcpy(address.sun_path, path.c_str(), path.size() + 1);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0) return Broken(error, "cannot make a socket");
  SetTimeout(fd, timeout_ms);
  if (connect(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0) return fd;
  Broken(error, "cannot connect");
  close(fd);
  return -1;
}

int ConnectTcp(const Endpoint& endpoint, int timeout_ms, std::string* error) {
  addrinfo hints{};
  hints.ai_socktype = SOCK_STREAM;
  addrinfo* found = nullptr;
  const int code = getaddrinfo(endpoint.host.c_str(), endpoint.port.c_str(), &hints, &found);
  if (code != 0) {
    *error = "cannot resolve `" + endpoint.host + "`: " + gai_strerror(code);
    return -1;
  }
  int fd = -1;
  for (const addrinfo* one = found; one != nullptr && fd < 0; one = one->ai_next) {
    fd = socket(one->ai_family, SOCK_STREAM | SOCK_CLOEXEC, one->ai_protocol);
    if (fd < 0) {
      Broken(error, "cannot make a socket");
      continue;
    }
    SetTimeout(fd, timeout_ms);
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
    if (connect(fd, one->ai_addr, one->ai_addrlen) == 0) break;
    Broken(error, "cannot connect");
    close(fd);
    fd = -1;
  }
  freeaddrinfo(found);
  return fd;
}

class Plain : public Connection {
 public:
  explicit Plain(int fd) : fd_(fd) {}
  ~Plain() override { close(fd_); }
  long Write(const char* data, size_t size, std::string* error) override {
    for (;;) {
      const ssize_t n = send(fd_, data, size, MSG_NOSIGNAL);
      if (n >= 0) return n;
      if (errno != EINTR) return Broken(error, "cannot send");
    }
  }
  long SendFile(int fd, int64_t offset, size_t size, std::string* error) override {
    for (;;) {
      off_t at = offset;
      const ssize_t n = sendfile(fd_, fd, &at, size);
      if (n >= 0) return n;
      if (errno == EINVAL || errno == ENOSYS) return 0;  // a file system that cannot
      if (errno != EINTR) return Broken(error, "cannot send");
    }
  }
  long Read(char* data, size_t size, std::string* error) override {
    for (;;) {
      const ssize_t n = recv(fd_, data, size, 0);
      if (n >= 0) return n;
      if (errno != EINTR) return Broken(error, "no answer");
    }
  }

 private:
  const int fd_;
};

std::string TlsError(const char* what) {
  const unsigned long code = ERR_get_error();
  const char* reason = code == 0 ? nullptr : ERR_reason_error_string(code);
  return std::string(what) + ": " + (reason == nullptr ? "the connection broke" : reason);
}

// Made once, when it is first needed: an attempt that speaks plain HTTP pays nothing.
SSL_CTX* TlsContext(std::string* error) {
  static SSL_CTX* context = nullptr;
  if (context != nullptr) return context;
  SSL_CTX* made = SSL_CTX_new(TLS_client_method());
  if (made == nullptr) {
    *error = TlsError("cannot speak TLS");
    return nullptr;
  }
  SSL_CTX_set_min_proto_version(made, TLS1_2_VERSION);
  SSL_CTX_set_verify(made, SSL_VERIFY_PEER, nullptr);
  SSL_CTX_set_mode(made, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_AUTO_RETRY);
  bool good = true;
  const char* file = getenv("ORCH_CA");
  const char* pem = getenv("ORCH_CA_PEM");
  if (pem != nullptr && pem[0] != '\0') {
    BIO* bio = BIO_new_mem_buf(pem, -1);
    X509_STORE* store = SSL_CTX_get_cert_store(made);
    int count = 0;
    while (X509* one = PEM_read_bio_X509(bio, nullptr, nullptr, nullptr)) {
      good = X509_STORE_add_cert(store, one) == 1 && good;
      X509_free(one);
      ++count;
    }
    BIO_free(bio);
    ERR_clear_error();  // the end of the text is one
    good = good && count > 0;
  } else if (file != nullptr && file[0] != '\0') {
    good = SSL_CTX_load_verify_locations(made, file, nullptr) == 1;
  } else {
    good = SSL_CTX_set_default_verify_paths(made) == 1;
  }
  if (!good) {
    *error = TlsError("cannot read the certificates of ORCH_CA");
    SSL_CTX_free(made);
    return nullptr;
  }
  context = made;
  return context;
}

class Tls : public Connection {
 public:
  Tls(int fd, SSL* ssl) : fd_(fd), ssl_(ssl) {}
  ~Tls() override {
    SSL_free(ssl_);
    close(fd_);
  }
  long Write(const char* data, size_t size, std::string* error) override {
    size_t done = 0;
    ERR_clear_error();
    if (SSL_write_ex(ssl_, data, size, &done) == 1) return static_cast<long>(done);
    *error = TlsError("cannot send");
    return -1;
  }
  long Read(char* data, size_t size, std::string* error) override {
    size_t done = 0;
    ERR_clear_error();
    if (SSL_read_ex(ssl_, data, size, &done) == 1) return static_cast<long>(done);
    if (SSL_get_error(ssl_, 0) == SSL_ERROR_ZERO_RETURN) return 0;
    *error = TlsError("no answer");
    return -1;
  }

 private:
  const int fd_;
  SSL* const ssl_;
};

std::unique_ptr<Connection> StartTls(int fd, const Endpoint& endpoint, std::string* error) {
  SSL_CTX* context = TlsContext(error);
  SSL* ssl = context == nullptr ? nullptr : SSL_new(context);
  if (ssl == nullptr) {
    close(fd);
    return nullptr;
  }
  auto connection = std::make_unique<Tls>(fd, ssl);
  in6_addr address;
  const bool is_address = inet_pton(AF_INET, endpoint.host.c_str(), &address) == 1 ||
                          inet_pton(AF_INET6, endpoint.host.c_str(), &address) == 1;
  X509_VERIFY_PARAM* param = SSL_get0_param(ssl);
  if (is_address) {
    X509_VERIFY_PARAM_set1_ip_asc(param, endpoint.host.c_str());
  } else {
    SSL_set_tlsext_host_name(ssl, endpoint.host.c_str());
    SSL_set1_host(ssl, endpoint.host.c_str());
  }
  SSL_set_fd(ssl, fd);
  if (SSL_connect(ssl) == 1) return connection;
  const long verified = SSL_get_verify_result(ssl);
  *error = verified != X509_V_OK ? std::string("its certificate: ") + X509_verify_cert_error_string(verified)
                                 : TlsError("no TLS");
  return nullptr;
}

}  // namespace

std::unique_ptr<Connection> Connection::Open(const Endpoint& endpoint, int timeout_ms, std::string* error) {
  const int fd = endpoint.socket.empty() ? ConnectTcp(endpoint, timeout_ms, error)
                                         : ConnectUnix(endpoint.socket, timeout_ms, error);
  if (fd < 0) return nullptr;
  if (endpoint.tls) return StartTls(fd, endpoint, error);
  return std::make_unique<Plain>(fd);
}

}  // namespace orch::launch
