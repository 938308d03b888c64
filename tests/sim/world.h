// A whole world: clients, the daemon and its restarts, the platform, and time. What must hold is checked after every
// event; what must come to pass, at the end.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "tests/core/store_model.h"
#include "tests/sim/daemon.h"
#include "tests/sim/fate.h"
#include "tests/sim/plan.h"
#include "tests/sim/platform.h"

namespace orch::sim {

class World {
 public:
  explicit World(Plan plan);
  // Until all has ended. Empty if nothing was broken; else what was, with what happened last.
  std::string Play();

  struct Figures {
    int64_t runs = 0;
    int64_t life_cycles = 0;  // steps that came to their end
    int64_t attempts = 0;     // jobs that the platform made
    int64_t restarts = 0;
    int64_t commits = 0;
    int64_t turns = 0;
  };
  Figures figures() const;
  // Every event that became durable, byte by byte.
  std::string Log() const;

 private:
  // A client's call that waits for its receipt.
  struct Call {
    enum class Kind : uint8_t {
      kSubmit,
      kCancelRun,
      kCancelStep,
      kPublish,
      kPause,
      kResume,
      kSkip,
      kRetry,
      kDelete,
      kInvalidate
    } kind;
    uint32_t run;
    uint32_t number;  // the step, or the job
    uint32_t output;
    std::shared_ptr<Receipt> receipt;
  };
  struct Client {
    RunSubmitted event;
    bool acknowledged = false;
    bool asking = false;
    int cancelled = 0;      // durably: the generation; 0: none
    bool changing = false;  // a retry or a deletion is asked for: the engine lets nobody else do so
    RunKey key = 0;         // once it is known
    bool plain = true;      // nothing but its steps' outcomes decides what becomes of it
  };
  // Of one run, or of all (0); its place outlives the daemon.
  struct Watcher {
    uint32_t run = 0;  // its number + 1
    int64_t after = 0;
    int64_t seen = 0;
  };

  void Do(const Action& action);
  void Turn();
  void Start();
  void Crash();
  void SubmitRun(uint32_t number);
  void Cancel(uint32_t number, bool whole, uint32_t argument);
  void Invalidate(uint32_t number);
  void FindHits(RunSubmitted* event);
  void Publish(uint32_t job, uint32_t output);
  void Ask(Call::Kind kind, uint32_t number, uint32_t argument, Event event);
  void PauseOrResume(uint32_t number, bool pause);
  void SkipStep(uint32_t number, uint32_t step);
  void RetryRun(uint32_t number, uint32_t tries);
  void RetryWithOther(uint32_t number, const testing::StoreModel::Run& run, RunRetried* event);
  void DeleteRun(uint32_t number, uint32_t tries);
  void AnswerControl(const Call& call, const absl::Status& status);
  void Answer(const Call& call, const absl::Status& status);
  void PollCalls();
  void Watch();
  void Read(Watcher& watcher);
  RunKey KeyOf(uint32_t number) const;
  bool WasDeleted(uint32_t number) const { return tables_.WasDeleted(KeyOf(number)); }
  void CheckNow();
  void CheckStops(uint32_t job);
  void CheckEnd();
  void CheckSteps(const testing::StoreModel::Run& run, const Client& client);
  void CheckHooks(const testing::StoreModel::Run& run);
  void CheckJudgement(const testing::StoreModel::Run& run);
  std::string Report() const;

  const Plan plan_;
  Fate fate_;
  std::vector<Client> clients_;
  std::vector<std::shared_ptr<const Graph>> graphs_;
  testing::StoreModel tables_;
  std::unique_ptr<Platform> platform_;
  std::unique_ptr<HookPlatform> hooks_;
  Ledger ledger_;
  std::unique_ptr<SimDaemon> daemon_;
  std::vector<Call> calls_;
  std::vector<Watcher> watchers_;
  int64_t total_steps_ = 0;
  int64_t pipelines_ = 0;  // that runs were retried with
  uint32_t life_ = 0;
  bool turn_scheduled_ = false;
  bool watch_scheduled_ = false;
  int64_t turns_ = 0;
  int64_t actions_ = 0;
  int64_t since_check_ = 0;
};

}  // namespace orch::sim
