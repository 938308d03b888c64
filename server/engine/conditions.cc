#include "server/engine/conditions.h"

#include <utility>

#include "absl/strings/str_cat.h"
#include "server/base/json.h"
#include "server/model/expression.h"

namespace orch {
namespace {

constexpr size_t kGoodTexts = 10'000;
constexpr size_t kShown = 200;  // bytes of a result in a message

absl::Status Invalid(absl::string_view when, absl::string_view why) {
  return Error(absl::StatusCode::kInvalidArgument, "WHEN_INVALID", absl::StrCat("when: `", when, "`: ", why));
}

bool LooksAtParametersAlone(const ExpressionFacts& facts) {
  if (!facts.only_known_paths) return false;
  for (const ExpressionFacts::Path& path : facts.paths) {
    if (path.head != "params") return false;
  }
  return true;
}

}  // namespace

Conditions::Conditions(const std::string& helper, Inputs* inputs) : inputs_(inputs), checks_(helper), steps_(helper) {}

std::vector<Violation> Conditions::Check(const PipelineSpec& spec, const std::string& parameters_json) {
  std::vector<Violation> out;
  for (size_t t = 0; t < spec.steps.size(); ++t) {
    const std::string& when = spec.steps[t].options().when;
    if (when.empty()) continue;
    const ExpressionFacts facts = ReadExpression(when);
    if (!facts.refused.empty()) continue;
    const auto add = [&](const absl::Status& status) {
      out.push_back({absl::StrCat("steps[", t, "].when"), std::string(status.message()), "WHEN_INVALID"});
    };
    bool known = false;
    {
      MutexLock lock(&mutex_);
      known = good_.count(when) > 0;
    }
    if (!known) {
      const absl::Status compiled = checks_.Compile(when);
      if (!compiled.ok()) {
        add(Invalid(when, compiled.message()));
        continue;
      }
      MutexLock lock(&mutex_);
      if (good_.size() >= kGoodTexts) good_.clear();
      good_.insert(when);
    }
    if (parameters_json.empty() || !LooksAtParametersAlone(facts)) continue;
    const auto holds = Evaluate(&checks_, when, absl::StrCat("{\"params\":", parameters_json, "}"));
    if (!holds.ok()) add(holds.status());
  }
  return out;
}

absl::StatusOr<bool> Conditions::Evaluate(jq::Evaluator* evaluator, const std::string& when, const std::string& input) {
  const auto result = evaluator->Evaluate(when, input);
  if (!result.ok()) return Invalid(when, result.status().message());
  if (*result == "true") return true;
  if (*result == "false") return false;
  const bool cut = result->size() > kShown;
  return Invalid(when, absl::StrCat("it must give true or false and gave ", result->substr(0, kShown), cut ? "…" : ""));
}

absl::StatusOr<std::string> Conditions::InputOf(const RunContext& run, StepIx ix,
                                                const std::vector<ArtifactId>& values) {
  ASSIGN_OR_RETURN(const std::vector<std::string> texts, inputs_->Values(values));
  const Graph& graph = *run.graph;
  std::string out = absl::StrCat("{\"params\":", run.header.parameters_json);
  size_t next = 0;
  for (const WhenSource& source : graph.templates()[graph.TemplateOf(ix)].when_sources) {
    const StepSpec& producer = graph.spec().steps[source.producer];
    const bool list = source.input == WhenSource::kEvery && !producer.foreach.empty();
    absl::StrAppend(&out, ",", JsonQuote(producer.name), ":", list ? "[" : "");
    const auto [first, end] = graph.WhenInstances(ix, source);
    for (uint32_t instance = first; instance < end; ++instance) {
      absl::StrAppend(&out, instance > first ? "," : "", "{");
      bool comma = false;
      for (const OutputSpec& output : producer.outputs) {
        if (!output.value) continue;
        const std::string& text = texts[next++];
        if (text.empty()) continue;  // not there: jq sees null
        absl::StrAppend(&out, comma ? "," : "", JsonQuote(output.name), ":", text);
        comma = true;
      }
      out += "}";
    }
    if (list) out += "]";
  }
  return out + "}";
}

absl::StatusOr<bool> Conditions::Hold(const RunContext& run, StepIx ix, const std::vector<ArtifactId>& values) {
  const std::string& when = run.graph->SpecOf(ix).options().when;
  if (when.empty()) return true;
  ASSIGN_OR_RETURN(const std::string input, InputOf(run, ix, values));  // else it is not the condition's fault
  return Evaluate(&steps_, when, input);
}

}  // namespace orch
