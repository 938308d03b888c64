// The numbers of a run's steps as they are stored: what is read is written the same, and what its pipeline cannot have
// is refused.
#include "server/core/numbering.h"

#include "server/core/compile.h"
#include "tests/fuzz/fuzz.h"

namespace {

std::shared_ptr<const orch::Graph> Pipeline() {
  orch::PipelineSpec spec;
  spec.name = "p";
  for (const char* name : {"a", "each", "later"}) {
    orch::StepSpec& step = spec.steps.emplace_back();
    step.name = name;
    step.command = {"true"};
  }
  orch::OutputSpec& list = spec.steps[0].outputs.emplace_back();
  list.name = "xs";
  list.value = true;
  spec.steps[1].foreach.push_back({"k", {"1", "2"}, ""});
  spec.steps[2].foreach.push_back({"k", {}, "a.xs"});
  return orch::Compile(std::move(spec), {}).graph;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto* const pipeline = new std::shared_ptr<const orch::Graph>(Pipeline());
  const auto view = orch::fuzz::View(data, size);
  orch::Numbering numbering;
  if (!orch::DecodeNumbering({view.data(), view.size()}, &numbering)) return 0;
  REQUIRE(orch::EncodeNumbering(numbering) == view);
  const auto graph = orch::WithNumbering(**pipeline, numbering);
  if (!graph.ok()) return 0;
  REQUIRE((*graph)->step_count() >= (*pipeline)->step_count());
  for (orch::StepIx ix = 0; ix < (*graph)->step_count() && ix < 1000; ++ix) {
    const orch::StepTemplate& step = (*graph)->step((*graph)->TemplateOf(ix));
    REQUIRE(step.group == ix || step.at(step.InstanceOf(ix)) == ix);
    (void)(*graph)->StepName(ix);
    (void)(*graph)->ItemJson(ix);
  }
  REQUIRE(orch::EncodeNumbering(orch::Renumber(**graph, **pipeline)) != "");
  return 0;
}
