// One run on one orchestrator `o`, played by hand: the test says what the platform reports, at literal times, and looks
// at what the dispatcher wants. After every event the invariants are checked and everything decided is committed.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/core/builders.h"
#include "tests/core/store_model.h"

namespace orch::testing {

inline constexpr int64_t kSecond = 1'000'000;

class Scene {
 public:
  explicit Scene(CorePolicy policy = {});
  ~Scene();

  struct RunOptions {
    ExecutionMode mode = ExecutionMode::kContinueOnFailure;
    int max_parallel = 0;
    int64_t timeout = 0;
    int priority = 0;
  };
  // Becomes the current run. What is missing of the header is filled in.
  RunKey Submit(RunSubmitted event);
  // Becomes the current run.
  RunKey Submit(PipelineBuilder& pipeline, RunOptions options);
  RunKey Submit(PipelineBuilder&& pipeline, RunOptions options) { return Submit(pipeline, options); }
  RunKey Submit(PipelineBuilder& pipeline) { return Submit(pipeline, RunOptions()); }
  RunKey Submit(PipelineBuilder&& pipeline) { return Submit(pipeline, RunOptions()); }
  // Steps of this run are meant from here on.
  void Use(RunKey run) { run_ = run; }

  void Offer(std::map<std::string, int64_t> capacity, int max_parallel = 0);
  absl::Status Apply(Event event);
  // Time passes; everything that becomes due happens at its time.
  void Pass(int64_t micros);
  // Somebody sets the wall clock.
  void JumpWall(int64_t micros) { wall_base_ += micros; }

  // Reports about the current attempt of a step (or an older one).
  AttemptRef Ref(const std::string& step, uint32_t attempt = 0) const;
  void Accept(const std::string& step);
  void Start(const std::string& step);
  void End(const std::string& step, Reason reason = Reason::kNone);
  void EndStopped(const std::string& step);
  void Refuse(const std::string& step, bool transient);
  void Store(const std::string& step, Reason failure = Reason::kNone);
  void Publish(const std::string& step, uint32_t output = 0);
  // `key` empty: one of the step's own.
  void Resolve(const std::string& step, bool hit, Reason failure = Reason::kNone, std::string key = "");
  void WhenFalse(const std::string& step);
  // What came of its inputs from outside the run.
  void WaitsFor(const std::string& step, const std::string& artifact);
  void Found(const std::string& step, std::vector<ArtifactId> external);
  // The answer about a fan-out made at run time: for each key its values as JSON (nothing for those written out).
  void FanOut(const std::string& step, const std::vector<std::vector<std::string>>& values);
  void FanOutFails(const std::string& step);
  // Start, end and store what it declares.
  void Succeed(const std::string& step);
  void Fail(const std::string& step);
  absl::Status Pause() { return Apply(PauseRequested{run_}); }
  absl::Status Resume() { return Apply(ResumeRequested{run_}); }
  absl::Status Skip(std::vector<std::string> steps);
  // No steps: what did not succeed.
  absl::Status Retry(std::vector<std::string> steps = {});
  // With this pipeline; what did not succeed, is new, or is another.
  absl::Status RetryWith(PipelineBuilder& pipeline);
  absl::Status RetryWith(PipelineBuilder&& pipeline) { return RetryWith(pipeline); }
  // Retention takes what has landed of a step of a run that has ended.
  void Prune(const std::string& step);
  absl::Status Delete();
  void Beat(const std::string& step) { EXPECT_TRUE(Apply(HeartbeatReceived{Ref(step)}).ok()); }
  void Cancel(bool force = false, std::vector<std::string> steps = {});

  // The daemon ends and starts again; `commit` false: what was decided since the last commit is gone.
  void Restart();
  // Decisions stay uncommitted until the next Flush; Restart forgets them.
  void HoldCommits(bool hold) { hold_ = hold; }

  // What is wanted of the outside and has not been asked for: `submit a`, `cancel! b`, `store a`, `resolve c`,
  // `release a`; sorted. Empties the list.
  std::vector<std::string> Wants();
  // Reports about the newest try of a step's hook, or of the run's (an empty name).
  const HookRow* Hook(const std::string& step = "") const;
  void Hook(const std::string& step, HookReported::What what, Reason reason = Reason::kNone, bool stopped = false);
  std::vector<Intent>& intents() { return intents_; }

  StepState State(const std::string& step) const;
  Reason ReasonOf(const std::string& step) const;
  RunState Run() const;
  Reason RunReason() const;
  const StepRow& Row(const std::string& step) const;
  const AttemptRow& Attempt(const std::string& step, uint32_t number) const;
  Dispatcher& core() { return *core_; }
  StoreModel& store() { return store_; }
  int64_t now() const { return now_; }
  // All states as `a:SUCCEEDED b:SKIPPED`.
  std::string States() const;

 private:
  Now Time() const { return {now_, wall_base_ + now_}; }
  void Settle();
  StepIx Ix(const std::string& step) const;
  int Generation() const;

  CorePolicy policy_;
  std::unique_ptr<Dispatcher> core_;
  StoreModel store_;
  RunKey run_ = 0;
  int64_t wall_base_ = 1'700'000'000'000'000;
  int64_t now_ = 1'000'000'000;
  int runs_ = 0;
  int64_t pipelines_ = 0;
  bool hold_ = false;
  std::map<std::string, int64_t> capacity_;
  int max_parallel_ = 0;
  std::map<RunKey, std::shared_ptr<const Graph>> graphs_;
  std::vector<Intent> intents_;
};

StoredOutput Output(uint32_t number);

}  // namespace orch::testing
