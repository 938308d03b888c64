// From a pipeline's text to the graph of its runs, as submit goes: the faults are the same each time, what was accepted
// is accepted again from its stored bytes and gives the same graph.
#include "client/spec/parse.h"
#include "server/rpc/convert_pipeline.h"
#include "tests/fuzz/graph_check.h"

namespace orch {
namespace {

constexpr spec::ParseLimits kText{1 << 16, 64, 20'000, 5'000};

std::string Describe(const std::vector<Violation>& violations) {
  std::string out;
  for (const Violation& v : violations) out += v.field + "|" + v.reason + "|" + v.description + "\n";
  return out;
}

void Check(absl::string_view text) {
  const spec::ParsedPipeline parsed = spec::ParsePipeline(text, kText);
  if (!parsed.problems.empty()) return;
  Limits limits;
  limits.steps_per_run = 2000;
  limits.fanout_width = 500;
  CompileLimits small;
  small.steps_per_run = limits.steps_per_run;
  small.fanout_width = limits.fanout_width;
  rpc::Checks checks;
  PipelineSpec spec = rpc::ToSpec(parsed.pipeline, limits, &checks);
  for (const Violation& v : checks.violations()) {
    REQUIRE(!v.reason.empty() && !v.description.empty());
    (void)parsed.map.Find(v.field);
  }
  if (!checks.ok()) return;
  const Compiled compiled = Compile(std::move(spec), small);
  REQUIRE((compiled.graph != nullptr) == compiled.violations.empty());
  for (const Violation& v : compiled.violations) {
    REQUIRE(!v.reason.empty() && !v.description.empty());
    REQUIRE(parsed.map.Find(v.field).line > 0);
  }
  const std::string bytes = rpc::SerializeDeterministic(parsed.pipeline);
  absl::StatusOr<PipelineSpec> stored = rpc::ParseSpec(bytes);
  REQUIRE(stored.ok());
  const Compiled again = Compile(*std::move(stored), small);
  REQUIRE(Describe(again.violations) == Describe(compiled.violations));
  if (compiled.graph == nullptr) return;
  fuzz::CheckGraph(*compiled.graph, small);
  REQUIRE(fuzz::Describe(*again.graph) == fuzz::Describe(*compiled.graph));
}

}  // namespace
}  // namespace orch

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = orch::fuzz::View(data, size);
  orch::Check({text.data(), text.size()});
  return 0;
}
