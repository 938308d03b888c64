// A stored pipeline's bytes, and any message a client may send: checked as a submission is, compiled, and described.
#include "server/rpc/convert_pipeline.h"
#include "server/rpc/errors.h"
#include "tests/fuzz/graph_check.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string bytes(orch::fuzz::View(data, size));
  orch::v1::Pipeline pipeline;
  const bool readable = pipeline.ParseFromString(bytes);
  absl::StatusOr<orch::PipelineSpec> stored = orch::rpc::ParseSpec(bytes);
  REQUIRE(readable || !stored.ok());
  if (!readable) return 0;

  orch::Limits limits;
  limits.steps_per_run = 2000;
  limits.fanout_width = 500;
  orch::rpc::Checks checks;
  orch::PipelineSpec spec = orch::rpc::ToSpec(pipeline, limits, &checks);
  REQUIRE(checks.ok() || !orch::rpc::ToRpcStatus(checks.ToStatus("PIPELINE_INVALID", "no")).message().empty());
  if (checks.ok()) REQUIRE(stored.ok());  // what was accepted once can be read for ever
  if (!checks.ok()) return 0;
  const std::string again = orch::rpc::SerializeDeterministic(pipeline);
  orch::v1::Pipeline read;
  REQUIRE(read.ParseFromString(again) && orch::rpc::SerializeDeterministic(read) == again);
  orch::CompileLimits small;
  small.steps_per_run = limits.steps_per_run;
  small.fanout_width = limits.fanout_width;
  const orch::Compiled compiled = orch::Compile(std::move(spec), small);
  const orch::Compiled twice = orch::Compile(*std::move(stored), small);
  REQUIRE((compiled.graph == nullptr) == (twice.graph == nullptr));
  if (compiled.graph == nullptr) return 0;
  orch::fuzz::CheckGraph(*compiled.graph, small);
  REQUIRE(orch::fuzz::Describe(*compiled.graph) == orch::fuzz::Describe(*twice.graph));
  return 0;
}
