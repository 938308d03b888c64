// A pool of cgroup2 groups, one for each slot, so that a step's descendants are found whatever they do.
//
// Also works on the cgroup2 mount without controllers of hybrid machines. Processes enter by clone3 at birth, never by
// a write to cgroup.procs, which costs 20 ms.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <vector>

namespace orch::local {

class CgroupPool {
 public:
  // `name` is unique for the data directory. Without a usable cgroup2 the pool is off.
  CgroupPool(const std::string& name, bool allowed);
  ~CgroupPool();

  bool on() const { return !base_.empty(); }
  const std::string& base() const { return base_; }
  // A descriptor of the slot's group for clone3, kept open by the pool; -1 if it cannot be had.
  int Fd(const std::string& slot);
  // Processes in the slot's group now. `base` may be another supervisor's.
  static std::vector<pid_t> Processes(const std::string& base, const std::string& slot);
  static void KillAll(const std::string& base, const std::string& slot);
  // The slots that have a group now, also another supervisor's, in a form that the calls above take.
  static std::vector<std::string> Slots(const std::string& base);
  // After KillAll, when nothing is left: the group is made anew for its next use. Kernels from 6.14 compare how often a
  // group was killed with the count of the parent's group, and kill at once what clone3 puts into one that ever was.
  void Renew(const std::string& slot);
  // Removes all groups; when the supervisor ends.
  void RemoveAll();

 private:
  std::string base_;
  std::map<std::string, int> fds_;
};

}  // namespace orch::local
