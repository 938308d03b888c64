#include "server/core/condition.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "server/core/compile.h"
#include "server/model/expression.h"

namespace orch {
namespace {

using Sources = std::map<std::string, WhenSource>;

Sources SourcesOf(const StepSpec& step, const std::vector<InputBinding>& inputs,
                  const std::map<std::string, uint32_t>& by_name) {
  Sources sources;
  for (uint32_t i = 0; i < step.inputs.size() && i < inputs.size(); ++i) {
    const auto ref = ParseStepReference(step.inputs[i].ref);
    if (inputs[i].source != InputSpec::Source::kFrom || !ref || by_name.count(ref->step) == 0) continue;
    const uint32_t chosen = inputs[i].kind == EdgeKind::kAll ? WhenSource::kEvery : i;
    const auto [it, fresh] = sources.emplace(ref->step, WhenSource{by_name.at(ref->step), chosen});
    if (!fresh && it->second.input != chosen) it->second.input = WhenSource::kEvery;
  }
  for (const std::string& name : step.after) {
    if (by_name.count(name) > 0) sources[name] = {by_name.at(name), WhenSource::kEvery};
  }
  return sources;
}

class Checker {
 public:
  Checker(const PipelineSpec& spec, uint32_t t, const Sources& sources, const std::map<std::string, uint32_t>& by_name)
      : spec_(spec), field_(absl::StrCat("steps[", t, "].when")), sources_(sources), by_name_(by_name) {}

  std::vector<Violation> Check(const ExpressionFacts& facts) {
    for (const std::string& word : facts.refused) {
      Add("WHEN_INVALID",
          absl::StrCat("`", word, "` is not allowed: a condition depends on parameters and values alone"));
    }
    for (const ExpressionFacts::Path& path : facts.paths) {
      if (path.head == "params") {
        CheckParameter(path.field);
      } else {
        CheckStep(path);
      }
    }
    return std::move(violations_);
  }

 private:
  void Add(absl::string_view reason, std::string description) {
    violations_.push_back({field_, std::move(description), std::string(reason)});
  }

  void CheckParameter(const std::string& name) {
    const auto named = [&](const ParameterSpec& p) { return p.name == name; };
    if (name.empty() || std::any_of(spec_.parameters.begin(), spec_.parameters.end(), named)) return;
    Add("UNKNOWN_REFERENCE", absl::StrCat("the pipeline has no parameter `", name, "`"));
  }

  void CheckStep(const ExpressionFacts::Path& path) {
    const auto source = sources_.find(path.head);
    if (source == sources_.end()) {
      std::vector<std::string> names = {"params"};
      for (const auto& [name, unused] : sources_) names.push_back(name);
      Add("UNKNOWN_REFERENCE",
          absl::StrCat("`.", path.head, "` is not among what this condition sees: ", absl::StrJoin(names, ", "),
                       by_name_.count(path.head) > 0 ? "; name the step in `inputs` or `after`" : ""));
      return;
    }
    if (path.field.empty()) return;
    const StepSpec& producer = spec_.steps[source->second.producer];
    if (source->second.input == WhenSource::kEvery && !producer.foreach.empty()) {
      Add("WRONG_TYPE", absl::StrCat("`.", path.head, "` is a fan-out, so a list here: write `.", path.head, "[0].",
                                     path.field, "` or `[.", path.head, "[].", path.field, "]`"));
      return;
    }
    std::vector<std::string> values;
    for (const OutputSpec& output : producer.outputs) {
      if (output.value) values.push_back(output.name);
    }
    if (std::find(values.begin(), values.end(), path.field) != values.end()) return;
    Add("UNKNOWN_REFERENCE",
        absl::StrCat("step `", path.head, "` has no output `", path.field, "` with `value: true`; it has ",
                     values.empty() ? "none" : absl::StrJoin(values, ", ")));
  }

  const PipelineSpec& spec_;
  const std::string field_;
  const Sources& sources_;
  const std::map<std::string, uint32_t>& by_name_;
  std::vector<Violation> violations_;
};

}  // namespace

Condition CheckCondition(const PipelineSpec& spec, uint32_t t, const std::vector<InputBinding>& inputs,
                         const std::map<std::string, uint32_t>& by_name) {
  const Sources sources = SourcesOf(spec.steps[t], inputs, by_name);
  Condition condition;
  for (const auto& [name, source] : sources) condition.sources.push_back(source);
  condition.violations = Checker(spec, t, sources, by_name).Check(ReadExpression(spec.steps[t].options().when));
  return condition;
}

}  // namespace orch
