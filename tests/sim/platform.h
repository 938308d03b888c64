// A simulated platform behind the real Backend interface: it keeps the truth of every job, outlives every daemon, and
// misbehaves as fate says, within the contract of backends/api/backend.h.
//
// It also sees what no daemon can fake: what was started, how often, and how much ran at once.
#pragma once

#include <cstdint>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "backends/api/backend.h"
#include "server/model/graph.h"
#include "tests/sim/fate.h"
#include "tests/sim/plan.h"

namespace orch::sim {

class Platform {
 public:
  struct Job {
    std::string key;
    uint32_t run = 0;  // its number in the plan
    StepIx ix = 0;
    uint32_t attempt = 0;
    bool made = false;  // false: asked about or refused, never there
    bool started = false;
    bool ended = false;
    bool stopping = false;
    bool told_to_stop = false;
    bool ignores_stop = false;
    bool says_no_start = false;
    bool forgotten = false;
    bool released = false;
    int64_t started_wall = 0;
    AttemptEnd outcome;  // unless it is stopped
    AttemptEnd end;
  };

  Platform(Fate* fate, const Plan& plan, const std::vector<std::shared_ptr<const Graph>>* graphs);

  // The backend of one life of the daemon; the one before it is gone.
  std::unique_ptr<Backend> Connect(uint32_t life);
  // The run has a graph of its own now, or another than before.
  void ReplaceGraph(uint32_t run, std::shared_ptr<const Graph> graph);
  void Disconnect() { listener_ = nullptr; }
  // kJobStart, kJobEnd, kJobStopped, kReport, kHealth.
  void Do(const Action& action);

  const std::deque<Job>& jobs() const { return jobs_; }
  const Job& job(uint32_t number) const { return jobs_[number]; }
  // nullptr if it was never asked about.
  const Job* Find(const std::string& key) const;
  int64_t made() const { return made_; }

 private:
  friend class PlatformBackend;
  enum class Word : uint32_t { kAccepted, kRefusedForNow, kRefusedForGood, kUnknown, kStarted, kEnded, kNotFound };

  uint32_t Know(absl::string_view key);
  void Submit(Unit unit);
  void CountSubmission();
  void Cancel(absl::string_view key, bool forced);
  void Release(absl::string_view key);
  void Adopt(std::vector<KnownAttempt> attempts);

  void Make(Job& job, uint32_t number);
  void Start(Job& job, uint32_t number);
  void End(Job& job, uint32_t number, AttemptEnd end);
  void Occupy(const Job& job, int64_t sign);
  void Say(uint32_t number, Word word);
  void SayAll(uint32_t number);
  void Deliver(uint32_t number, Word word, bool of_this_life);

  Fate* const fate_;
  const Plan& plan_;
  std::vector<std::shared_ptr<const Graph>> graphs_;
  const bool instant_;  // nothing goes wrong: reports need no agenda
  Listener* listener_ = nullptr;
  uint32_t life_ = 0;
  bool adopted_ = false;
  std::deque<Job> jobs_;
  absl::flat_hash_map<std::string, uint32_t> by_key_;
  std::vector<std::vector<uint32_t>> newest_;   // by run and step: the highest attempt made
  std::vector<std::vector<uint32_t>> current_;  // by run and step: the job of that attempt
  int64_t made_ = 0;
  int64_t cpu_ = 0;
  int64_t db_ = 0;
  int64_t parallel_ = 0;
  std::vector<int64_t> parallel_of_run_;
  int64_t submitted_ = 0;   // in this life
  int64_t since_mono_ = 0;  // the first of them
};

}  // namespace orch::sim
