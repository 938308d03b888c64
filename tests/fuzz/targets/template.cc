// `${…}` templates: what is read and written again is read the same, and in a cache key nothing else can pass for an
// input or output.
#include "server/model/template.h"

#include "server/engine/render.h"
#include "tests/fuzz/fuzz.h"

namespace orch {
namespace {

absl::string_view WordOf(TemplateScope scope) {
  switch (scope) {
    case TemplateScope::kParams:
      return "params";
    case TemplateScope::kInputs:
      return "inputs";
    case TemplateScope::kOutputs:
      return "outputs";
    case TemplateScope::kItem:
      return "item";
    case TemplateScope::kValues:
      return "values";
    case TemplateScope::kRun:
      return "run";
    case TemplateScope::kStep:
      return "step";
    case TemplateScope::kLiteral:
    case TemplateScope::kAttempt:
      break;
  }
  return "";
}

std::string Write(const std::vector<TemplatePiece>& pieces) {
  std::string out;
  for (const TemplatePiece& piece : pieces) {
    if (piece.scope == TemplateScope::kLiteral) {
      for (const char c : piece.text) out += c == '$' ? std::string("$$") : std::string(1, c);
    } else if (piece.scope == TemplateScope::kAttempt) {
      out += "${attempt}";
    } else {
      out += "${" + std::string(WordOf(piece.scope)) + "." + piece.text + "}";
    }
  }
  return out;
}

bool Same(const std::vector<TemplatePiece>& a, const std::vector<TemplatePiece>& b) {
  if (a.size() != b.size()) return false;
  for (size_t i = 0; i < a.size(); ++i) {
    if (a[i].scope != b[i].scope || a[i].text != b[i].text) return false;
  }
  return true;
}

// Inputs and outputs as a cache key names them.
std::vector<TemplatePiece> Paths(const std::vector<TemplatePiece>& pieces) {
  std::vector<TemplatePiece> out;
  for (const TemplatePiece& piece : pieces) {
    if (piece.scope == TemplateScope::kInputs || piece.scope == TemplateScope::kOutputs) out.push_back(piece);
  }
  return out;
}

void Check(const std::string& text) {
  const auto pieces = ParseTemplate(text);
  if (!pieces.ok()) return;
  for (size_t i = 1; i < pieces->size(); ++i) {
    REQUIRE((*pieces)[i].scope != TemplateScope::kLiteral || (*pieces)[i - 1].scope != TemplateScope::kLiteral);
  }
  const auto again = ParseTemplate(Write(*pieces));
  REQUIRE(again.ok() && Same(*again, *pieces));
  if (text.find('$') == std::string::npos && !text.empty()) {
    REQUIRE(pieces->size() == 1 && (*pieces)[0].text == text);
  }

  PipelineSpec spec;
  spec.name = "p";
  StepSpec& step = spec.steps.emplace_back();
  step.name = "s";
  std::vector<StepTemplate> templates(1);
  RunContext run;
  run.graph = std::make_shared<Graph>(std::move(spec), std::move(templates));
  run.header.name = "${inputs.a}";
  run.parameters = {{"a", "\"${inputs.a} $$\""}, {"b", "1"}};
  const std::vector<ReadyInput> inputs;
  RenderFacts facts;
  facts.run = &run;
  facts.inputs = &inputs;
  Workspace workspace;
  workspace.output_dir = "/out";
  facts.workspace = &workspace;
  REQUIRE(Expand(text, {&facts, false}).ok());
  const auto key = Expand(text, {&facts, true});
  REQUIRE(key.ok());
  const auto kept = ParseTemplate(*key);
  REQUIRE(kept.ok() && Same(Paths(*kept), Paths(*pieces)));
}

}  // namespace
}  // namespace orch

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  orch::Check(std::string(orch::fuzz::View(data, size)));
  return 0;
}
