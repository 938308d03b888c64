// A double of an API server, over HTTP: it answers by what the test says, and keeps streams open. For what is to be
// seen with the client's own transport, and the configuration that it is made of.
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "server/base/mutex.h"

namespace orch::kubernetes {

class ApiDouble {
 public:
  struct Asked {
    std::string method, path;  // with the query
    std::string head, body;    // as they came
    bool watch() const { return path.find("watch=1") != std::string::npos; }
  };
  struct Said {
    int status = 200;
    std::string body;
  };
  // On a thread for each connection, one at a time. A stream that is let (200) goes on until the end.
  explicit ApiDouble(std::function<Said(const Asked&)> answer);
  ~ApiDouble();
  ApiDouble(const ApiDouble&) = delete;
  ApiDouble& operator=(const ApiDouble&) = delete;

  std::string url() const;
  std::vector<Asked> asked() const;
  // So often was something asked for whose path has this in it.
  size_t count(const std::string& part) const;
  // Until that holds, which is looked at whenever something was asked for; false: it did not in a minute.
  bool Await(const std::function<bool()>& done) const;
  // A list that has nothing, and what a server says that forbids something.
  static Said Nothing() { return {200, R"({"kind":"List","metadata":{"resourceVersion":"1"},"items":[]})"}; }
  static Said Forbidden(const std::string& what);

 private:
  void Accept();
  void Serve(int fd);

  const std::function<Said(const Asked&)> answer_;
  int listener_ = -1;
  int port_ = 0;
  mutable Mutex mutex_;
  mutable CondVar changed_;
  std::vector<Asked> asked_ ABSL_GUARDED_BY(mutex_);
  std::set<int> open_ ABSL_GUARDED_BY(mutex_);
  std::vector<std::thread> serving_ ABSL_GUARDED_BY(mutex_);
  std::thread accepting_;
};

}  // namespace orch::kubernetes
