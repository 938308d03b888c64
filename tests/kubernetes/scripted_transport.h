// A double of an API server's transport: it answers by a script and lets time pass as fast as the test goes.
#pragma once

#include <deque>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "backends/kubernetes/api/transport.h"
#include "server/base/clock.h"

namespace orch::kubernetes {

class ScriptedClock : public Clock {
 public:
  orch::Now Now() const override { return {mono, mono + 1'700'000'000'000'000}; }
  int64_t mono = 1'000'000;
};

// One answer of the script, for the next request that it fits.
struct Scripted {
  std::string method;
  std::string path;  // a part of it
  HttpAnswer answer;
  std::vector<std::string> pieces;  // of a stream, before it ends
  bool open = false;                // it does not end by itself
};

class ScriptedTransport : public Transport {
 public:
  explicit ScriptedTransport(ScriptedClock* clock) : clock_(clock) {}

  // --- for the test ---

  // An answer with a body; a status of 0 is a connection that broke, and `body` says how.
  Scripted& Expect(const std::string& method, const std::string& path, int status, const std::string& body = "");
  struct Seen {
    HttpRequest request;
    int64_t at = 0;  // mono
    bool aborted = false;
  };
  std::deque<Seen> seen;         // all requests, in their order
  std::vector<std::string> odd;  // requests that nothing in the script fits
  std::vector<std::pair<std::string, std::string>> certificates;
  size_t left() const { return script_.size(); }
  // More of a stream that is open: of the request that was seen as number `index`.
  void Push(size_t index, const std::string& piece);
  // It ends so.
  void End(size_t index, HttpAnswer answer);

  // --- as a transport ---

  uint64_t Begin(HttpRequest request, Data data, Done done) override;
  void Abort(uint64_t id) override;
  void Poll(int millis, const std::vector<int>& fds) override;
  void Wake() override {}
  void UseCertificate(const std::string& certificate_pem, const std::string& key_pem) override {
    certificates.emplace_back(certificate_pem, key_pem);
  }

 private:
  struct Exchange {
    Data data;
    Done done;
    std::deque<std::string> pieces;
    HttpAnswer answer;
    bool open = false;
  };

  ScriptedClock* const clock_;
  std::deque<Scripted> script_;
  std::map<uint64_t, Exchange> exchanges_;  // by id, which is the index in `seen` and one
};

}  // namespace orch::kubernetes
