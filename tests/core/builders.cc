#include "tests/core/builders.h"

#include <algorithm>

#include "absl/strings/str_split.h"
#include "server/base/check.h"

namespace orch::testing {

PipelineBuilder& PipelineBuilder::Step(std::string name) {
  spec_.steps.emplace_back();
  spec_.steps.back().name = std::move(name);
  spec_.steps.back().command = {"true"};
  return *this;
}
PipelineBuilder& PipelineBuilder::Command(std::vector<std::string> command) {
  step().command = std::move(command);
  return *this;
}
PipelineBuilder& PipelineBuilder::After(std::vector<std::string> steps) {
  for (std::string& name : steps) step().after.push_back(std::move(name));
  return *this;
}
PipelineBuilder& PipelineBuilder::In(std::string name, std::string ref, bool early) {
  InputSpec input{std::move(name), InputSpec::Source::kFrom, std::move(ref), early};
  auto& inputs = step().inputs;
  inputs.insert(std::upper_bound(inputs.begin(), inputs.end(), input,
                                 [](const InputSpec& a, const InputSpec& b) { return a.name < b.name; }),
                std::move(input));
  return *this;
}
PipelineBuilder& PipelineBuilder::Uri(std::string name, std::string uri) {
  step().inputs.push_back({std::move(name), InputSpec::Source::kUri, std::move(uri), false});
  return *this;
}
PipelineBuilder& PipelineBuilder::Artifact(std::string name, std::string ref) {
  step().inputs.push_back({std::move(name), InputSpec::Source::kArtifact, std::move(ref), false});
  return *this;
}
PipelineBuilder& PipelineBuilder::Out(std::string name, bool value) {
  OutputSpec output;
  output.name = std::move(name);
  output.value = value;
  step().outputs.push_back(std::move(output));
  return *this;
}
PipelineBuilder& PipelineBuilder::Foreach(std::string key, std::vector<std::string> values_json) {
  step().foreach.push_back({std::move(key), std::move(values_json), ""});
  return *this;
}
PipelineBuilder& PipelineBuilder::ForeachFrom(std::string key, std::string ref) {
  step().foreach.push_back({std::move(key), {}, std::move(ref)});
  return *this;
}
PipelineBuilder& PipelineBuilder::When(std::string expression) {
  options().when = std::move(expression);
  return *this;
}
PipelineBuilder& PipelineBuilder::Attempts(int max, int64_t initial_micros) {
  options().retry.max_attempts = max;
  options().retry.initial_micros = initial_micros;
  return *this;
}
PipelineBuilder& PipelineBuilder::Rule(TriggerRule rule) {
  options().trigger_rule = rule;
  return *this;
}
PipelineBuilder& PipelineBuilder::Queue(int64_t micros) {
  options().queue_timeout_micros = micros;
  return *this;
}
PipelineBuilder& PipelineBuilder::Run(int64_t micros) {
  options().run_timeout_micros = micros;
  return *this;
}
PipelineBuilder& PipelineBuilder::Cache() {
  options().cache_enabled = true;
  return *this;
}
PipelineBuilder& PipelineBuilder::Pool(std::string name, int64_t slots) {
  options().pools.emplace_back(std::move(name), slots);
  return *this;
}
PipelineBuilder& PipelineBuilder::Cpu(int64_t millis) {
  options().resources.cpu_millis = millis;
  return *this;
}
PipelineBuilder& PipelineBuilder::Priority(int priority) {
  options().priority = priority;
  return *this;
}

Compiled PipelineBuilder::Compile(CompileLimits limits) { return orch::Compile(spec_, limits); }

std::shared_ptr<const orch::Graph> PipelineBuilder::Graph() {
  Compiled compiled = Compile();
  for (const Violation& v : compiled.violations) fprintf(stderr, "%s: %s\n", v.field.c_str(), v.description.c_str());
  CHECK(compiled.graph != nullptr);
  return compiled.graph;
}

PipelineBuilder Dag(absl::string_view text) {
  PipelineBuilder builder;
  const auto find = [&](absl::string_view name) -> StepSpec& {
    auto& steps = builder.spec().steps;
    const auto found =
        std::find_if(steps.begin(), steps.end(), [&](const StepSpec& s) { return s.name == std::string(name); });
    if (found != steps.end()) return *found;
    builder.Step(std::string(name));
    return builder.step();
  };
  for (const absl::string_view part : absl::StrSplit(text, ' ', absl::SkipEmpty())) {
    const std::vector<absl::string_view> sides = absl::StrSplit(part, "->");
    const std::vector<absl::string_view> from = absl::StrSplit(sides[0], ',');
    for (const absl::string_view name : from) find(name);
    if (sides.size() == 1) continue;
    for (const absl::string_view to : absl::StrSplit(sides[1], ',')) {
      for (const absl::string_view name : from) find(to).after.emplace_back(name);
    }
  }
  return builder;
}

}  // namespace orch::testing
