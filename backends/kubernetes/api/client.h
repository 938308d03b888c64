// The client of one API server, for all that a backend asks: requests that are repeated while that may help, streams,
// timers. It knows who we are and keeps that fresh.
//
// All calls from one thread; Wake alone may come from any. Functions are called back from within Poll, never from
// within another call.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "backends/kubernetes/api/answer.h"
#include "backends/kubernetes/api/exec_credential.h"
#include "backends/kubernetes/api/kubeconfig.h"
#include "backends/kubernetes/api/transport.h"
#include "server/base/clock.h"

namespace orch::kubernetes {

struct Request {
  std::string method = "GET";
  std::string path;  // with the query, escaped
  std::string body;  // JSON
  std::string content_type = "application/json";
  int seconds = 30;  // of one try; 0: no limit
  // So often in all, with pauses that grow, while an answer says `later`. What creates something must be named by the
  // caller, so that it is not created twice.
  int tries = 5;
  bool first = false;  // before all that waits to be sent
};

class Client {
 public:
  using Done = std::function<void(Answer)>;
  using Data = std::function<void(absl::string_view)>;

  // `clock` and `transport` as seen by this thread. `seed`: of the jitter of pauses.
  Client(Cluster cluster, std::unique_ptr<Transport> transport, const Clock* clock, uint32_t seed);
  ~Client();  // nothing is called back any more
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // A 403 soon after the server was away is no word on rights yet: the request is repeated, for 15 s, whatever its
  // tries. Never 0.
  uint64_t Call(Request request, Done done);
  // `data` gets what comes with a status of 2xx; `done` then has code 200 and no object if the stream came to its end,
  // code 0 if it broke. Streams are tried once.
  uint64_t Stream(Request request, Data data, Done done);
  // Once, in so many microseconds.
  uint64_t After(int64_t micros, std::function<void()> done);
  // Of any of these: it is not called back any more. 0 and what is over do nothing.
  void Abort(uint64_t id);

  // Works for at most so long.
  void Poll(int millis);
  void Wake() { transport_->Wake(); }

  // The pause before try `n` (from 1): exponential from 0.5 s to 30 s, with jitter.
  int64_t Pause(int n);
  int64_t now() const { return clock_->Now().mono; }
  const Cluster& cluster() const { return cluster_; }

 private:
  struct Running;

  void Send(uint64_t id);
  void SendAfter(uint64_t id, int64_t micros);
  void OnAnswer(uint64_t id, HttpAnswer answer);
  void Finish(uint64_t id, Answer answer);
  // False: credentials are on their way, and whoever waits is sent then.
  bool Ready();
  void Refresh();
  void TakeExec();
  void TakeToken(bool force);
  std::vector<std::string> Headers() const;

  const Cluster cluster_;
  const std::unique_ptr<Transport> transport_;
  const Clock* const clock_;
  std::minstd_rand random_;
  uint64_t next_ = 1;
  std::map<uint64_t, std::unique_ptr<Running>> running_;
  std::map<std::pair<int64_t, uint64_t>, std::function<void()>> timers_;  // by when (mono) and id
  std::map<uint64_t, int64_t> timer_at_;

  int64_t away_at_ = 0;  // mono, when the server was last away or not itself; 0: never

  std::string token_;
  int64_t token_read_ = 0;  // mono; 0: not yet
  ExecRun exec_;
  bool exec_runs_ = false;
  bool has_exec_ = false;        // a credential of it, of which:
  int64_t exec_expires_ = 0;     // wall; 0: never
  uint64_t exec_timeout_ = 0;    // a timer
  int64_t exec_generation_ = 0;  // of the credential in force
  std::vector<uint64_t> waiting_;
};

}  // namespace orch::kubernetes
