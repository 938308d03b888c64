#include "server/rpc/step_text.h"

#include <map>
#include <string>

#include "absl/strings/str_cat.h"
#include "server/model/template.h"
#include "server/rpc/values.h"

namespace orch::rpc {
namespace {

// A text without its quotes, anything else as compact JSON.
std::string Insert(const google::protobuf::Value& value) {
  return value.has_string_value() ? value.string_value() : ToJson(value);
}

class Filler {
 public:
  Filler(const store::RunRecord& run, const Graph& graph, StepIx ix, const v1::Step& step) : run_(run), step_(step) {
    if (!run.header.parameters_json.empty()) (void)FromJson(run.header.parameters_json, &params_);  // else none
    (void)FromJson(graph.ItemJson(ix), &item_);
  }

  std::string Fill(const std::string& text) const {
    const auto pieces = ParseTemplate(text);
    if (!pieces.ok()) return text;
    std::string out;
    for (const TemplatePiece& piece : *pieces) out += Fill(piece);
    return out;
  }

 private:
  std::string Fill(const TemplatePiece& piece) const {
    switch (piece.scope) {
      case TemplateScope::kLiteral:
        return piece.text;
      case TemplateScope::kParams:
        return Lookup(params_, "params", piece.text);
      case TemplateScope::kItem:
        return Lookup(item_, "item", piece.text);
      case TemplateScope::kRun:
        return run_.header.name;
      case TemplateScope::kStep:
        return step_.name();
      case TemplateScope::kAttempt:
        return step_.attempt() > 0 ? absl::StrCat(step_.attempt()) : "${attempt}";
      case TemplateScope::kInputs:
        return absl::StrCat("${inputs.", piece.text, "}");
      case TemplateScope::kOutputs:
        return absl::StrCat("${outputs.", piece.text, "}");
      case TemplateScope::kValues:
        return absl::StrCat("${values.", piece.text, "}");
    }
    return piece.text;
  }

  static std::string Lookup(const google::protobuf::Struct& values, absl::string_view scope, const std::string& name) {
    const auto found = values.fields().find(name);
    return found == values.fields().end() ? absl::StrCat("${", scope, ".", name, "}") : Insert(found->second);
  }

  const store::RunRecord& run_;
  const v1::Step& step_;
  google::protobuf::Struct params_;
  google::protobuf::Struct item_;
};

}  // namespace

void AddCommand(const store::RunRecord& run, const Graph& graph, StepIx ix, bool own_environment, v1::Step* step) {
  if (ix >= graph.step_count()) return;
  const StepSpec& spec = graph.SpecOf(ix);
  const Filler filler(run, graph, ix, *step);
  for (const std::string& word : spec.command) step->add_command(filler.Fill(word));
  auto& environment = *step->mutable_environment();
  if (!own_environment) {
    for (const auto& [name, value] : run.header.environment) environment[name] = value;
  }
  for (const auto& [name, value] : spec.options().env) environment[name] = filler.Fill(value);
  for (const SecretUse& use : spec.options().secrets) environment[use.variable] = "***";
}

}  // namespace orch::rpc
