#include "tests/core/scene.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/base/digest.h"
#include "server/core/fanout.h"
#include "server/core/next_generation.h"

namespace orch::testing {

StoredOutput Output(uint32_t number) {
  StoredOutput output;
  output.output = number;
  output.blob.digest = Sha256Of(absl::StrCat(number));
  output.blob.size = 1;
  return output;
}

Scene::Scene(CorePolicy policy) : policy_(std::move(policy)) {
  policy_.instance = "test";
  core_ = std::make_unique<Dispatcher>(policy_);
  Offer({});
}

Scene::~Scene() { EXPECT_EQ(absl::StrJoin(store_.faults(), "\n"), ""); }

void Scene::Offer(std::map<std::string, int64_t> capacity, int max_parallel) {
  capacity_ = capacity;
  max_parallel_ = max_parallel;
  EXPECT_TRUE(Apply(OrchestratorChanged{"o", true, std::move(capacity), max_parallel}).ok());
}

RunKey Scene::Submit(PipelineBuilder& pipeline, RunOptions options) {
  RunSubmitted event;
  event.graph = pipeline.Graph();
  event.header.execution_mode = options.mode;
  event.header.max_parallel = options.max_parallel;
  event.header.timeout_micros = options.timeout;
  event.header.priority = options.priority;
  return Submit(std::move(event));
}

RunKey Scene::Submit(RunSubmitted event) {
  event.header.id = absl::StrCat("run-", ++runs_);
  event.header.name = event.header.id;
  event.header.project = "default";
  event.header.pipeline = "p";
  event.header.orchestrator = "o";
  store_.AddGraph(event.header.id, event.graph);
  const auto graph = event.graph;
  EXPECT_TRUE(core_->Apply(std::move(event), Time()).ok());
  run_ = core_->last_run_key();
  graphs_[run_] = graph;
  Settle();
  return run_;
}

absl::Status Scene::Apply(Event event) {
  absl::Status status = core_->Apply(std::move(event), Time());
  Settle();
  return status;
}

void Scene::Settle() {
  for (int i = 0; i < 1000; ++i) {
    core_->Tick(Time());
    if (core_->NextDeadline() > now_) break;
  }
  EXPECT_GT(core_->NextDeadline(), now_) << "it never comes to rest";
  const absl::Status status = core_->CheckInvariants();
  EXPECT_TRUE(status.ok()) << status;
  if (hold_) return;
  Decisions decisions = core_->Take();
  store_.Commit(&decisions.batch);
  for (auto& [run, graph] : decisions.graphs) graphs_[run] = std::move(graph);
  for (Intent& intent : decisions.intents) intents_.push_back(std::move(intent));
  EXPECT_TRUE(core_->CheckInvariants().ok());
}

void Scene::Pass(int64_t micros) {
  const int64_t until = now_ + micros;
  while (core_->NextDeadline() <= until) {
    now_ = std::max(now_, core_->NextDeadline());
    Settle();
  }
  now_ = until;
  Settle();
}

int Scene::Generation() const {
  const RunInMemory* run = core_->Find(run_);
  return run == nullptr ? 1 : run->row.generation;
}

StepIx Scene::Ix(const std::string& step) const {
  const auto ix = graphs_.at(run_)->FindStep(step);
  EXPECT_TRUE(ix.has_value()) << step;
  return *ix;
}

AttemptRef Scene::Ref(const std::string& step, uint32_t attempt) const {
  const StepIx ix = Ix(step);
  const RunInMemory* run = core_->Find(run_);
  if (attempt == 0 && run != nullptr) attempt = run->cells[ix].attempt;
  if (attempt == 0 && store_.FindStep(run_, ix) != nullptr) attempt = store_.FindStep(run_, ix)->attempt;
  return {run_, ix, attempt};
}

void Scene::Accept(const std::string& step) {
  EXPECT_TRUE(Apply(AttemptAccepted{Ref(step), "handle", "ext", "url"}).ok());
}
void Scene::Start(const std::string& step) {
  EXPECT_TRUE(Apply(AttemptStarted{Ref(step), "ext", "node", wall_base_ + now_}).ok());
}
void Scene::End(const std::string& step, Reason reason) {
  AttemptEnd end;
  end.reason = reason;
  if (reason == Reason::kNone) end.exit_code = 0;
  if (reason == Reason::kExitCode) end.exit_code = 1;
  end.output_dir = "/out";
  EXPECT_TRUE(Apply(AttemptEnded{Ref(step), end}).ok());
}
void Scene::EndStopped(const std::string& step) {
  AttemptEnd end;
  end.reason = Reason::kSignaled;
  end.signal = 15;
  end.stopped = true;
  EXPECT_TRUE(Apply(AttemptEnded{Ref(step), end}).ok());
}
void Scene::Refuse(const std::string& step, bool transient) {
  EXPECT_TRUE(Apply(AttemptRefused{Ref(step), transient, Reason::kSubmitRefused, "no"}).ok());
}
void Scene::Store(const std::string& step, Reason failure) {
  OutputsStored stored{Ref(step), {}, failure, failure == Reason::kNone ? "" : "not stored", false};
  const RunInMemory* run = core_->Find(run_);
  const auto live = run->live.find(stored.ref.ix);
  if (live != run->live.end()) stored.cache_key = live->second.row.cache_key;
  for (uint32_t o = 0; o < run->graph->SpecOf(stored.ref.ix).outputs.size() && failure == Reason::kNone; ++o) {
    if (live != run->live.end() && live->second.published.count(o) == 0) stored.outputs.push_back(Output(o));
  }
  EXPECT_TRUE(Apply(std::move(stored)).ok());
}
void Scene::Publish(const std::string& step, uint32_t output) {
  EXPECT_TRUE(Apply(ArtifactPublished{Ref(step), Output(output)}).ok());
}
void Scene::Resolve(const std::string& step, bool hit, Reason failure, std::string key) {
  StepResolved event;
  event.run = run_;
  event.ix = Ix(step);
  event.generation = Generation();
  event.failure = failure;
  event.cache_key = key.empty() ? Sha256Of(step) : std::move(key);
  event.as_of = core_->cache_version();
  event.hit = hit;
  event.hit_run = hit ? "earlier" : "";
  for (uint32_t o = 0; hit && o < graphs_.at(run_)->SpecOf(event.ix).outputs.size(); ++o) {
    event.outputs.push_back(Output(o));
  }
  EXPECT_TRUE(Apply(std::move(event)).ok());
}
void Scene::WhenFalse(const std::string& step) {
  StepResolved event;
  event.run = run_;
  event.ix = Ix(step);
  event.generation = Generation();
  event.when_false = true;
  EXPECT_TRUE(Apply(std::move(event)).ok());
}
void Scene::WaitsFor(const std::string& step, const std::string& artifact) {
  StepResolved event;
  event.run = run_;
  event.ix = Ix(step);
  event.generation = Generation();
  event.waits_for = artifact;
  EXPECT_TRUE(Apply(std::move(event)).ok());
}
void Scene::Found(const std::string& step, std::vector<ArtifactId> external) {
  StepResolved event;
  event.run = run_;
  event.ix = Ix(step);
  event.generation = Generation();
  event.external = std::move(external);
  EXPECT_TRUE(Apply(std::move(event)).ok());
}
void Scene::FanOut(const std::string& step, const std::vector<std::vector<std::string>>& values) {
  FanoutResolved event;
  event.run = run_;
  event.ix = Ix(step);
  event.generation = Generation();
  const Graph& graph = *graphs_.at(run_);
  const uint32_t t = graph.TemplateOf(event.ix);
  auto items = ProductOf(graph, t, values, {});
  ASSERT_TRUE(items.ok()) << items.status();
  auto fanout = LinkFanout(graph, t, std::make_shared<const Items>(*std::move(items)));
  ASSERT_TRUE(fanout.ok()) << fanout.status();
  event.fanout = *std::move(fanout);
  EXPECT_TRUE(Apply(std::move(event)).ok());
}
void Scene::FanOutFails(const std::string& step) {
  FanoutResolved event;
  event.run = run_;
  event.ix = Ix(step);
  event.generation = Generation();
  event.failure = Reason::kFanoutInvalid;
  event.message = "no list";
  EXPECT_TRUE(Apply(std::move(event)).ok());
}
void Scene::Succeed(const std::string& step) {
  Start(step);
  End(step);
  const RunInMemory* run = core_->Find(run_);
  if (run != nullptr && run->live.count(Ix(step)) > 0) Store(step);
}
void Scene::Fail(const std::string& step) {
  Start(step);
  End(step, Reason::kExitCode);
}
void Scene::Cancel(bool force, std::vector<std::string> steps) {
  CancelRequested event{run_, {}, force};
  for (const std::string& step : steps) event.steps.push_back(Ix(step));
  EXPECT_TRUE(Apply(std::move(event)).ok());
}

absl::Status Scene::Skip(std::vector<std::string> steps) {
  SkipRequested event{run_, {}};
  for (const std::string& step : steps) event.steps.push_back(Ix(step));
  return Apply(std::move(event));
}

absl::Status Scene::Retry(std::vector<std::string> steps) {
  RunRetried event;
  event.run = store_.Load(*store_.Find(run_));
  event.unsuccessful = steps.empty();
  for (const std::string& step : steps) event.steps.push_back(Ix(step));
  return Apply(std::move(event));
}

absl::Status Scene::RetryWith(PipelineBuilder& pipeline) {
  const StoreModel::Run& run = *store_.Find(run_);
  const auto graph = pipeline.Graph();
  store_.AddPipeline(++pipelines_, graph);
  const auto next = GoOnWith(run_, *run.graph, *run.pipeline, run.header.numbering > 0, run.fanouts, graph);
  if (!next.ok()) return next.status();
  RunRetried event;
  event.run = store_.Load(run);
  event.run.header.pipeline_id = pipelines_;
  event.steps = ChangedSteps(*run.graph, *next->graph, [](const StepSpec&) { return false; });
  event.run.graph = next->graph;
  event.numbering = next->numbering;
  event.fanouts = next->fanouts;
  return Apply(std::move(event));
}

void Scene::Prune(const std::string& step) { store_.Prune(run_, Ix(step)); }

absl::Status Scene::Delete() {
  const StoreModel::Run* run = store_.Find(run_);
  return Apply(RunsDeleted{{{run_, run->header.id, run->header.name, "p", run->row.last_sequence, 0}}});
}

void Scene::Restart() {
  core_ = std::make_unique<Dispatcher>(store_.Continue(policy_));
  intents_.clear();
  for (StoredRun& run : store_.Open()) core_->Restore(std::move(run), Time());
  for (HookRow& row : store_.OpenHooks()) core_->RestoreHook(std::move(row), Time());
  Offer(capacity_, max_parallel_);
}

std::vector<std::string> Scene::Wants() {
  std::vector<std::string> out;
  for (const Intent& intent : intents_) {
    static const std::map<Intent::Kind, std::string> kWords = {
        {Intent::Kind::kSubmitAttempt, "submit"},    {Intent::Kind::kCancelAttempt, "cancel"},
        {Intent::Kind::kReleaseAttempt, "release"},  {Intent::Kind::kStoreOutputs, "store"},
        {Intent::Kind::kResolveStep, "resolve"},     {Intent::Kind::kResolveFanout, "fan out"},
        {Intent::Kind::kProbeOrchestrator, "probe"}, {Intent::Kind::kRunHook, "hook"}};
    if (intent.kind == Intent::Kind::kProbeOrchestrator) {
      out.push_back(absl::StrCat("probe ", intent.orchestrator));
      continue;
    }
    if (intent.orchestrator == kHookOrchestrator) {
      out.push_back(absl::StrCat(intent.kind == Intent::Kind::kRunHook ? "" : "hook ", kWords.at(intent.kind),
                                 intent.forced ? "!" : ""));
      continue;
    }
    out.push_back(absl::StrCat(kWords.at(intent.kind), intent.forced ? "! " : " ",
                               graphs_.at(intent.ref.run)->StepName(intent.ref.ix)));
  }
  std::sort(out.begin(), out.end());
  intents_.clear();
  return out;
}

const HookRow* Scene::Hook(const std::string& step) const {
  const HookRow* out = nullptr;
  for (const auto& [id, row] : store_.hooks()) {
    if (row.run == run_ && row.step == step) out = &row;
  }
  return out;
}

void Scene::Hook(const std::string& step, HookReported::What what, Reason reason, bool stopped) {
  const HookRow* row = Hook(step);
  ASSERT_NE(row, nullptr) << step << " has no hook";
  HookReported report;
  report.what = what;
  report.key = row->key;
  report.end.reason = reason;
  report.end.stopped = stopped;
  if (reason == Reason::kNone) report.end.exit_code = 0;
  if (reason == Reason::kExitCode) report.end.exit_code = 3;
  EXPECT_TRUE(Apply(std::move(report)).ok());
}

StepState Scene::State(const std::string& step) const {
  if (const RunInMemory* run = core_->Find(run_)) return run->cells[Ix(step)].state;
  return Row(step).state;
}
Reason Scene::ReasonOf(const std::string& step) const {
  if (const RunInMemory* run = core_->Find(run_)) return run->cells[Ix(step)].reason;
  return Row(step).reason;
}
RunState Scene::Run() const {
  if (const RunInMemory* run = core_->Find(run_)) return run->row.state;
  return store_.FindRun(run_)->state;
}
Reason Scene::RunReason() const {
  if (const RunInMemory* run = core_->Find(run_)) return run->row.reason;
  return store_.FindRun(run_)->reason;
}
const StepRow& Scene::Row(const std::string& step) const {
  const StepRow* row = store_.FindStep(run_, Ix(step));
  static const StepRow kNone;
  EXPECT_NE(row, nullptr) << step << " has no row";
  return row != nullptr ? *row : kNone;
}
const AttemptRow& Scene::Attempt(const std::string& step, uint32_t number) const {
  const AttemptRow* row = store_.FindAttempt(run_, Ix(step), number);
  static const AttemptRow kNone;
  EXPECT_NE(row, nullptr) << step << " has no attempt " << number;
  return row != nullptr ? *row : kNone;
}
std::string Scene::States() const {
  std::vector<std::string> out;
  const auto& graph = graphs_.at(run_);
  for (StepIx ix = 0; ix < graph->step_count(); ++ix) {
    const std::string name = graph->StepName(ix);
    out.push_back(absl::StrCat(name, ":", Name(State(name))));
  }
  return absl::StrJoin(out, " ");
}

}  // namespace orch::testing
