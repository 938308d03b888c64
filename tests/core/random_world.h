// A whole world from one seed: random pipelines, a platform that keeps the truth and misbehaves, a store, crashes at
// every commit boundary, and virtual time. What must hold is checked after every event.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <queue>
#include <random>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "tests/core/builders.h"
#include "tests/core/store_model.h"

namespace orch::testing {

class RandomWorld {
 public:
  explicit RandomWorld(uint64_t seed);
  // Runs until all ends; empty if nothing was broken, else what was, with the last actions.
  std::string Play();

  // Of everything that became durable, in order.
  const std::string& trace() const { return trace_hash_; }
  int restarts() const { return restarts_; }
  int64_t starts() const { return starts_; }
  int runs() const { return static_cast<int>(submissions_.size()); }

 private:
  // Drawn first, so that a seed has one character.
  struct Faults {
    int lost_answer = 0;  // all in percent
    int refuse = 0;
    int refuse_for_good = 0;
    int repeat = 0;
    int late = 0;
    int fail = 0;
    int lose = 0;
    int ignore_stop = 0;
    int store_fails = 0;
    int crash = 0;  // per thousand commits
    int cancel = 0;
    int cancel_step = 0;
    int forget = 0;  // a restarted platform knows nothing of a job
  };
  struct Action {
    int64_t due;
    uint64_t tie;
    enum class Kind { kEvent, kJobStart, kJobPublish, kJobEnd, kJobStopped, kSubmitRun, kAsk } kind;
    std::shared_ptr<Event> event;
    std::string key;
    uint32_t number = 0;
    bool operator>(const Action& o) const { return std::tie(due, tie) > std::tie(o.due, o.tie); }
  };
  struct Job {
    AttemptRef ref;
    int starts = 0;
    bool started = false;
    bool ended = false;
    bool stopping = false;
    bool ignores_stop = false;
    AttemptEnd end;
    std::vector<uint32_t> publishes;
  };
  struct Submission {
    RunSubmitted event;
    bool acknowledged = false;
    bool plain = true;  // nothing but its steps' outcomes decides what becomes of it
  };

  uint64_t Draw(uint64_t below) { return random_() % below; }
  bool Chance(int percent) { return Draw(100) < static_cast<uint64_t>(percent); }
  int64_t Delay(int64_t most) { return static_cast<int64_t>(Draw(static_cast<uint64_t>(most))) + 1; }

  PipelineBuilder RandomPipeline();
  void SubmitRun(size_t number);
  void Later(int64_t delay, Action action);
  void Send(Event event, int64_t delay);
  void Report(const Job& job, int64_t delay);
  void Do(Action& action);
  void Apply(Event event);
  void Settle();
  void Perform(Intent& intent);
  void Submit(const Intent& intent);
  void Stop(const Intent& intent);
  void Ask(const std::string& key, const AttemptRef& ref);
  void Store(const Intent& intent);
  void Resolve(const Intent& intent);
  void Restart();
  void Configure();
  void CheckOrder(const Intent& intent);
  void CheckSlots();
  void CheckEnd();
  void Broken(std::string what);
  void Note(std::string what);
  Now Time() const { return {now_, 1'700'000'000'000'000 + now_}; }

  std::mt19937_64 random_;
  Faults faults_;
  CorePolicy policy_;
  std::unique_ptr<Dispatcher> core_;
  StoreModel store_;
  int64_t now_ = 1'000'000'000;
  uint64_t next_tie_ = 1;
  std::priority_queue<Action, std::vector<Action>, std::greater<>> actions_;
  std::map<std::string, Job> platform_;
  std::vector<Submission> submissions_;
  std::map<std::string, int64_t> capacity_;
  std::set<std::string> refused_;  // for good
  std::set<RunKey> stopping_;      // no step of them starts any more
  std::vector<std::string> notes_;
  std::string broken_;
  std::string trace_hash_;
  int restarts_ = 0;
  int64_t starts_ = 0;
  int epoch_ = 0;
};

}  // namespace orch::testing
