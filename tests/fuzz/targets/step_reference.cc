// `step.output`, `step[*].output` and so on: what is read and written again is read the same. Also the names of steps
// in calls (`train[2]`), against a small graph.
#include "server/core/compile.h"
#include "tests/fuzz/fuzz.h"

namespace orch {
namespace {

std::string Write(const StepReference& ref) {
  std::string out = ref.step;
  switch (ref.selector) {
    case StepReference::Selector::kPlain:
      break;
    case StepReference::Selector::kAll:
      out += "[*]";
      break;
    case StepReference::Selector::kItem:
      out += "[item]";
      break;
    case StepReference::Selector::kIndex:
      out += "[" + std::to_string(ref.index) + "]";
      break;
  }
  return out + "." + ref.output;
}

const Graph& Small() {
  static const auto* const kGraph = [] {
    PipelineSpec spec;
    spec.name = "p";
    spec.steps.resize(3);
    spec.steps[0].name = "one";
    spec.steps[1].name = "train";
    spec.steps[1].foreach.push_back({"m", {"1", "\"a\"", "null"}, ""});
    spec.steps[2].name = "none";
    spec.steps[2].foreach.push_back({"m", {}, ""});
    for (StepSpec& step : spec.steps) step.command = {"x"};
    Compiled compiled = Compile(std::move(spec), {});
    REQUIRE(compiled.graph != nullptr);
    return new std::shared_ptr<const Graph>(compiled.graph);
  }();
  return **kGraph;
}

}  // namespace
}  // namespace orch

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input = orch::fuzz::View(data, size);
  const absl::string_view text(input.data(), input.size());
  if (const auto ref = orch::ParseStepReference(text)) {
    REQUIRE(!ref->step.empty() && !ref->output.empty());
    REQUIRE(ref->step.find('[') == std::string::npos);
    const auto again = orch::ParseStepReference(orch::Write(*ref));
    REQUIRE(again && again->step == ref->step && again->output == ref->output);
    REQUIRE(again->selector == ref->selector && again->index == ref->index);
  }
  if (const auto ix = orch::Small().FindStep(text)) {
    REQUIRE(*ix < orch::Small().step_count());
    const auto again = orch::Small().FindStep(orch::Small().StepName(*ix));
    REQUIRE(again == ix);
  }
  for (const char c : orch::VariableName("ORCH_INPUT_", text)) {
    REQUIRE(c == '_' || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9'));
  }
  return 0;
}
