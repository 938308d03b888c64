#include "server/rpc/convert_rows.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/digest.h"
#include "server/rpc/urls.h"
#include "server/rpc/values.h"

namespace orch::rpc {
namespace {

template <typename Row, typename Message>
void SetExit(const Row& row, Message* out) {
  if (row.exit_code) out->set_exit_code(*row.exit_code);
  if (row.signal) out->set_signal(*row.signal);
}

// What cannot be shown as it is (nested too deep) is shown as its text.
void SetValue(absl::string_view json, google::protobuf::Value* out) {
  if (!FromJson(json, out).ok()) out->set_string_value(std::string(json));
}

void SetValues(absl::string_view json, google::protobuf::Map<std::string, google::protobuf::Value>* out) {
  google::protobuf::Struct object;
  if (json.empty() || !FromJson(json, &object).ok()) return;
  for (auto& [key, value] : *object.mutable_fields()) (*out)[key].Swap(&value);
}

}  // namespace

google::protobuf::Timestamp ToTimestamp(int64_t wall_micros) {
  google::protobuf::Timestamp out;
  int64_t seconds = wall_micros / 1'000'000;
  int64_t micros = wall_micros % 1'000'000;
  if (micros < 0) {
    micros += 1'000'000;
    --seconds;
  }
  out.set_seconds(seconds);
  out.set_nanos(static_cast<int32_t>(micros * 1000));
  return out;
}

v1::Run ToRun(const store::RunRecord& record, absl::string_view pages) {
  const RunHeader& header = record.header;
  const RunRow& row = record.row;
  v1::Run out;
  out.set_name(header.name);
  out.set_id(header.id);
  out.set_project(header.project);
  out.set_state(static_cast<v1::Run::State>(row.state));
  out.set_reason(static_cast<v1::Reason::Code>(row.reason));
  out.set_message(row.message);
  auto& metadata = *out.mutable_run_metadata();
  metadata["orchestrator_run_id"] = header.id;
  if (!pages.empty()) {
    metadata["orchestrator_url"] = RunUrl(pages, header.id);
    metadata["orchestrator_logs_url"] = RunLogsUrl(pages, header.id);
  }
  out.set_pipeline(header.pipeline);
  out.set_pipeline_version(header.pipeline_version);
  out.set_orchestrator(header.orchestrator);
  out.set_stack(header.stack);
  out.set_artifact_store(header.artifact_store);
  SetValues(header.parameters_json, out.mutable_parameters());
  for (const auto& [key, value] : header.labels) (*out.mutable_labels())[key] = value;
  out.set_execution_mode(static_cast<v1::Pipeline::ExecutionMode>(header.execution_mode));
  out.set_generation(row.generation);
  if (header.created != 0) *out.mutable_create_time() = ToTimestamp(header.created);
  if (row.started != 0) *out.mutable_start_time() = ToTimestamp(row.started);
  if (row.ended != 0) *out.mutable_end_time() = ToTimestamp(row.ended);
  int64_t total = 0;
  for (int state = 1; state < kStepStateCount; ++state) {
    total += row.counts[static_cast<size_t>(state)];
    const int64_t count = row.counts[static_cast<size_t>(state)];
    if (count > 0) (*out.mutable_step_counts())[std::string(Name(static_cast<StepState>(state)))] = count;
  }
  out.set_step_count(std::max(header.step_count, total));  // fan-outs made at run time add to it
  out.set_version(row.version);
  out.set_priority(header.priority);
  out.set_last_sequence(row.last_sequence);
  out.set_max_parallel(header.max_parallel);
  return out;
}

v1::Run::Generation ToGeneration(const GenerationRow& row) {
  v1::Run::Generation out;
  out.set_number(row.generation);
  out.set_pipeline_version(row.pipeline_version);
  SetValues(row.parameters_json, out.mutable_parameters());
  out.set_state(static_cast<v1::Run::State>(row.state));
  out.set_reason(static_cast<v1::Reason::Code>(row.reason));
  out.set_message(row.message);
  if (row.started != 0) *out.mutable_start_time() = ToTimestamp(row.started);
  if (row.ended != 0) *out.mutable_end_time() = ToTimestamp(row.ended);
  return out;
}

v1::Step ToWaitingStep(const store::RunRecord& run, const Graph& graph, StepIx ix) {
  v1::Step out;
  out.set_run(run.header.name);
  out.set_index(ix);
  out.set_state(v1::Step::WAITING);
  if (!IsTerminal(run.row.state)) out.set_reason(v1::Reason::WAITING_FOR_INPUTS);
  out.set_orchestrator(run.header.orchestrator);
  if (ix >= graph.step_count()) return out;
  out.set_name(graph.StepName(ix));
  const StepSpec& spec = graph.SpecOf(ix);
  out.set_template_name(spec.name);
  SetItem(graph, ix, &out);
  if (!spec.options().orchestrator.empty()) out.set_orchestrator(spec.options().orchestrator);
  return out;
}

v1::Step ToStep(const store::RunRecord& run, const Graph& graph, const StepRow& row) {
  v1::Step out = ToWaitingStep(run, graph, row.ix);
  if (!row.name.empty()) out.set_name(row.name);
  out.set_state(static_cast<v1::Step::State>(row.state));
  if (row.state != StepState::kWaiting) out.set_reason(static_cast<v1::Reason::Code>(row.reason));
  if (row.state == StepState::kReady && run.row.state == RunState::kPaused) out.set_reason(v1::Reason::RUN_PAUSED);
  out.set_message(row.message);
  out.set_attempt(static_cast<int32_t>(row.attempt));
  SetExit(row, &out);
  if (!row.orchestrator.empty()) out.set_orchestrator(row.orchestrator);
  if (row.ready != 0) *out.mutable_ready_time() = ToTimestamp(row.ready);
  if (row.started != 0) *out.mutable_start_time() = ToTimestamp(row.started);
  if (row.ended != 0) *out.mutable_end_time() = ToTimestamp(row.ended);
  if (row.state == StepState::kBackoff && row.retry_at != 0) *out.mutable_retry_time() = ToTimestamp(row.retry_at);
  out.set_cached_from(row.cached_from);
  return out;
}

v1::Attempt ToAttempt(const AttemptRow& row) {
  v1::Attempt out;
  out.set_number(static_cast<int32_t>(row.number));
  out.set_state(static_cast<v1::Attempt::State>(row.state));
  out.set_reason(static_cast<v1::Reason::Code>(row.reason));
  out.set_message(row.message);
  SetExit(row, &out);
  out.set_key(row.key);
  out.set_external_id(row.external_id);
  out.set_url(row.url);
  out.set_orchestrator(row.orchestrator);
  if (row.created != 0) *out.mutable_create_time() = ToTimestamp(row.created);
  if (row.started != 0) *out.mutable_start_time() = ToTimestamp(row.started);
  if (row.ended != 0) *out.mutable_end_time() = ToTimestamp(row.ended);
  out.set_cpu_seconds(row.cpu_seconds);
  out.set_peak_memory(row.peak_memory);
  out.set_stdout_bytes(row.stdout_bytes);
  out.set_stderr_bytes(row.stderr_bytes);
  out.set_node(row.node);
  return out;
}

v1::HookRun ToHookRun(const HookRow& row) {
  v1::HookRun out;
  out.set_id(row.id);
  out.set_event(row.on_failure ? "on_failure" : "on_success");
  out.set_generation(row.generation);
  out.set_state(static_cast<v1::HookRun::State>(row.state));
  out.set_message(row.result);
  SetExit(row, &out);
  out.set_tries(static_cast<int32_t>(row.tries));
  if (row.created != 0) *out.mutable_create_time() = ToTimestamp(row.created);
  if (row.started != 0) *out.mutable_start_time() = ToTimestamp(row.started);
  if (row.ended != 0) *out.mutable_end_time() = ToTimestamp(row.ended);
  return out;
}

std::string ArtifactName(ArtifactId id) { return absl::StrCat("art-", id); }

v1::Artifact ToArtifact(const store::ArtifactRecord& record) {
  const ArtifactRow& row = record.row;
  v1::Artifact out;
  out.set_id(ArtifactName(row.id));
  out.set_project(row.project);
  out.set_name(row.name);
  out.set_version(row.version);
  out.set_type(row.type);
  if (!row.digest.empty()) out.set_digest(absl::StrCat("sha256:", Hex(row.digest)));
  out.set_size(row.size);
  if (row.value_json) SetValue(*row.value_json, out.mutable_value());
  out.set_run(record.run_name);
  out.set_run_id(record.run_id);
  out.set_step(record.step_name);
  out.set_attempt(static_cast<int32_t>(row.attempt));
  out.set_output(row.output);
  out.set_early(row.early);
  if (row.created != 0) *out.mutable_create_time() = ToTimestamp(row.created);
  SetValues(row.metadata_json, out.mutable_metadata());
  return out;
}

v1::PipelineVersion ToPipelineVersion(const PipelineRow& row) {
  v1::PipelineVersion out;
  out.set_name(row.name);
  out.set_project(row.project);
  out.set_version(row.version);
  out.set_digest(Hex(row.digest));
  if (row.created != 0) *out.mutable_create_time() = ToTimestamp(row.created);
  out.set_step_count(static_cast<int32_t>(row.step_count));
  return out;
}

v1::Orchestrator ToOrchestrator(const OrchestratorRow& row, const Capacity& capacity) {
  v1::Orchestrator out;
  out.set_name(row.name);
  out.set_project(row.project);
  out.set_flavor(row.flavor);
  if (!row.config_json.empty()) (void)FromJson(row.config_json, out.mutable_config());  // was JSON when it was stored
  if (row.created != 0) *out.mutable_create_time() = ToTimestamp(row.created);
  if (row.updated != 0) *out.mutable_update_time() = ToTimestamp(row.updated);
  out.set_version(row.version);
  out.set_max_parallel(row.max_parallel);
  out.set_max_rate(static_cast<double>(row.rate_milli) / 1000);
  v1::Resources offered;
  if (capacity.cpu_millis) offered.set_cpu(static_cast<double>(*capacity.cpu_millis) / 1000);
  if (capacity.memory) offered.set_memory(*capacity.memory);
  if (capacity.gpu) offered.mutable_gpu()->set_count(static_cast<int32_t>(*capacity.gpu));
  if (!capacity.gpu_kind.empty()) offered.mutable_gpu()->set_kind(capacity.gpu_kind);
  for (const auto& [name, count] : capacity.custom) (*offered.mutable_custom())[name] = count;
  if (offered.ByteSizeLong() > 0) *out.mutable_capacity() = std::move(offered);
  return out;
}

v1::Pool ToPool(const PoolRow& row, int64_t used) {
  v1::Pool out;
  out.set_name(row.name);
  out.set_slots(static_cast<int32_t>(row.slots));
  out.set_description(row.description);
  out.set_used(static_cast<int32_t>(used));
  return out;
}

v1::Secret ToSecret(const SecretRow& row) {
  v1::Secret out;
  out.set_name(row.name);
  out.set_project(row.project);
  *out.mutable_create_time() = ToTimestamp(row.created);
  *out.mutable_update_time() = ToTimestamp(row.updated);
  out.set_version(row.version);
  out.set_binary(!row.text);
  return out;
}

v1::OrchestratorHealth ToHealth(const OrchestratorHealth& health) {
  v1::OrchestratorHealth out;
  switch (health.breaker) {
    case Breaker::State::kClosed:
      out.set_state(v1::OrchestratorHealth::HEALTHY);
      break;
    case Breaker::State::kOpen:
      out.set_state(v1::OrchestratorHealth::UNHEALTHY);
      break;
    case Breaker::State::kProbing:
      out.set_state(v1::OrchestratorHealth::PROBING);
      break;
    case Breaker::State::kTrying:
      out.set_state(v1::OrchestratorHealth::TRYING);
      break;
  }
  if (!health.reachable) out.set_state(v1::OrchestratorHealth::UNREACHABLE);
  if (health.since_wall != 0) *out.mutable_since() = ToTimestamp(health.since_wall);
  if (health.retry_wall != 0) *out.mutable_retry_time() = ToTimestamp(health.retry_wall);
  out.set_last_error(health.last_error);
  out.set_failures(health.failures);
  out.set_running(health.running);
  out.set_held(health.held);
  return out;
}

v1::Token ToToken(const ApiTokenRow& row) {
  v1::Token out;
  out.set_name(row.name);
  out.set_scope(static_cast<v1::Token::Scope>(row.scope));
  *out.mutable_create_time() = ToTimestamp(row.created);
  if (row.expires != 0) *out.mutable_expire_time() = ToTimestamp(row.expires);
  if (row.last_used != 0) *out.mutable_last_use_time() = ToTimestamp(row.last_used);
  if (row.revoked != 0) *out.mutable_revoke_time() = ToTimestamp(row.revoked);
  return out;
}

v1::ArtifactStore ToArtifactStore(const ArtifactStoreRow& row) {
  v1::ArtifactStore out;
  out.set_name(row.name);
  out.set_flavor(row.flavor);
  (void)FromJson(row.config_json, out.mutable_config());  // our own text
  *out.mutable_create_time() = ToTimestamp(row.created);
  *out.mutable_update_time() = ToTimestamp(row.updated);
  out.set_version(row.version);
  return out;
}

v1::Stack ToStack(const StackRow& row) {
  v1::Stack out;
  out.set_name(row.name);
  out.set_orchestrator(row.orchestrator);
  out.set_artifact_store(row.artifact_store);
  out.set_image_registry(row.image_registry);
  out.set_is_default(row.is_default);
  return out;
}

v1::Event ToEvent(const EventRow& row, const RunHeader* run, std::string step) {
  v1::Event out;
  out.set_sequence(row.sequence);
  *out.mutable_time() = ToTimestamp(row.time);
  out.set_type(static_cast<v1::Event::Type>(row.type));
  if (row.type == EventType::kRunDeleted) {
    out.set_run(row.message);
    out.set_run_id(row.output);
    return out;
  }
  if (run != nullptr) {
    out.set_run(run->name);
    out.set_run_id(run->id);
  }
  if (row.ix >= 0) {
    out.set_step(std::move(step));
    out.set_step_index(row.ix);
    out.set_attempt(static_cast<int32_t>(row.attempt));
  }
  if (row.type == EventType::kRunStateChanged || row.type == EventType::kRunSubmitted) {
    out.set_run_state(static_cast<v1::Run::State>(row.state));
  } else if (row.type == EventType::kStepStateChanged) {
    out.set_step_state(static_cast<v1::Step::State>(row.state));
  }
  out.set_reason(static_cast<v1::Reason::Code>(row.reason));
  out.set_message(row.message);
  if (row.exit_code) out.set_exit_code(*row.exit_code);
  if (row.artifact != 0) out.set_artifact(ArtifactName(row.artifact));
  out.set_output(row.output);
  return out;
}

}  // namespace orch::rpc
