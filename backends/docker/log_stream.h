// The way of a container's log from its engine into the files that readers know: taken up again after any break, until
// all of it is there or is known never to be.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "backends/docker/container_log.h"
#include "backends/docker/engine_client.h"

namespace orch::docker {

// On the thread of its client alone.
class LogStream {
 public:
  struct Calls {
    std::function<std::string(absl::string_view path)> path;  // a call's, with the version in front
    // The engine has let go of a follower: it has ended, or the engine is about to.
    std::function<void()> let_go;
    // After Finish: nothing more will be written; `fault` says whether something is missing. The stream may be gone
    // when this returns.
    std::function<void()> finished;
    // More than the limit has come.
    std::function<void()> over_limit;
    // It cannot be written, or the engine refuses it; for the first time in a row.
    std::function<void(const std::string& fault)> faulty;
    std::function<void(int64_t mono)> wake;  // Wake is wanted then
  };
  // `prefix`: as ContainerLog's. `limit`: bytes; 0: none.
  LogStream(EngineClient* client, std::string prefix, int64_t limit, Calls calls);
  ~LogStream();
  LogStream(const LogStream&) = delete;
  LogStream& operator=(const LogStream&) = delete;

  // While it runs. Nothing if it is followed, or has been to its end.
  void Follow(const std::string& container);
  // Once it has ended, and again without harm: what is still missing is read. An engine lets go of followers before it
  // has written the end of a last line.
  void Finish(const std::string& container);
  void Wake(int64_t now, bool engine_is_there);

  bool open() const { return transfer_ != 0; }
  bool let_go() const { return let_go_; }
  void LookedAfter() { let_go_ = false; }  // it still runs: it may be an engine's restart that the container outlived
  // Why it is not whole; empty: it is, as far as it goes.
  const std::string& fault() const { return fault_; }
  bool was_over_limit() const { return over_limit_; }
  int64_t bytes(bool error) const { return log_.bytes(error); }

 private:
  void Open(bool follow);
  void Ended(const Answer& answer, bool follow);
  void Failed(const std::string& why);
  void TryAt(int64_t mono);

  EngineClient* const client_;
  const std::string prefix_;
  const int64_t limit_;
  const Calls calls_;
  ContainerLog log_;
  std::string container_;
  uint64_t transfer_ = 0;
  bool ended_ = false;  // the container
  bool let_go_ = false;
  bool done_ = false;
  bool over_limit_ = false;
  std::string fault_;
  int faults_ = 0;        // one after another
  int64_t retry_at_ = 0;  // mono; 0: it is not waited for
};

}  // namespace orch::docker
