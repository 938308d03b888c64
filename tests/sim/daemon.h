// One life of the daemon in a simulated world: the real dispatcher, turn, outbox, mailbox and hub, over a simulated
// disk, executor and workshop. It ends by a crash at any commit boundary or between any two pieces of work.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "server/engine/executor.h"
#include "server/engine/fair_queue.h"
#include "server/engine/hub.h"
#include "server/engine/mailbox.h"
#include "server/engine/outbox.h"
#include "server/engine/turn.h"
#include "server/engine/workshop.h"
#include "server/store/store.h"
#include "tests/core/store_model.h"
#include "tests/sim/fate.h"
#include "tests/sim/hooks.h"
#include "tests/sim/plan.h"
#include "tests/sim/platform.h"

namespace orch::sim {

// What was committed and is in no table.
struct Ledger {
  int64_t commits = 0;
  std::unordered_map<std::string, int64_t> stops;  // by key: when a stop was first on record
};

// The database: what is committed outlives every daemon. Commits fail and daemons die here.
class SimWriter : public store::Writer {
 public:
  SimWriter(Fate* fate, testing::StoreModel* tables, Ledger* ledger) : fate_(fate), tables_(tables), ledger_(ledger) {}

  const store::Meta& meta() const override { return meta_; }
  absl::Status Commit(Batch* batch) override;
  bool LowOnSpace() override { return false; }
  void MaybeCheckpoint(bool) override {}
  absl::StatusOr<std::vector<RunKey>> LiveRunKeys() override { return std::vector<RunKey>(); }
  absl::StatusOr<store::LiveRun> LoadRun(RunKey) override { return absl::UnimplementedError("see StoreModel::Open"); }
  absl::StatusOr<std::vector<AttemptRow>> PendingReleases() override { return std::vector<AttemptRow>(); }
  Stats stats() const override { return {}; }

  // The daemon shall die in the middle of what follows this commit.
  bool doomed() const { return doomed_; }

 private:
  Fate* const fate_;
  testing::StoreModel* const tables_;
  Ledger* const ledger_;
  store::Meta meta_;
  bool doomed_ = false;
};

// Work waits in lines until the world lets it happen.
class SimExecutor : public Executor {
 public:
  SimExecutor(Fate* fate, uint32_t life) : fate_(fate), life_(life) {}
  void InOrder(int64_t lane, std::function<void()> work) override;
  bool Here(absl::FunctionRef<void()>) override { return false; }
  void Aside(int64_t lane, std::function<void()> work) override;
  void Slowly(std::chrono::milliseconds, std::function<void()> work) override { Aside(0, std::move(work)); }
  void Stop() override { stopped_ = true; }

  // Some of the line, and the rest later.
  void DoOrders();
  void DoAside(uint32_t place);
  bool idle() const { return orders_.empty() && open_ == 0; }

 private:
  Fate* const fate_;
  const uint32_t life_;
  bool stopped_ = false;
  bool scheduled_ = false;
  FairQueue<std::function<void()>> orders_;
  std::vector<std::function<void()>> aside_;
  size_t open_ = 0;
};

// Makes units without files, and looks whether each step may start at all.
class SimWorkshop : public Workshop {
 public:
  SimWorkshop(Fate* fate, const testing::StoreModel* tables) : fate_(fate), tables_(tables) {}
  Rendered Render(const RunContext& run, const Intent& intent, const std::string& flavor, Backend* backend) override;
  Rendered RenderHook(const HookRow& hook, Backend* backend) override;
  OutputsStored Store(const RunContext& run, const Intent& intent) override;
  StepsResolved Resolve(const RunContext& run, const std::vector<Intent>& intents) override;
  // What of the cache's changes is durable.
  void SetCacheVersion(uint64_t version) { cache_version_ = version; }
  FanoutResolved ResolveFanout(const RunContext& run, const Intent& intent) override;
  bool IsQuick(const RunContext&, const Intent&) override { return false; }
  void Discard(const std::string&) override {}

 private:
  void CheckOrder(const Intent& intent);

  Fate* const fate_;
  const testing::StoreModel* const tables_;
  uint64_t cache_version_ = 0;
};

// Under what a step is looked up: steps of one number are the same in all runs.
std::string CacheKeyOf(StepIx ix);

// The digest of what an attempt writes says whose it is.
std::string DigestOf(const std::string& key, uint32_t output);
StoredOutput OutputOf(const std::string& key, uint32_t output);

class SimDaemon : private TurnSink {
 public:
  SimDaemon(Fate* fate, const Plan& plan, testing::StoreModel* tables, Platform* platform, HookPlatform* hooks,
            uint32_t life, Ledger* ledger);
  ~SimDaemon() override;

  // Posts wait for the next turn.
  Mailbox& mailbox() { return mailbox_; }
  // One turn of the loop. False: it has died.
  bool Play();
  SimExecutor& executor() { return executor_; }
  Outbox& outbox() { return outbox_; }
  Hub& hub() { return hub_; }
  const Dispatcher& core() const { return core_; }
  uint64_t cache_version() const { return cache_version_; }
  int64_t NextDeadline() const { return turn_.NextDeadline(); }
  bool idle() const { return turn_.idle() && executor_.idle() && mailbox_.depth() == 0; }
  int64_t born() const { return born_; }

 private:
  void AddRun(std::shared_ptr<const RunContext> run) override { outbox_.AddRun(std::move(run)); }
  void Publish(const Batch& committed) override;
  void Start(std::vector<Intent> intents) override;
  void ReplaceGraph(RunKey run, std::shared_ptr<const Graph> graph) override;
  void RemoveRun(const RunRow& run) override { outbox_.RemoveRun(run.key); }

  Fate* const fate_;
  const Plan& plan_;
  const testing::StoreModel* const tables_;
  Platform* const platform_;
  HookPlatform* const hooks_;
  const int64_t born_;
  uint64_t cache_version_ = 0;
  Mailbox mailbox_{100'000};
  SimWriter writer_;
  SimExecutor executor_;
  SimWorkshop workshop_;
  Outbox outbox_;
  Hub hub_;
  Dispatcher core_;
  Turn turn_;
};

}  // namespace orch::sim
