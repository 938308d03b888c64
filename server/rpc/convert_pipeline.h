// orch.v1.Pipeline to the daemon's own model, with every field checked on the way.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "orch/v1/pipeline.pb.h"
#include "server/engine/engine.h"
#include "server/model/pipeline.h"
#include "server/rpc/checks.h"

namespace orch::rpc {

// Adds what is wrong with single fields to `checks`, with paths from the pipeline (`steps[3].resources.memory`).
// What remains (references, cycles, templates) is core/compile.h's. The result is meant for use only if nothing was
// added.
PipelineSpec ToSpec(const v1::Pipeline& pipeline, const Limits& limits, Checks* checks);

// INVALID_ARGUMENT (PIPELINE_INVALID) with all violations.
absl::StatusOr<PipelineSpec> ToSpec(const v1::Pipeline& pipeline, const Limits& limits = {});

// EngineOptions::parse_spec: from what SerializeSpec made.
absl::StatusOr<PipelineSpec> ParseSpec(const std::string& bytes);

void AddViolations(const std::vector<Violation>& from, google::protobuf::RepeatedPtrField<v1::Violation>* to);

// The same bytes for the same pipeline: the digest is of these.
std::string SerializeDeterministic(const google::protobuf::MessageLite& message);

}  // namespace orch::rpc
