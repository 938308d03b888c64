#include "tests/sim/daemon.h"

#include <algorithm>
#include <utility>

#include "absl/strings/numbers.h"
#include "server/base/check.h"
#include "server/core/fanout.h"

namespace orch::sim {
namespace {

constexpr int64_t kSlowStore = 40 * kSecond;

CorePolicy PolicyOf(const Plan& plan, const testing::StoreModel& tables) {
  CorePolicy policy;
  policy.instance = "simulation";
  policy.slice = plan.slice;
  policy.grants = plan.grants;
  policy.hooks.at_once = plan.hooks_at_once;
  policy.breaker.failures = plan.breaker_failures;
  return tables.Continue(policy);
}

// Its number in the plan.
uint32_t NumberOf(const RunHeader& header) {
  uint32_t number = 0;
  CHECK(absl::SimpleAtoi(header.id.substr(4), &number));
  return number;
}

}  // namespace

std::string DigestOf(const std::string& key, uint32_t output) {
  std::string digest = absl::StrCat(key, "/", output);
  digest.resize(32, '-');
  return digest;
}

std::string CacheKeyOf(StepIx ix) { return DigestOf("cache", ix); }

StoredOutput OutputOf(const std::string& key, uint32_t output) {
  StoredOutput stored;
  stored.output = output;
  stored.blob.digest = DigestOf(key, output);
  stored.blob.size = 1;
  return stored;
}

// --- the disk ---

absl::Status SimWriter::Commit(Batch* batch) {
  ++ledger_->commits;
  const bool crash = fate_->HappensOf(Fault::kCrash, 1000);
  const uint64_t where = crash ? fate_->dice.Draw(4) : 4;
  if (where == 0) return absl::UnavailableError("the daemon dies, or the disk fails, before the commit");
  for (const AttemptRow& row : batch->attempts) {
    if (row.stopping) ledger_->stops.emplace(row.key, fate_->mono());
  }
  tables_->Commit(batch);
  if (!tables_->faults().empty()) {
    fate_->Break(tables_->faults().front());
    return absl::InternalError("this world is over");
  }
  if (where == 1) return absl::UnavailableError("the daemon dies after the commit, before any effect");
  doomed_ = where < 4;
  return absl::OkStatus();
}

// --- what waits to be done ---

void SimExecutor::InOrder(int64_t lane, std::function<void()> work) {
  if (stopped_) return;
  orders_.Push(lane, std::move(work));
  if (std::exchange(scheduled_, true)) return;
  fate_->Later(1, What::kOrders, 0, 0, life_);
}

void SimExecutor::DoOrders() {
  scheduled_ = false;
  const size_t all = orders_.size();
  const size_t some = fate_->Has(Fault::kCrashBetween) && all > 1 ? 1 + fate_->dice.Draw(all) : all;
  for (size_t n = 0; n < some && !stopped_; ++n) {
    orders_.Pop()();
  }
  if (orders_.empty() || std::exchange(scheduled_, true)) return;
  fate_->Later(fate_->dice.Delay(kSecond / 10), What::kOrders, 0, 0, life_);
}

void SimExecutor::Aside(int64_t, std::function<void()> work) {
  if (stopped_) return;
  int64_t delay = fate_->dice.Delay(kSecond / 2);
  if (fate_->Happens(Fault::kStoreSlow)) delay += fate_->dice.Delay(kSlowStore);
  fate_->Later(delay, What::kAside, static_cast<uint32_t>(aside_.size()), 0, life_);
  aside_.push_back(std::move(work));
  ++open_;
}

void SimExecutor::DoAside(uint32_t place) {
  const std::function<void()> work = std::exchange(aside_[place], nullptr);
  --open_;
  work();
}

// --- the workshop ---

Rendered SimWorkshop::Render(const RunContext& run, const Intent& intent, const std::string&, Backend*) {
  Rendered out;
  CheckOrder(intent);
  if (fate_->Happens(Fault::kRenderFails)) {
    out.failure = Reason::kInputMissing;
    return out;
  }
  out.unit.key = intent.key;
  AttemptWork& work = out.unit.attempts.emplace_back();
  work.name.key = intent.key;
  work.name.run_id = run.header.id;
  work.name.step_index = intent.ref.ix;
  work.name.attempt = intent.ref.attempt;
  return out;
}

// A step starts only when what its rule asks of its upstreams has come to pass, durably.
void SimWorkshop::CheckOrder(const Intent& intent) {
  const testing::StoreModel::Run* run = tables_->Find(intent.ref.run);
  if (run == nullptr) return fate_->Break("run ", intent.ref.run, " has work and is not stored");
  const AttemptRow* row = tables_->FindAttempt(intent.ref.run, intent.ref.ix, intent.ref.attempt);
  if (row == nullptr) return fate_->Break("attempt of step ", intent.ref.ix, " is submitted and is not stored");
  const Graph& graph = *run->graph;
  const uint32_t t = graph.TemplateOf(intent.ref.ix);
  const StepTemplate& step = graph.templates()[t];
  const StepSpec& spec = graph.spec().steps[t];
  const bool all_success = spec.options().trigger_rule == TriggerRule::kAllSuccess;
  if (intent.inputs.size() != step.inputs.size()) return fate_->Break("an intent with the wrong number of inputs");
  for (size_t i = 0; i < step.inputs.size(); ++i) {
    for (const ArtifactId id : intent.inputs[i]) {
      if (id == 0 && !all_success) continue;  // simply absent
      const ArtifactRow* artifact = tables_->FindArtifact(id);
      if (artifact == nullptr) return fate_->Break("input ", i, " of step ", intent.ref.ix, " has not landed: ", id);
      if (artifact->attempt != 0 && artifact->attempt <= run->steps[artifact->ix].earlier_attempts) {
        return fate_->Break("an input is of a generation before: step ", artifact->ix);
      }
      if (!step.inputs[i].early && !IsOk(run->steps[artifact->ix].state)) {
        return fate_->Break("an input counts before its producer has succeeded: step ", artifact->ix);
      }
    }
  }
  for (const std::string& after : spec.after) {
    std::optional<StepIx> first = graph.FindStep(after);
    if (!first.has_value()) first = graph.FindStep(after + "[0]");
    if (!first.has_value()) continue;  // a fan-out over nothing
    const uint32_t u = graph.TemplateOf(*first);
    const uint32_t have = all_success ? run->ok[u] : run->ended[u];
    const uint32_t all = graph.step(u).count + (graph.step(u).at_run_time() ? 1 : 0);
    if (have < all) {
      return fate_->Break("step ", intent.ref.ix, " starts before `", after, "`, which it comes after");
    }
  }
}

// A hook runs only when what it is about has come to its end, durably.
Rendered SimWorkshop::RenderHook(const HookRow& hook, Backend*) {
  const testing::StoreModel::Run* run = tables_->Find(hook.run);
  const HookRow* stored = tables_->FindHook(hook.id);
  if (run == nullptr || stored == nullptr || stored->key != hook.key) {
    fate_->Break("hook ", hook.id, " is begun and is not on record");
  } else if (hook.generation != run->row.generation) {
    // The run has been retried since.
  } else if (hook.ix < 0 ? !IsTerminal(run->row.state) : !IsTerminal(run->steps[static_cast<size_t>(hook.ix)].state)) {
    fate_->Break("hook ", hook.id, " is begun before what it is about has ended");
  }
  Rendered out;
  if (fate_->Happens(Fault::kRenderFails)) {
    out.failure = Reason::kSubmitRefused;
    return out;
  }
  out.unit.key = hook.key;
  AttemptWork& work = out.unit.attempts.emplace_back();
  work.name.key = hook.key;
  work.name.log = hook.id;
  return out;
}

OutputsStored SimWorkshop::Store(const RunContext&, const Intent& intent) {
  OutputsStored stored;
  stored.ref = intent.ref;
  if (fate_->Happens(Fault::kStoreFails)) {
    stored.failure = Reason::kStoreFailed;
    return stored;
  }
  if (fate_->dice.Percent(80)) stored.cache_key = intent.cache_key;  // else its files have changed
  for (uint32_t o = 0; o < intent.published.size(); ++o) {
    if (!intent.published[o]) stored.outputs.push_back(OutputOf(intent.key, o));
  }
  return stored;
}

StepsResolved SimWorkshop::Resolve(const RunContext& run, const std::vector<Intent>& intents) {
  StepsResolved out;
  for (const Intent& intent : intents) {
    StepResolved& resolved = out.steps.emplace_back();
    resolved.run = intent.ref.run;
    resolved.ix = intent.ref.ix;
    resolved.generation = intent.generation;
    resolved.cache_key = CacheKeyOf(intent.ref.ix);
    resolved.as_of = cache_version_;
    const bool entered = std::any_of(tables_->cache().begin(), tables_->cache().end(),
                                     [&](const CacheEntryRow& entry) { return entry.key == resolved.cache_key; });
    if (fate_->Happens(Fault::kResolveFails)) {
      resolved.failure = Reason::kInputMissing;
    } else if (fate_->dice.Percent(entered ? 70 : 10)) {
      resolved.hit = true;
      resolved.hit_run = "earlier";
      const size_t outputs = run.graph->SpecOf(intent.ref.ix).outputs.size();
      for (uint32_t o = 0; o < outputs; ++o) resolved.outputs.push_back(OutputOf("hit", o));
    }
    if (!run.graph->SpecOf(intent.ref.ix).options().when.empty()) {
      // The same whenever it is asked, as the values do not change.
      resolved.when_false = DigestOf(run.header.id, intent.ref.ix).back() % 4 == 0;
      for (const ArtifactId id : intent.when_values) {
        if (id != 0 && tables_->FindArtifact(id) == nullptr) fate_->Break("a condition sees what has not landed: ", id);
      }
    }
  }
  return out;
}

FanoutResolved SimWorkshop::ResolveFanout(const RunContext& run, const Intent& intent) {
  FanoutResolved resolved;
  resolved.run = intent.ref.run;
  resolved.generation = intent.generation;
  resolved.ix = intent.ref.ix;
  resolved.failure = Reason::kFanoutInvalid;
  if (fate_->Happens(Fault::kResolveFails)) return resolved;
  const Graph& graph = *run.graph;
  const uint32_t t = graph.TemplateOf(intent.ref.ix);
  std::vector<std::vector<std::string>> values(intent.lists.size());
  for (size_t k = 0; k < intent.lists.size(); ++k) {
    const std::optional<InputBinding>& list = graph.step(t).lists[k];
    if (!list) continue;
    for (const ArtifactId id : intent.lists[k]) {
      if (tables_->FindArtifact(id) == nullptr) fate_->Break("a fan-out over a list that has not landed: ", id);
    }
    // The list that an artifact holds is the same for whoever reads it, and another one in another generation.
    const ArtifactId first = intent.lists[k].empty() ? 0 : intent.lists[k].front();
    const auto byte = static_cast<uint8_t>(DigestOf(run.header.id, static_cast<uint32_t>(first)).back());
    const size_t width = list->fan_in ? intent.lists[k].size() : byte % 4;
    for (size_t v = 0; v < width; ++v) values[k].push_back(std::to_string(v + byte / 4 % 2));
  }
  auto items = ProductOf(graph, t, values, {});
  if (!items.ok()) return resolved;
  auto fanout = LinkFanout(graph, t, std::make_shared<const Items>(*std::move(items)));
  if (!fanout.ok()) return resolved;
  resolved.failure = Reason::kNone;
  resolved.fanout = *std::move(fanout);
  return resolved;
}

// --- the daemon ---

SimDaemon::SimDaemon(Fate* fate, const Plan& plan, testing::StoreModel* tables, Platform* platform, HookPlatform* hooks,
                     uint32_t life, Ledger* ledger)
    : fate_(fate),
      plan_(plan),
      tables_(tables),
      platform_(platform),
      hooks_(hooks),
      born_(fate->mono()),
      writer_(fate, tables, ledger),
      executor_(fate, life),
      workshop_(fate, tables),
      outbox_(&workshop_, &executor_, &mailbox_),
      hub_(tables->events().empty() ? 0 : tables->events().back().sequence, plan.ring),
      core_(PolicyOf(plan, *tables)),
      turn_(fate, &core_, &writer_, this) {
  (void)core_.Apply(PoolChanged{"db", 1, true}, {});
  const absl::Status started = outbox_.AddBackend("o", platform->Connect(life));
  if (!started.ok()) fate->Break(started.ToString());
  std::map<std::string, int64_t> capacity;
  if (plan.cpu_millis > 0) capacity["cpu"] = plan.cpu_millis;
  (void)core_.Apply(OrchestratorChanged{"o", true, std::move(capacity), plan.parallel, plan.rate_milli}, {});
  for (StoredRun& run : tables->Open()) {
    auto context = std::make_shared<RunContext>();
    context->header = run.header;
    context->generation = run.row.generation;
    context->graph = run.graph;
    outbox_.AddRun(std::move(context));
    platform_->ReplaceGraph(NumberOf(run.header), run.graph);
    core_.Restore(std::move(run), fate->Now());
  }
  const absl::Status sane = core_.CheckInvariants();
  if (!sane.ok()) fate->Break("the restored state: ", sane.ToString());
  for (HookRow& row : tables->OpenHooks()) core_.RestoreHook(std::move(row), fate->Now());
  outbox_.Adopt(core_.LiveAttempts(), 10'000'000, int64_t{4} << 30);
  outbox_.SetHookBackend([hooks]() -> absl::StatusOr<std::unique_ptr<Backend>> { return hooks->Connect(); });
  const absl::Status adopted = outbox_.AdoptHooks(core_.RunningHooks(), 10'000'000, int64_t{4} << 30);
  if (!adopted.ok()) fate->Break(adopted.ToString());
}

SimDaemon::~SimDaemon() {
  platform_->Disconnect();
  hooks_->Disconnect();
}

bool SimDaemon::Play() {
  return turn_.Play(mailbox_.Drain(*fate_, 0, plan_.posts_per_turn), fate_->Now()).ok() && !writer_.doomed();
}

void SimDaemon::Publish(const Batch& committed) {
  const int64_t durable = tables_->events().empty() ? 0 : tables_->events().back().sequence;
  if (!committed.events.empty() && committed.events.back().sequence > durable) {
    fate_->Break("event ", committed.events.back().sequence, " is published before it is durable");
  }
  cache_version_ = core_.cache_version();
  workshop_.SetCacheVersion(cache_version_);
  hub_.Publish(committed.events);
}

void SimDaemon::ReplaceGraph(RunKey run, std::shared_ptr<const Graph> graph) {
  platform_->ReplaceGraph(NumberOf(tables_->Find(run)->header), graph);
  outbox_.ReplaceGraph(run, std::move(graph));
}

void SimDaemon::Start(std::vector<Intent> intents) {
  // It dies in the middle of them.
  if (writer_.doomed()) intents.resize(fate_->dice.Draw(intents.size() + 1));
  outbox_.Start(std::move(intents));
}

}  // namespace orch::sim
