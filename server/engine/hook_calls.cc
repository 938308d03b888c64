// Hooks: how their commands are made, and how what they wrote is read.
#include <filesystem>
#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/clock.h"
#include "server/engine/engine_impl.h"
#include "server/engine/render.h"

namespace orch {
namespace {

// Each try has its own.
std::string LogName(const HookRow& hook) { return absl::StrCat("hook.", hook.id, ".", hook.tries); }

}  // namespace

Rendered FileWorkshop::RenderHook(const HookRow& hook, Backend* backend) {
  const auto failed = [](const absl::Status& why) {
    return Rendered{{}, Reason::kSubmitRefused, std::string(why.message())};
  };
  // The run may have left memory long ago.
  auto record = queries_->GetRun(hook.run);
  if (!record.ok()) return failed(record.status());
  auto graph = graphs_->Load(record->header);
  if (!graph.ok()) return failed(graph.status());
  const auto run = MakeRunContext(std::move(record->header), *std::move(graph));
  if (!run.ok()) return failed(run.status());
  RenderFacts facts;
  facts.run = run->get();
  facts.ix = static_cast<StepIx>(std::max<int64_t>(hook.ix, 0));
  facts.attempt = hook.attempt;
  facts.key = hook.key;
  facts.binary_dir = options_.binary_dir;
  std::vector<ReadyInput> inputs;
  std::map<std::string, std::string> outputs;
  facts.outputs = &outputs;
  facts.inputs = &inputs;
  if (hook.ix >= 0) {
    // The run may have been retried with another pipeline since.
    if (facts.ix >= (*run)->graph->step_count() || !(*run)->graph->Has(facts.ix)) {
      return failed(
          Error(absl::StatusCode::kFailedPrecondition, "HOOK_GONE", "the pipeline has no such step any more"));
    }
    const StepSpec& spec = (*run)->graph->SpecOf(facts.ix);
    inputs.resize(spec.inputs.size());
    if (hook.inputs.size() == spec.inputs.size() + spec.outputs.size()) {
      const auto end = hook.inputs.begin() + static_cast<std::ptrdiff_t>(spec.inputs.size());
      auto made = inputs_->Make(**run, facts.ix, hook.key, {hook.inputs.begin(), end}, /*paths=*/true);
      if (!made.ok()) return failed(made.status());
      inputs = *std::move(made);
      for (size_t o = 0; o < spec.outputs.size(); ++o) {
        const ArtifactId id = hook.inputs[spec.inputs.size() + o].at(0);
        if (id == 0) continue;  // it has not landed
        const auto rows = queries_->GetArtifacts({id});
        if (!rows.ok()) return failed(rows.status());
        const ArtifactRow& row = rows->front();
        const auto path = row.value_json ? blobs_->Materialize(*row.value_json) : blobs_->PathOf(row.digest);
        if (!path.ok()) return failed(path.status());
        outputs[spec.outputs[o].name] = *path;
      }
    }
  }
  AttemptName name;
  name.key = hook.key;
  name.project = (*run)->header.project;
  name.run_id = (*run)->header.id;
  name.run_name = (*run)->header.name;
  name.step = hook.step;
  name.log = LogName(hook);
  const auto workspace = backend->Prepare(name);
  if (!workspace.ok()) return failed(workspace.status());
  facts.workspace = &*workspace;
  auto work = RenderHookWork(facts, hook);
  if (!work.ok()) return failed(work.status());
  work->name = std::move(name);
  work->grace_micros = options_.grace_micros;
  work->log_limit_bytes = options_.limits.log_bytes;
  Rendered out;
  out.unit.key = hook.key;
  out.unit.attempts.push_back(*std::move(work));
  return out;
}

absl::Status EngineImpl::RestoreHooks() {
  ASSIGN_OR_RETURN(const std::vector<HookRow> open, writer_->OpenHooks());
  const Now now = Clock::Real().Now();
  for (const HookRow& row : open) core_->RestoreHook(row, now);
  return absl::OkStatus();
}

absl::Status EngineImpl::AdoptHooks() {
  std::error_code error;
  const std::vector<HookRow> running = core_->RunningHooks();
  // Where hooks ever ran, the supervisor may have ends that were committed and not acknowledged.
  const bool ever = std::filesystem::exists(absl::StrCat(options_.data_dir, "/local/slots/", kHookOrchestrator), error);
  if (running.empty() && !ever) return absl::OkStatus();
  return outbox_->AdoptHooks(running, options_.grace_micros, options_.limits.log_bytes);
}

absl::StatusOr<std::unique_ptr<LogReader>> EngineImpl::OpenHookLog(const store::RunRecord& run, const HookRow& hook,
                                                                   LogStreamName stream) {
  ASSIGN_OR_RETURN(const std::shared_ptr<Backend> backend, outbox_->HookBackend());
  LogAddress address;
  address.run_id = run.header.id;
  address.log = LogName(hook);
  return backend->OpenLog(address, stream);
}

}  // namespace orch
