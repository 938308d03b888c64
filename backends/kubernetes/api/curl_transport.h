// The transport over libcurl: HTTP/2 where the server has it, so that requests, watches and logs share connections.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "backends/kubernetes/api/transport.h"

namespace orch::kubernetes {

// Where the server is and how its certificate is judged.
struct ServerAddress {
  std::string url;              // `https://host[:port][/prefix]`, without a slash at the end
  std::string ca_pem;           // who signs its certificate; empty: the system's authorities
  std::string tls_server_name;  // the name that is asked for and checked; empty: the host
  bool insecure = false;        // its certificate is not checked at all
  std::string proxy;            // URL; empty: as the environment says
};

class CurlTransport : public Transport {
 public:
  explicit CurlTransport(ServerAddress server);
  ~CurlTransport() override;
  CurlTransport(const CurlTransport&) = delete;
  CurlTransport& operator=(const CurlTransport&) = delete;

  uint64_t Begin(HttpRequest request, Data data, Done done) override;
  void Abort(uint64_t id) override;
  void Poll(int millis, const std::vector<int>& fds) override;
  void Wake() override;
  void UseCertificate(const std::string& certificate_pem, const std::string& key_pem) override;

 private:
  struct Transfer;

  void TellCurl();
  void MakeHandle(uint64_t id, Transfer* transfer);
  bool MayTell() const;
  bool WorkOff();
  void Forget(const Transfer& transfer);
  void Again(uint64_t id, Transfer* transfer);
  void FailWaiting(const HttpAnswer& why);
  static int OnSent(void* transfer, char* there, char* here, int port_there, int port_here);
  static size_t OnBody(char* bytes, size_t size, size_t count, void* transfer);
  static size_t OnHeader(char* bytes, size_t size, size_t count, void* transfer);

  const ServerAddress server_;
  std::string base_;        // what a path is put behind
  std::string connect_to_;  // where that really is; empty: where it says
  std::string certificate_, key_;
  void* multi_ = nullptr;
  uint64_t next_ = 1;
  std::unordered_map<uint64_t, std::unique_ptr<Transfer>> transfers_;
  std::unordered_map<void*, uint64_t> by_handle_;
  // Those that curl does not know yet, in their order. It must not be told of any while it calls back.
  std::deque<uint64_t> requests_, streams_;
  int requests_told_ = 0;  // not yet answered
  int unsent_ = 0;         // told, but without a connection so far
  std::vector<std::unique_ptr<Transfer>> aborted_;
};

}  // namespace orch::kubernetes
