// Compile on pipelines drawn from the input: few names, so that references meet, in every form they have.
#include <fuzzer/FuzzedDataProvider.h>

#include "tests/fuzz/graph_check.h"

namespace orch {
namespace {

constexpr const char* kSteps[] = {"a", "b", "c", "d", "e", "f", "a-b", "A"};
constexpr const char* kPorts[] = {"x", "y", "z", "x-y", "x_y"};
constexpr const char* kKeys[] = {"k", "l", "m"};
constexpr const char* kValues[] = {"1", "2", "\"a\"", "null", "[1]"};

template <size_t N>
std::string Pick(FuzzedDataProvider& in, const char* const (&words)[N]) {
  return words[in.ConsumeIntegralInRange<size_t>(0, N - 1)];
}

std::string Reference(FuzzedDataProvider& in) {
  constexpr const char* kSelectors[] = {"", "[*]", "[item]", "[0]", "[1]", "[7]", "[x]", "["};
  return Pick(in, kSteps) + Pick(in, kSelectors) + "." + Pick(in, kPorts);
}

std::string Template(FuzzedDataProvider& in) {
  constexpr const char* kWords[] = {"plain", "${attempt}", "${run.name}", "${step.name}", "${", "$$", "${HOME}"};
  constexpr const char* kScopes[] = {"params", "inputs", "outputs", "item", "values", "run"};
  if (in.ConsumeBool()) return Pick(in, kWords);
  return "${" + Pick(in, kScopes) + "." + (in.ConsumeBool() ? Pick(in, kPorts) : Pick(in, kKeys)) + "}";
}

StepSpec Step(FuzzedDataProvider& in) {
  StepSpec step;
  step.name = Pick(in, kSteps);
  const auto some = [&in](size_t most) { return in.ConsumeIntegralInRange<size_t>(0, most); };
  for (size_t n = 1 + some(2); n > 0; --n) step.command.push_back(Template(in));
  for (size_t n = some(3); n > 0; --n) {
    const auto source = static_cast<InputSpec::Source>(in.ConsumeIntegralInRange<int>(0, 9) / 4);
    const std::string ref = source == InputSpec::Source::kUri ? "file:///x" : Reference(in);
    step.inputs.push_back({Pick(in, kPorts), source, ref, in.ConsumeBool()});
  }
  for (size_t n = some(3); n > 0; --n) step.outputs.push_back({Pick(in, kPorts), "", in.ConsumeBool(), ""});
  for (size_t n = some(2); n > 0; --n) step.after.push_back(Pick(in, kSteps));
  for (size_t n = some(2); n > 0; --n) {
    ForeachKey key;
    key.key = Pick(in, kKeys);
    if (in.ConsumeIntegralInRange<int>(0, 7) == 0) {
      key.from = Reference(in);
    } else {
      for (size_t v = some(6); v > 0; --v) key.values_json.push_back(Pick(in, kValues));
    }
    step.foreach.push_back(std::move(key));
  }
  if (in.ConsumeBool()) {
    StepOptions& options = step.mutable_options();
    options.cache_enabled = in.ConsumeBool();
    if (in.ConsumeBool()) options.params.push_back(Pick(in, kPorts));
    if (in.ConsumeBool()) options.pools.emplace_back("p", in.ConsumeIntegralInRange<int>(1, 3));
    if (in.ConsumeBool()) options.working_dir = Template(in);
    options.resources.cpu_millis = in.ConsumeIntegralInRange<int>(0, 3);
  }
  return step;
}

}  // namespace
}  // namespace orch

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  orch::CompileLimits limits;
  limits.steps_per_run = 100;
  limits.fanout_width = 20;
  const auto make = [&] {
    FuzzedDataProvider in(data, size);
    orch::PipelineSpec spec;
    spec.name = "p";
    spec.parameters.push_back({"x", orch::ParameterType::kString, "\"\""});
    for (int n = in.ConsumeIntegralInRange<int>(0, 8); n > 0 && in.remaining_bytes() > 0; --n) {
      spec.steps.push_back(orch::Step(in));
    }
    return spec;
  };
  const orch::Compiled compiled = orch::Compile(make(), limits);
  const orch::Compiled again = orch::Compile(make(), limits);
  REQUIRE((compiled.graph != nullptr) == compiled.violations.empty());
  REQUIRE(compiled.violations.size() == again.violations.size());
  if (compiled.graph == nullptr) return 0;
  orch::fuzz::CheckGraph(*compiled.graph, limits);
  REQUIRE(orch::fuzz::Describe(*compiled.graph) == orch::fuzz::Describe(*again.graph));
  return 0;
}
