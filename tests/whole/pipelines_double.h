// A double of a platform that takes whole runs: it starts the tasks of each in their order, as real launchers, which
// are processes of this machine. Of the daemon's side of such runs everything is real.
#pragma once

#include <sys/types.h>

#include <map>
#include <memory>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "backends/api/backend.h"
#include "backends/api/registry.h"
#include "server/base/mutex.h"

namespace orch {

// The platform, which outlives backends. Any thread.
class PipelinesDouble {
 public:
  // Launchers run in `dir`, and reach the daemon at `endpoint`.
  PipelinesDouble(std::string dir, std::string launcher, std::string endpoint);
  ~PipelinesDouble();

  struct Process {
    pid_t pid = 0;
    size_t task = 0;
    std::string place;
  };
  struct NativeTask {
    bool started = false;
    bool ended = false;
    int starts = 0;
    int status = 0;  // of the newest process
    std::set<std::string> places;
  };
  struct NativeRun {
    std::string name;
    RunOutline outline;
    std::vector<NativeTask> tasks;
    bool failing = false;  // nothing new starts
    bool ended = false;
  };

  // Told of every change: a place that has ended, with wait's status; -1: the task will not be started.
  using Heard = std::function<void(const std::string& run_id, uint32_t step, const std::string& place, int status)>;
  void SetHeard(Heard heard);

  void Create(const std::string& name, RunOutline outline);
  std::vector<NativeRun> runs();
  void Delete(const std::string& name);
  // SIGKILL, as if its node went away; it is not started again.
  void Kill(const std::string& run_id, uint32_t step);
  // SIGTERM to its launcher, as where somebody deletes its place; it may be started again.
  void Evict(const std::string& run_id, uint32_t step);
  // From now on nothing is said of places that end, or it is again.
  void Mute(bool muted);

 private:
  void Run();
  void StartWhatMay() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string dir_;
  const std::string launcher_;
  const std::string endpoint_;
  Mutex mutex_;
  Heard heard_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, NativeRun> runs_ ABSL_GUARDED_BY(mutex_);
  std::map<pid_t, std::pair<std::string, Process>> processes_ ABSL_GUARDED_BY(mutex_);
  int number_ ABSL_GUARDED_BY(mutex_) = 0;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  bool muted_ ABSL_GUARDED_BY(mutex_) = false;
  std::thread thread_;
};

// A flavor `pipelines` on it.
class PipelinesHost : public PluginHost {
 public:
  PipelinesHost(PipelinesDouble* platform, std::string dir, std::string launcher, std::string endpoint);
  absl::StatusOr<std::string> Describe(const PluginSource& source) override;
  absl::StatusOr<FlavorInfo> Flavor(const std::string& name, const PluginSource& source,
                                    const std::string& description) override;

 private:
  PipelinesDouble* const platform_;
  const std::string dir_;
  const std::string launcher_;
  const std::string endpoint_;
};

}  // namespace orch
