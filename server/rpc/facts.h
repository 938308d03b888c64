// What the daemon knows of itself and its addresses. Any thread.
#pragma once

#include <cstdint>
#include <string>
#include <utility>

#include "server/base/mutex.h"

namespace orch::rpc {

struct Addresses {
  std::string grpc;       // `127.0.0.1:7433`
  std::string http;       // `http://127.0.0.1:7434`
  std::string grpc_unix;  // paths
  std::string http_unix;
};

class Facts {
 public:
  Facts(std::string its_version, std::string its_data_dir, std::string its_public_url, int64_t started)
      : version(std::move(its_version)),
        data_dir(std::move(its_data_dir)),
        public_url(std::move(its_public_url)),
        start_wall(started) {}

  const std::string version;
  const std::string data_dir;
  const std::string public_url;  // without a slash at its end; empty: the HTTP address
  const int64_t start_wall;

  void SetAddresses(Addresses addresses) {
    MutexLock lock(&mutex_);
    addresses_ = std::move(addresses);
  }
  Addresses addresses() const {
    MutexLock lock(&mutex_);
    return addresses_;
  }
  // The base of our own pages.
  std::string pages() const { return public_url.empty() ? addresses().http : public_url; }

 private:
  mutable Mutex mutex_;
  Addresses addresses_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace orch::rpc
