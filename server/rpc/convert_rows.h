// Stored rows as the messages of orch.v1. Pure.
#pragma once

#include <string>

#include "orch/v1/artifact.pb.h"
#include "orch/v1/event.pb.h"
#include "orch/v1/orchestrator.pb.h"
#include "orch/v1/pipeline.pb.h"
#include "orch/v1/run.pb.h"
#include "orch/v1/secret.pb.h"
#include "orch/v1/token.pb.h"
#include "server/engine/engine.h"
#include "server/rpc/values.h"
#include "server/store/queries.h"

namespace orch::rpc {

// Microseconds UTC.
google::protobuf::Timestamp ToTimestamp(int64_t wall_micros);

// `pages`: the base of our own pages without a slash at its end; empty: no URLs.
v1::Run ToRun(const store::RunRecord& record, absl::string_view pages);
// Without outputs, attempts, command and environment.
v1::Step ToStep(const store::RunRecord& run, const Graph& graph, const StepRow& row);
// A step that has no row yet.
v1::Run::Generation ToGeneration(const GenerationRow& row);
// The item of an instance of a fan-out; nothing of other steps.
template <typename Message>
void SetItem(const Graph& graph, StepIx ix, Message* out) {
  // It was JSON when it was stored.
  if (!graph.SpecOf(ix).foreach.empty()) (void)FromJson(graph.ItemJson(ix), out->mutable_item());
}

v1::Step ToWaitingStep(const store::RunRecord& run, const Graph& graph, StepIx ix);
v1::Attempt ToAttempt(const AttemptRow& row);
v1::HookRun ToHookRun(const HookRow& row);
v1::Artifact ToArtifact(const store::ArtifactRecord& record);
v1::PipelineVersion ToPipelineVersion(const PipelineRow& row);
v1::Orchestrator ToOrchestrator(const OrchestratorRow& row, const Capacity& capacity);
v1::OrchestratorHealth ToHealth(const OrchestratorHealth& health);
v1::Pool ToPool(const PoolRow& row, int64_t used);
v1::Stack ToStack(const StackRow& row);
v1::ArtifactStore ToArtifactStore(const ArtifactStoreRow& row);
v1::Secret ToSecret(const SecretRow& row);
v1::Token ToToken(const ApiTokenRow& row);
// `run` may be null: the run is gone. `step` is the step's name; empty for events of the run.
v1::Event ToEvent(const EventRow& row, const RunHeader* run, std::string step);

// `art-12`.
std::string ArtifactName(ArtifactId id);

}  // namespace orch::rpc
