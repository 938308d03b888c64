#include "server/engine/file_workshop.h"

#include <sys/stat.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "server/base/clock.h"
#include "server/base/log.h"
#include "server/base/status.h"
#include "server/core/fanout.h"
#include "server/engine/attempt_task.h"
#include "server/engine/cache_key.h"
#include "server/engine/catalog.h"
#include "server/engine/outputs.h"
#include "server/engine/render.h"
#include "server/engine/trouble.h"

namespace orch {
namespace {

// What is done at once, on the loop's thread, is no more than this.
constexpr size_t kQuickInputs = 8;
constexpr size_t kQuickOutputs = 4;
constexpr int64_t kQuickBytes = 64 << 10;

// The elements of a JSON list, each as compact JSON.
absl::StatusOr<std::vector<std::string>> SplitList(const std::string& from, const std::string& text) {
  const auto json = nlohmann::json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (!json.is_array()) {
    return Error(absl::StatusCode::kInvalidArgument, "FANOUT_INVALID",
                 absl::StrCat("`", from, "` is no list: it is ", text.substr(0, 100), text.size() > 100 ? "…" : ""));
  }
  std::vector<std::string> out;
  out.reserve(json.size());
  for (const auto& element : json) out.push_back(element.dump());
  return out;
}

Reason ReasonOfFailure(const absl::Status& status) {
  const std::string reason = ReasonOf(status);
  if (reason == "OUTPUT_MISSING") return Reason::kOutputMissing;
  if (reason == "OUTPUT_INVALID") return Reason::kOutputInvalid;
  if (reason == "INPUT_MISSING" || reason == "BLOB_MISSING") return Reason::kInputMissing;
  return Reason::kStoreFailed;
}

// Of a secret that cannot be had: whether it is the secret's fault.
Reason ReasonOfSecret(const absl::Status& status) {
  return absl::StartsWith(ReasonOf(status), "SECRET_") ? Reason::kSecretMissing : Reason::kSubmitRefused;
}

}  // namespace

FileWorkshop::FileWorkshop(const EngineOptions& options, const StepTokens* tokens, CacheLookup* cache,
                           store::Queries* queries, BlobStore* blobs, const Sources* sources, Inputs* inputs,
                           Conditions* conditions, Secrets* secrets, RunGraphs* graphs, Deliveries* deliveries,
                           ArtifactStores* stores, LeftBehind* left, WholeRuns* whole_runs)
    : options_(options),
      tokens_(tokens),
      cache_(cache),
      queries_(queries),
      blobs_(blobs),
      sources_(sources),
      inputs_(inputs),
      conditions_(conditions),
      secrets_(secrets),
      graphs_(graphs),
      deliveries_(deliveries),
      stores_(stores),
      left_(left),
      whole_runs_(whole_runs) {}

absl::Status FileWorkshop::Resolve(const RunContext& run, const StepSpec& spec, std::vector<SecretValue>* out) {
  for (const SecretUse& use : spec.options().secrets) {
    const auto row = queries_->GetSecret(run.header.project, use.name);
    if (row.status().code() == absl::StatusCode::kNotFound) {
      return Error(absl::StatusCode::kNotFound, "SECRET_NOT_FOUND",
                   absl::StrCat("secret `", use.name, "` was deleted; set it again: orchctl set-secret ", use.name));
    }
    RETURN_IF_ERROR(row.status());
    if (!row->text && !use.file) {
      return Error(
          absl::StatusCode::kFailedPrecondition, "SECRET_BINARY",
          absl::StrCat("secret `", use.name, "` has a zero byte now, which no variable can hold; use file: true"));
    }
    ASSIGN_OR_RETURN(std::string value, secrets_->Open(*row));
    out->push_back({use.variable, std::move(value), use.file});
  }
  return absl::OkStatus();
}

Rendered FileWorkshop::Render(const RunContext& run, const Intent& intent, const std::string& flavor,
                              Backend* backend) {
  const auto refused = [](Reason reason, const absl::Status& why) {
    if (IsOfTheMoment(why)) return Rendered{{}, Reason::kSubmitRefused, std::string(why.message()), /*again=*/true};
    return Rendered{{}, reason, std::string(why.message()), false};
  };
  const auto inputs = inputs_->Make(run, intent.ref.ix, intent.key, intent.inputs, /*paths=*/true);
  if (!inputs.ok()) return refused(ReasonOfFailure(inputs.status()), inputs.status());
  RenderFacts facts;
  facts.run = &run;
  facts.ix = intent.ref.ix;
  facts.attempt = intent.ref.attempt;
  facts.key = intent.key;
  facts.inputs = &*inputs;
  facts.token = tokens_->Of(intent.key);
  facts.binary_dir = options_.binary_dir;
  facts.own_environment = backend->has_own_environment();
  const StepSpec& spec = run.graph->SpecOf(intent.ref.ix);
  if (!intent.cache_key.empty()) {  // what its files are now is what it computes from
    const auto key = CacheKeyOf(run, intent.ref.ix, *inputs, sources_);
    if (!key.ok() || key->key != intent.cache_key) {
      MutexLock lock(&mutex_);
      started_[intent.key] = key.ok() ? key->key : "";
    }
  }
  const std::string params_json = ParamsOf(run, spec);
  AttemptName name;
  name.key = intent.key;
  name.run_id = run.header.id;
  name.run_name = run.header.name;
  name.step_index = intent.ref.ix;
  name.attempt = intent.ref.attempt;
  const auto workspace = backend->Prepare(name);
  if (!workspace.ok()) return refused(Reason::kSubmitRefused, workspace.status());
  facts.workspace = &*workspace;
  const bool apart = backend->has_own_environment() || !workspace->on_this_machine;  // it does not see our sockets
  // Without an address for such steps a container's backend makes a way of its own of the socket's.
  facts.endpoint = options_.step_endpoint;
  if (apart && (!options_.far_step_endpoint.empty() || !workspace->on_this_machine)) {
    facts.endpoint = options_.far_step_endpoint;
  }
  std::vector<ReadyInput> there;  // its inputs as a launcher puts them
  if (workspace->on_this_machine) {
    const auto params = blobs_->Materialize(params_json);
    if (!params.ok()) return refused(Reason::kSubmitRefused, params.status());
    facts.params_path = *params;
    if (apart && !options_.far_step_endpoint.empty() && !options_.step_ca.empty()) {
      const auto ca = blobs_->Materialize(options_.step_ca);
      if (!ca.ok()) return refused(Reason::kSubmitRefused, ca.status());
      facts.ca_path = *ca;
    }
  } else {
    there = *inputs;
    for (size_t i = 0; i < there.size(); ++i) there[i].path = TaskInputPath(*workspace, spec.inputs[i].name);
    facts.inputs = &there;
    facts.params_path = TaskParamsPath(*workspace);
    facts.source_dir = TaskSourcePath(*workspace);
    facts.endpoint = FarEndpoint(*workspace);
  }
  auto work = ::orch::Render(facts);
  if (!work.ok()) return refused(Reason::kSubmitRefused, work.status());
  std::vector<SecretValue> secrets;  // also looked for where the launcher gets them: a missing one is said now
  const absl::Status resolved = Resolve(run, spec, &secrets);
  if (!resolved.ok()) return refused(ReasonOfSecret(resolved), resolved);
  AddOptions(spec, flavor, &*work);
  if (workspace->on_this_machine) {
    work->secrets = std::move(secrets);
  } else if (const absl::Status handed = HandToLauncher(run, spec, *inputs, facts, &*work); !handed.ok()) {
    return refused(ReasonOfFailure(handed), handed);
  }
  Rendered out;
  out.unit.key = intent.key;
  out.unit.attempts.push_back(*std::move(work));
  return out;
}

absl::Status FileWorkshop::HandToLauncher(const RunContext& run, const StepSpec& spec,
                                          const std::vector<ReadyInput>& here, const RenderFacts& facts,
                                          AttemptWork* work) {
  ASSIGN_OR_RETURN(const AttemptTask task,
                   MakeTask(*work, run, spec, here, ParamsOf(run, spec), options_.limits.value_bytes));
  RETURN_IF_ERROR(deliveries_->PutTask(work->name.key, WriteTask(task)));
  if (work->workspace.handed) {
    ASSIGN_OR_RETURN(work->task_file, hand_(work->name.key));
    work->command = {work->workspace.launcher, "run", "--task"};
    work->env = {{"ORCH_FENCE", work->name.key},
                 {"ORCH_RUN_NAME", work->name.run_name},
                 {"ORCH_STEP", work->name.step},
                 {"ORCH_ATTEMPT", absl::StrCat(work->name.attempt)}};
    work->working_dir = "/";
    work->source_dir.clear();
    return absl::OkStatus();
  }
  StartByLauncher(facts.endpoint, facts.token, work);
  return absl::OkStatus();
}

void FileWorkshop::StartByLauncher(const std::string& endpoint, const std::string& token, AttemptWork* work) const {
  work->command = {work->workspace.launcher, "run"};
  work->env = {{"ORCH_ENDPOINT", endpoint},    {"ORCH_TOKEN", token},
               {"ORCH_FENCE", work->name.key}, {"ORCH_RUN_NAME", work->name.run_name},
               {"ORCH_STEP", work->name.step}, {"ORCH_ATTEMPT", absl::StrCat(work->name.attempt)}};
  const bool ours = endpoint == options_.far_step_endpoint;  // not one that the backend knows by itself
  if (ours && !options_.step_ca.empty()) work->env.emplace_back("ORCH_CA_PEM", options_.step_ca);
  work->working_dir = "/";
  work->source_dir.clear();
}

void FileWorkshop::AddOptions(const StepSpec& spec, const std::string& flavor, AttemptWork* work) const {
  work->resources = spec.options().resources;
  work->image = spec.options().image;
  work->grace_micros = options_.grace_micros;
  work->log_limit_bytes = options_.limits.log_bytes;
  for (const auto& [of, settings] : spec.options().settings) {
    if (of == flavor) work->settings_json = settings;
  }
}

absl::StatusOr<AttemptWork> FileWorkshop::Sketch(const RunContext& run, StepIx ix, const std::string& flavor,
                                                 Backend* backend) {
  AttemptWork work;
  work.name = {kNoKey, run.header.project, run.header.id, run.header.name, run.graph->StepName(ix), ix, 1};
  ASSIGN_OR_RETURN(work.workspace, backend->Prepare(work.name));
  AddOptions(run.graph->SpecOf(ix), flavor, &work);
  StartByLauncher(FarEndpoint(work.workspace), kSecretShown, &work);
  return work;
}

absl::StatusOr<RunOutline> FileWorkshop::SketchRun(const RunContext& run, const std::string& flavor, Backend* backend,
                                                   const std::vector<bool>& done) {
  ASSIGN_OR_RETURN(const Workspace workspace, backend->Prepare({kNoKey, run.header.project, run.header.id}));
  return whole_runs_->Sketch(run, flavor, FarEndpoint(workspace), done);
}

std::string FileWorkshop::FarEndpoint(const Workspace& workspace) const {
  return workspace.endpoint.empty() ? options_.far_step_endpoint : workspace.endpoint;
}

WholeRun FileWorkshop::WholeRunOf(std::shared_ptr<const RunContext> run, const std::string& flavor, Backend* backend,
                                  const Workspace& workspace) {
  if (workspace.on_this_machine || !whole_runs_->IsWhole(*run, flavor, *backend)) return nullptr;
  return [this, run = std::move(run), flavor, endpoint = FarEndpoint(workspace)] {
    return whole_runs_->OutlineOf(*run, flavor, endpoint);
  };
}

// Taken by nobody: whoever comes for it now is turned away.
bool FileWorkshop::Withdraw(const std::string& key) { return deliveries_->Begin(key, "withdrawn").ok(); }

std::string FileWorkshop::BegunAt(const std::string& key) {
  return std::string(PlaceOfLauncher(deliveries_->LauncherOf(key)));
}

bool FileWorkshop::EndedWell(const std::string& key) {
  AttemptEnd end;
  const std::optional<std::string> said = deliveries_->EndOf(key);
  return said.has_value() && MergeEnd(*said, &end) && end.reason == Reason::kNone && !end.stopped;
}

std::string FileWorkshop::OutputDirOf(const std::string& key, const Workspace& workspace) {
  return workspace.on_this_machine ? workspace.output_dir : deliveries_->OutputDir(key);
}

FileWorkshop::Judged FileWorkshop::Judge(const std::string& key, bool last, AttemptEnd* end) {
  std::string missed;
  if (left_->MayBe(key)) {
    const absl::Status taken = left_->Take(key);
    if (!last && LeftBehind::MayComeLater(taken)) {
      Log(LogLevel::kWarning, "what a launcher may have left is asked for again later",
          {{"key", key}, {"why", taken.message()}});
      return Judged::kAskAgain;
    }
    if (!taken.ok() && taken.code() != absl::StatusCode::kNotFound) missed = std::string(taken.message());
  }
  deliveries_->Close(key);
  end->output_dir = deliveries_->OutputDir(key);
  const std::optional<std::string> said = deliveries_->EndOf(key);
  if (said.has_value() && MergeEnd(*said, end)) return Judged::kTold;
  if (end->reason == Reason::kNone) {
    end->reason = Reason::kStoreFailed;
    end->message = "its platform says that it ended well, but its launcher did not tell the daemon";
    if (!missed.empty()) absl::StrAppend(&end->message, "; what it left behind cannot be taken: ", missed);
  }
  return Judged::kNotTold;
}

OutputsStored FileWorkshop::Store(const RunContext& run, const Intent& intent) {
  OutputsStored event;
  event.ref = intent.ref;
  const std::vector<OutputSpec>& specs = run.graph->SpecOf(intent.ref.ix).outputs;
  const bool delivers = intent.output_dir == deliveries_->OutputDir(intent.key);
  const auto delivered = [&](const std::string& name) {
    return delivers ? deliveries_->DigestOf(intent.key, name) : std::string();
  };
  auto stored =
      StoreOutputs(specs, intent.published, intent.output_dir, options_.limits.value_bytes, delivered, blobs_);
  if (stored.ok() && !run.header.artifact_store.empty()) {  // there before anybody sees it
    for (StoredOutput& output : *stored) {
      if (output.value_json.has_value()) continue;
      const absl::Status kept = stores_->Keep(run.header.artifact_store, &output.blob);
      if (!kept.ok()) {
        event.failure = Reason::kStoreFailed;
        event.message = std::string(kept.message());
        return event;
      }
    }
  }
  if (stored.ok()) {
    event.outputs = *std::move(stored);
  } else {
    event.failure = ReasonOfFailure(stored.status());
    event.message = std::string(stored.status().message());
  }
  if (!intent.cache_key.empty() && event.failure == Reason::kNone) {
    // Were the files that the key was made of the same at the end?
    const auto inputs = inputs_->Make(run, intent.ref.ix, intent.key, intent.inputs, /*paths=*/false);
    if (inputs.ok()) {
      std::string at_start = intent.cache_key;
      {
        MutexLock lock(&mutex_);
        const auto other = started_.find(intent.key);
        if (other != started_.end()) at_start = other->second;
      }
      auto key = CacheKeyOf(run, intent.ref.ix, *inputs, sources_);
      event.source_changed = !key.ok() || key->key != at_start;
      if (!event.source_changed) {
        event.cache_key = std::move(key->key);
        event.parts_json = std::move(key->parts_json);
      }
    } else {
      event.source_changed = true;
    }
  }
  return event;
}

// Which artifacts the step's `artifact:` inputs are now; fills in their ids.
absl::Status FileWorkshop::FindOutside(const RunContext& run, StepIx ix, std::vector<std::vector<ArtifactId>>* ids,
                                       StepResolved* event) {
  const std::vector<InputSpec>& inputs = run.graph->SpecOf(ix).inputs;
  for (size_t i = 0; i < inputs.size(); ++i) {
    if (inputs[i].source != InputSpec::Source::kArtifact) continue;
    const auto ref = ParseArtifactReference(inputs[i].ref);
    if (!ref) continue;  // refused at submission
    ASSIGN_OR_RETURN(const auto found, queries_->FindLandedArtifact(run.header.project, ref->name, ref->version));
    if (found.deleted) {
      return Error(absl::StatusCode::kFailedPrecondition, "INPUT_MISSING",
                   absl::StrCat("artifact `", inputs[i].ref, "` has been deleted; name another version"));
    }
    if (found.id == 0) {
      event->waits_for = inputs[i].ref;
      return absl::OkStatus();
    }
    event->external.resize(inputs.size());
    event->external[i] = found.id;
    (*ids)[i] = {found.id};
  }
  return absl::OkStatus();
}

// All but the look into the cache, which is made for several at once.
StepResolved FileWorkshop::ResolveOne(const RunContext& run, const Intent& intent) {
  StepResolved step;
  step.run = intent.ref.run;
  step.ix = intent.ref.ix;
  step.generation = intent.generation;
  const auto fail = [&](Reason reason, const absl::Status& why) {
    step.again = IsOfTheMoment(why);
    step.failure = reason;
    step.message = std::string(why.message());
    return std::move(step);
  };
  const auto holds = conditions_->Hold(run, intent.ref.ix, intent.when_values);
  if (!holds.ok()) return fail(Reason::kWhenInvalid, holds.status());
  if (!*holds) {
    step.when_false = true;
    step.message = absl::StrCat("`", run.graph->SpecOf(intent.ref.ix).options().when, "` is false");
    return step;
  }
  std::vector<std::vector<ArtifactId>> ids = intent.inputs;
  const absl::Status found_outside = FindOutside(run, intent.ref.ix, &ids, &step);
  if (!found_outside.ok()) return fail(ReasonOfFailure(found_outside), found_outside);
  if (!step.waits_for.empty()) return step;
  const auto inputs = inputs_->Make(run, intent.ref.ix, intent.key, ids, /*paths=*/false);
  if (!inputs.ok()) return fail(ReasonOfFailure(inputs.status()), inputs.status());
  auto key = CacheKeyOf(run, intent.ref.ix, *inputs, sources_);
  if (!key.ok()) return fail(ReasonOfFailure(key.status()), key.status());
  step.cache_key = std::move(key->key);
  step.parts_json = std::move(key->parts_json);
  return step;
}

StepsResolved FileWorkshop::Resolve(const RunContext& run, const std::vector<Intent>& intents) {
  StepsResolved event;
  event.steps.reserve(intents.size());
  const uint64_t as_of = cache_->version();
  bool any = false;
  for (const Intent& intent : intents) {
    StepResolved& step = event.steps.emplace_back(ResolveOne(run, intent));
    step.as_of = as_of;
    any |= !step.cache_key.empty();
  }
  if (!any) return event;
  const absl::Status status =
      cache_->Read(run.header.project, Clock::Real().Now().wall, [&](CacheLookup::Look look) -> absl::Status {
        for (StepResolved& step : event.steps) {
          if (step.cache_key.empty()) continue;
          CacheLookup::Answer answer = look(run.graph->SpecOf(step.ix), step.cache_key);
          step.hit = answer.hit;
          step.verdict = answer.verdict;
          step.hit_run = std::move(answer.run_name);
          step.outputs = std::move(answer.outputs);
          if (step.hit) step.parts_json.clear();
        }
        return absl::OkStatus();
      });
  if (!status.ok()) {
    Log(LogLevel::kWarning, "cache not asked", {{"run", run.header.name}, {"why", status.message()}});
  }
  return event;
}

FanoutResolved FileWorkshop::ResolveFanout(const RunContext& run, const Intent& intent) {
  FanoutResolved event;
  event.run = intent.ref.run;
  event.generation = intent.generation;
  event.ix = intent.ref.ix;
  const Graph& graph = *run.graph;
  const uint32_t t = graph.TemplateOf(intent.ref.ix);
  const auto fail = [&](const absl::Status& status) {
    event.again = IsOfTheMoment(status);
    event.failure = Reason::kFanoutInvalid;
    event.message = std::string(status.message());
    return event;
  };
  std::vector<std::vector<std::string>> values(intent.lists.size());
  for (size_t k = 0; k < intent.lists.size(); ++k) {
    const std::optional<InputBinding>& list = graph.step(t).lists[k];
    if (!list) continue;
    auto texts = inputs_->Values(intent.lists[k]);
    if (!texts.ok()) return fail(texts.status());
    if (list->fan_in) {  // the values of all instances are the list
      for (std::string& text : *texts) {
        if (!text.empty()) values[k].push_back(std::move(text));
      }
      continue;
    }
    auto split = SplitList(graph.spec().steps[t].foreach[k].from, texts->front());
    if (!split.ok()) return fail(split.status());
    values[k] = *std::move(split);
  }
  auto items = ProductOf(graph, t, values, CompileLimitsOf(options_.limits));
  if (!items.ok()) return fail(items.status());
  auto fanout = LinkFanout(graph, t, std::make_shared<const Items>(*std::move(items)));
  if (!fanout.ok()) return fail(fanout.status());
  event.fanout = *std::move(fanout);
  return event;
}

bool FileWorkshop::IsQuick(const RunContext& run, const Intent& intent) {
  const StepTemplate& step = run.graph->templates()[run.graph->TemplateOf(intent.ref.ix)];
  if (!intent.cache_key.empty()) return false;  // source files are hashed
  if (stores_->Any()) return false;             // bytes may have to be brought from elsewhere
  if (intent.kind == Intent::Kind::kSubmitAttempt) {
    if (step.inputs.size() > kQuickInputs) return false;
    for (const InputBinding& input : step.inputs) {
      if (input.source != InputSpec::Source::kFrom || input.fan_in) return false;
    }
    return true;
  }
  if (intent.kind != Intent::Kind::kStoreOutputs) return false;
  const std::vector<OutputSpec>& outputs = run.graph->SpecOf(intent.ref.ix).outputs;
  if (outputs.size() > kQuickOutputs) return false;
  for (const OutputSpec& output : outputs) {
    struct stat st {};
    const std::string path = absl::StrCat(intent.output_dir, "/", output.name);
    if (lstat(path.c_str(), &st) != 0) continue;  // said soon enough
    if (!S_ISREG(st.st_mode) || st.st_size > std::min(kQuickBytes, options_.limits.inline_blob_bytes)) return false;
  }
  return true;
}

void FileWorkshop::Discard(const std::string& key) {
  inputs_->Remove(key);
  deliveries_->Remove(key);
  MutexLock lock(&mutex_);
  started_.erase(key);
}

}  // namespace orch
