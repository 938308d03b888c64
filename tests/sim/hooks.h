// What runs hooks, simulated: it keeps the truth of each, outlives every daemon, and loses some.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <string>

#include "backends/api/backend.h"
#include "tests/sim/fate.h"

namespace orch::sim {

class HookPlatform {
 public:
  struct Job {
    std::string key;
    std::string id;  // the hook's
    bool ended = false;
    bool stopping = false;
    bool released = false;
    AttemptEnd end;
  };

  HookPlatform(Fate* fate, int at_once) : fate_(fate), at_once_(at_once) {}

  // The backend of one life of the daemon; the one before it is gone.
  std::unique_ptr<Backend> Connect();
  void Disconnect() { listener_ = nullptr; }
  // kHookEnd: its command ends by itself (b: 0) or by a stop.
  void End(uint32_t number, bool stopped);

  const std::deque<Job>& jobs() const { return jobs_; }

 private:
  friend class HookBackend;
  void Submit(const AttemptWork& work);
  void Cancel(absl::string_view key);
  void Release(absl::string_view key);
  void Adopt(const std::vector<KnownAttempt>& attempts);
  void Say(const Job& job);

  Fate* const fate_;
  const int at_once_;
  Listener* listener_ = nullptr;
  bool adopted_ = false;
  std::deque<Job> jobs_;
  std::map<std::string, uint32_t> by_key_;
};

}  // namespace orch::sim
