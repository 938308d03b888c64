// What clients ask of runs that exist already.
#include <algorithm>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/fault.h"
#include "server/base/status.h"
#include "server/core/next_generation.h"
#include "server/core/numbering.h"
#include "server/engine/engine_impl.h"
#include "server/engine/parameters.h"
#include "server/engine/render.h"

namespace orch {
namespace {

// What a run has of its pipeline it has of the corrected one, unless its submission had said otherwise.
void TakeOver(const PipelineSpec& before, const CompiledPipeline& pipeline, RunHeader* header) {
  const PipelineSpec& now = pipeline.graph->spec();
  header->pipeline_id = pipeline.row.id;
  header->pipeline_version = pipeline.row.version;
  if (header->timeout_micros == before.timeout_micros) header->timeout_micros = now.timeout_micros;
  if (header->max_parallel == before.max_parallel) header->max_parallel = now.max_parallel;
  if (header->execution_mode == before.execution_mode) header->execution_mode = now.execution_mode;
}

}  // namespace

std::shared_ptr<const void> EngineImpl::Hold(std::string word) {
  return std::make_shared<Reservations::Handle>(reservations_.Hold(std::move(word)));
}

std::shared_ptr<const void> EngineImpl::HoldRequest(const RequestRow& request) {
  if (request.request_id.empty()) return nullptr;
  return Hold(absl::StrCat("request/", request.method, "/", request.project, "/", request.request_id));
}

absl::StatusOr<Asked> EngineImpl::Ask(RequestRow request) {
  Asked out;
  out.hold = HoldRequest(request);
  ASSIGN_OR_RETURN(out.answer, FindAnswer(request));
  out.request = std::move(request);
  return out;
}

void EngineImpl::Remember(Asked asked, std::string answer, Post* post) {
  if (asked.request.request_id.empty()) return;
  asked.request.answer = std::move(answer);
  asked.request.created = Clock::Real().Now().wall;
  if (post->rows == nullptr) post->rows = std::make_unique<Batch>();
  post->rows->requests.push_back(std::move(asked.request));
  post->hold = std::make_shared<std::pair<std::shared_ptr<const void>, std::shared_ptr<const void>>>(
      std::move(post->hold), std::move(asked.hold));
}

absl::Status EngineImpl::PauseRun(RunKey run, Asked asked, int64_t deadline_micros) {
  if (asked.answer.has_value()) return absl::OkStatus();
  Post post;
  post.event = PauseRequested{run};
  Remember(std::move(asked), absl::StrCat(run), &post);
  return PostAndWait(std::move(post), deadline_micros);
}

absl::Status EngineImpl::ResumeRun(RunKey run, Asked asked, int64_t deadline_micros) {
  if (asked.answer.has_value()) return absl::OkStatus();
  Post post;
  post.event = ResumeRequested{run};
  Remember(std::move(asked), absl::StrCat(run), &post);
  return PostAndWait(std::move(post), deadline_micros);
}

absl::Status EngineImpl::SkipSteps(RunKey run, std::vector<StepIx> steps, Asked asked, int64_t deadline_micros) {
  if (asked.answer.has_value()) return absl::OkStatus();
  Post post;
  post.event = SkipRequested{run, std::move(steps)};
  Remember(std::move(asked), absl::StrCat(run), &post);
  return PostAndWait(std::move(post), deadline_micros);
}

void EngineImpl::NoteHeartbeat(const AttemptIdentity& attempt) {
  Post post;
  post.lane = attempt.run;
  post.event = HeartbeatReceived{{attempt.run, attempt.ix, attempt.attempt}};
  post.lazy = true;
  mailbox_.Put(std::move(post));
}

absl::Status EngineImpl::RetryRun(RetryCommand command, Asked asked, int64_t deadline_micros) {
  if (asked.answer.has_value()) return absl::OkStatus();
  RETURN_IF_ERROR(RefuseWhenFull());
  std::shared_ptr<const void> hold = HoldRun(command.run);
  ASSIGN_OR_RETURN(const store::RunRecord record, queries_->GetRun(command.run));
  const std::string& name = record.header.name;
  if (!IsTerminal(record.row.state)) {
    return Error(
        absl::StatusCode::kFailedPrecondition, "RUN_NOT_ENDED",
        absl::StrCat("run `", name, "` is ", Name(record.row.state), "; wait for its end, or cancel-run it first"));
  }
  if (record.row.state == RunState::kSucceeded) {
    return Error(absl::StatusCode::kFailedPrecondition, "RUN_SUCCEEDED",
                 absl::StrCat("run `", name, "` succeeded: there is nothing to retry; submit it anew"));
  }
  RETURN_IF_ERROR(RefuseTooManyRuns());
  ASSIGN_OR_RETURN(store::LiveRun ended, queries_->LoadEndedRun(command.run));
  ASSIGN_OR_RETURN(const auto old_pipeline, catalog_->Load(ended.header.pipeline_id));
  std::shared_ptr<const CompiledPipeline> pipeline = old_pipeline;
  if (command.spec.has_value()) {
    if (command.spec->name != ended.header.pipeline) {
      return Error(absl::StatusCode::kInvalidArgument, "PIPELINE_OTHER",
                   absl::StrCat("run `", name, "` is of pipeline `", ended.header.pipeline, "`, not of `",
                                command.spec->name, "`"));
    }
    ASSIGN_OR_RETURN(pipeline, catalog_->Check(ended.header.project, *std::move(command.spec), command.spec_bytes));
  }
  const PipelineSpec& spec = pipeline->graph->spec();
  ASSIGN_OR_RETURN(const auto before, MakeRunContext(ended.header, old_pipeline->graph));
  std::vector<Violation> violations;
  RETURN_IF_ERROR(CheckAgainstComponents(ended.header.orchestrator, ended.header.artifact_store, spec, &violations));
  std::map<std::string, std::string> given = before->parameters;
  for (auto old = given.begin(); old != given.end();) {  // the corrected pipeline may have dropped some
    const bool known = std::any_of(spec.parameters.begin(), spec.parameters.end(),
                                   [&](const ParameterSpec& p) { return p.name == old->first; });
    old = known ? std::next(old) : given.erase(old);
  }
  for (const auto& [parameter, json] : command.parameters_json) given[parameter] = json;
  FilledParameters filled = FillParameters(spec, given, false);
  violations.insert(violations.end(), filled.violations.begin(), filled.violations.end());
  const std::vector<Violation> conditions = conditions_->Check(spec, filled.violations.empty() ? filled.json : "");
  violations.insert(violations.end(), conditions.begin(), conditions.end());
  if (!violations.empty()) return PipelineInvalid(spec.name, violations);
  if (pipeline->row.id == 0) {
    ASSIGN_OR_RETURN(pipeline, catalog_->Store(pipeline, command.spec_bytes, Clock::Real().Now().wall));
  }

  ASSIGN_OR_RETURN(const auto graph_before, StoredGraph(old_pipeline->graph, ended.numbering, ended.fanouts));
  NextGeneration next;
  next.graph = graph_before;
  if (pipeline != old_pipeline) {
    ASSIGN_OR_RETURN(next, GoOnWith(command.run, *graph_before, *old_pipeline->graph, ended.header.numbering > 0,
                                    ended.fanouts, pipeline->graph));
    if (next.graph->step_count() > options_.limits.steps_per_run) {
      return Error(
          absl::StatusCode::kInvalidArgument, "STEPS_PER_RUN",
          absl::StrCat("run `", name, "` would have ", next.graph->step_count(),
                       " steps, with those that the corrected pipeline does not have any more; at most ",
                       options_.limits.steps_per_run, " are allowed (limit steps_per_run): submit it as a new run"));
    }
  }
  RunRetried event;
  event.unsuccessful = command.steps.empty();
  event.steps = std::move(command.steps);
  event.run.header = std::move(ended.header);
  event.run.header.parameters_json = std::move(filled.json);
  if (command.use_cache.has_value()) event.run.header.use_cache = *command.use_cache;
  if (pipeline != old_pipeline) TakeOver(old_pipeline->graph->spec(), *pipeline, &event.run.header);
  Post post;
  event.run.header.step_count = next.graph->step_count();
  ASSIGN_OR_RETURN(post.run, MakeRunContext(event.run.header, next.graph, ended.row.generation + 1));
  std::set<std::string> changed;
  for (const auto& [parameter, json] : post.run->parameters) {
    const auto old = before->parameters.find(parameter);
    if (old == before->parameters.end() || old->second != json) changed.insert(parameter);
  }
  const auto touched = [&changed](const StepSpec& step) { return !changed.empty() && UsesParameter(step, changed); };
  for (const StepIx ix : ChangedSteps(*graph_before, *next.graph, touched)) event.steps.push_back(ix);
  event.numbering = std::move(next.numbering);
  event.fanouts = std::move(next.fanouts);
  event.run.row = std::move(ended.row);
  event.run.graph = std::move(next.graph);
  event.run.steps = std::move(ended.steps);
  event.run.artifacts = std::move(ended.artifacts);
  post.event = std::move(event);
  post.hold = std::move(hold);
  Remember(std::move(asked), absl::StrCat(command.run), &post);
  RETURN_IF_ERROR(PostAndWait(std::move(post), deadline_micros));
  ORCH_FAULT("retry.committed");
  return absl::OkStatus();
}

absl::StatusOr<std::optional<std::string>> EngineImpl::FindAnswer(const RequestRow& request) {
  if (request.request_id.empty()) return std::optional<std::string>();
  ASSIGN_OR_RETURN(const std::optional<RequestRow> known,
                   queries_->FindRequest(request.method, request.project, request.request_id));
  if (!known.has_value()) return std::optional<std::string>();
  if (known->fingerprint == request.fingerprint) return std::optional<std::string>(known->answer);
  return Error(absl::StatusCode::kInvalidArgument, "REQUEST_ID_REUSED",
               absl::StrCat("request_id `", request.request_id, "` was used for another ", request.method));
}

absl::Status EngineImpl::CancelRun(RunKey run, std::vector<StepIx> steps, bool force, Asked asked,
                                   int64_t deadline_micros) {
  if (asked.answer.has_value()) return absl::OkStatus();
  Post post;
  post.event = CancelRequested{run, std::move(steps), force};
  Remember(std::move(asked), absl::StrCat(run), &post);
  return PostAndWait(std::move(post), deadline_micros);
}

absl::Status EngineImpl::DeleteRuns(std::vector<RunKey> runs, Asked asked, int64_t deadline_micros) {
  if (asked.answer.has_value()) return absl::OkStatus();
  // In one order, so that two callers do not wait for each other.
  std::sort(runs.begin(), runs.end());
  runs.erase(std::unique(runs.begin(), runs.end()), runs.end());
  auto holds = std::make_shared<std::vector<std::shared_ptr<const void>>>();
  for (const RunKey run : runs) holds->push_back(HoldRun(run));
  Post post;
  RunsDeleted event;
  for (const RunKey run : runs) {
    const auto record = queries_->GetRun(run);
    if (record.status().code() == absl::StatusCode::kNotFound) continue;
    RETURN_IF_ERROR(record.status());
    event.runs.push_back({run, record->header.id, record->header.name, record->header.pipeline,
                          record->row.last_sequence, /*deleted=*/0});
  }
  if (event.runs.empty()) return absl::OkStatus();
  post.event = std::move(event);
  post.hold = std::move(holds);
  Remember(std::move(asked), "", &post);
  RETURN_IF_ERROR(PostAndWait(std::move(post), deadline_micros));
  ORCH_FAULT("delete.committed");
  cleaner_->Wake();
  return absl::OkStatus();
}

absl::Status EngineImpl::Remove(Removals removals) {
  Post post;
  if (!removals.cache_entries.empty()) {  // who was told of one of them asks again
    CacheEntriesRemoved event;
    event.rows_go_with_it = true;
    for (const Removals::CacheEntry& entry : removals.cache_entries) event.keys.push_back(entry.key);
    post.event = std::move(event);
  }
  post.rows = std::make_unique<Batch>();
  post.rows->removals = std::move(removals);
  RETURN_IF_ERROR(PostAndWait(std::move(post), kPruneMicros));
  cleaner_->Wake();
  return absl::OkStatus();
}

absl::StatusOr<std::vector<PruneGroup>> EngineImpl::Prune(const Retention& rules, bool apply) {
  return pruner_->Prune(rules, apply, Clock::Real().Now().wall);
}

}  // namespace orch
