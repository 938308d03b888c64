// The way of a container's log from the cluster into the files that readers know: taken up again after any break, also
// by another life of the daemon, until all of it is there or is known never to be.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/strings/string_view.h"
#include "backends/kubernetes/api/client.h"
#include "backends/kubernetes/api/pod_log.h"
#include "backends/local/log_pair.h"
#include "server/base/stream_marks.h"

namespace orch::kubernetes {

// How far a log has been read, and what of it was written: what a further life of the daemon goes on from. One line.
struct LogProgress {
  LogPosition position;
  int64_t out_bytes = 0;
  int64_t err_bytes = 0;
  StreamSplitter::State streams;
};
std::string WriteProgress(const LogProgress& progress);
// False if it is none.
bool ReadProgress(absl::string_view text, LogProgress* out);

// On the thread of its client alone.
class JobLog {
 public:
  struct Calls {
    // After Finish: nothing more will be written; `fault` says whether something is missing.
    std::function<void()> finished;
    // More than the limit has come.
    std::function<void()> over_limit;
    std::function<void(const std::string& fault)> unwritable;  // for the first time
  };
  // `prefix`: the files are PREFIX.out and PREFIX.err. `fence`: the attempt's, which is in its marks. `limit`: bytes;
  // 0: none.
  JobLog(Client* client, std::string container, std::string prefix, const std::string& fence, int64_t limit,
         Calls calls);
  ~JobLog();
  JobLog(const JobLog&) = delete;
  JobLog& operator=(const JobLog&) = delete;

  // While it runs; `pod`: its path. Nothing if it is followed already.
  void Follow(const std::string& pod);
  // Once it is over, and again without harm. `leaving`: its pod goes away. `silent`: its node does not answer.
  void Finish(const std::string& pod, bool leaving, bool silent = false);

  // What has come is all of it: what could be had from now on would not be its own. Without a call of its own in
  // between.
  void End(const std::string& fault);

  bool follows() const { return log_ != nullptr; }
  // Why it is not whole; empty: it is, as far as it goes.
  const std::string& fault() const { return fault_; }
  bool was_over_limit() const { return over_limit_; }
  int64_t bytes(bool error) const { return files_.bytes(error); }

 private:
  // From what is noted.
  void Begin();
  void Open(const std::string& pod);
  void Take(absl::string_view text, int64_t nanos);
  void Done();
  void Save();

  Client* const client_;
  const std::string container_, prefix_, fence_;
  const int64_t limit_;
  const Calls calls_;
  local::LogPair files_;
  StreamSplitter streams_;
  LogPosition from_;
  std::unique_ptr<PodLog> log_;
  uint64_t timer_ = 0;
  int progress_fd_ = -1;
  bool finishing_ = false;
  bool done_ = false;
  bool over_limit_ = false;
  std::string fault_;
};

// Removes what is kept for a further life of the daemon.
void ForgetProgress(const std::string& prefix);

}  // namespace orch::kubernetes
