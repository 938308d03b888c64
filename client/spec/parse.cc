#include "client/spec/parse.h"

#include <utility>

#include "absl/container/flat_hash_map.h"
#include "absl/strings/str_cat.h"
#include "client/spec/encoding.h"
#include "client/spec/fields.h"
#include "client/spec/load.h"
#include "client/spec/reader.h"
#include "client/spec/step_reader.h"
#include "client/spec/words.h"
#include "server/base/status.h"
#include "server/base/utf8.h"

namespace orch::spec {
namespace {

using v1::Pipeline;

constexpr size_t kMaxDescription = 10'000;

void ReadSteps(Reader& reader, Ref ref, NodeId defaults, Pipeline* out) {
  constexpr absl::string_view kWanted = "a list of steps";
  const Tree& tree = reader.tree();
  if (reader.IsNull(ref) || (reader.KindOf(ref) == Kind::kSequence && tree.at(tree.Resolve(ref.node)).size == 0)) {
    reader.Add(ref.node, "must not be empty; give at least one step", "REQUIRED");
    return;
  }
  if (reader.KindOf(ref) == Kind::kSequence) {
    out->mutable_steps()->Reserve(static_cast<int>(tree.at(tree.Resolve(ref.node)).size));
  }
  absl::flat_hash_map<std::string, NodeId> names;
  reader.ReadList(ref, kWanted, [&](size_t, NodeId item) {
    v1::StepSpec* step = out->add_steps();
    const bool merge = defaults != kNoNode && tree.KindOf(item) == Kind::kMapping;
    ReadStep(reader, {item, merge ? defaults : kNoNode}, step);
    if (step->name().empty()) return;
    const NodeId name = tree.Lookup(item, "name");
    const auto [first, is_new] = names.emplace(step->name(), name);
    if (is_new) return;
    reader.AddBelow("name", name,
                    absl::StrCat(Quote(step->name()), " is also the name of the step in line ",
                                 tree.PositionOf(first->second).line),
                    "DUPLICATE_NAME");
  });
}

// What all steps inherit counts as much as what is written: a large `defaults` and many small steps are a bomb, too.
bool FitsInherited(Reader& reader, NodeId defaults, NodeId steps, const ParseLimits& limits) {
  const Tree& tree = reader.tree();
  if (steps == kNoNode || tree.KindOf(steps) != Kind::kSequence) return true;
  const int64_t count = tree.at(tree.Resolve(steps)).size;
  const int64_t each = tree.Count(defaults);
  if (count == 0 || each <= limits.nodes / count) return true;
  reader.AddBelow("defaults", defaults,
                  absl::StrCat(count, " steps that inherit ", each, " values each: more than ", limits.nodes),
                  "TOO_LARGE");
  return false;
}

void ReadPipeline(Reader& reader, Tree* tree, const ParseLimits& limits, Pipeline* out) {
  const Ref root{tree->root};
  // First, so that what steps inherit is reported once, under its own path.
  NodeId defaults = tree->Lookup(tree->root, "defaults");
  if (reader.IsNull({defaults})) defaults = kNoNode;
  if (defaults != kNoNode) reader.In("defaults", [&] { ReadDefaults(reader, {defaults}); });
  if (defaults != kNoNode && tree->KindOf(defaults) != Kind::kMapping) defaults = kNoNode;
  if (defaults != kNoNode && !FitsInherited(reader, defaults, tree->Lookup(tree->root, "steps"), limits)) {
    defaults = kNoNode;
  }
  const auto read = [&](int number, Ref value) {
    int word = 0;
    google::protobuf::Duration time;
    switch (number) {
      case Pipeline::kNameFieldNumber:
        if (reader.IsNull(value)) {
          reader.Add(value.node, "must not be empty", "REQUIRED");
        } else {
          reader.ReadName(value, /*dots=*/true, out->mutable_name());
        }
        break;
      case Pipeline::kDescriptionFieldNumber:
        if (reader.ReadText(value, out->mutable_description()) && out->description().size() > kMaxDescription) {
          reader.Add(value.node, "must have at most 10000 bytes", "TOO_LARGE");
        }
        break;
      case Pipeline::kParametersFieldNumber:
        ReadParameters(reader, value, out);
        break;
      case Pipeline::kExecutionModeFieldNumber:
        if (reader.ReadWord(value, *Pipeline::ExecutionMode_descriptor(), &word)) {
          out->set_execution_mode(static_cast<Pipeline::ExecutionMode>(word));
        }
        break;
      case Pipeline::kStepsFieldNumber:
        if (tree->KindOf(value.node) == Kind::kSequence) tree->IndexItems(value.node);
        ReadSteps(reader, value, defaults, out);
        break;
      case Pipeline::kTimeoutFieldNumber:
        if (reader.ReadDurationField(value, /*zero_allowed=*/false, &time)) *out->mutable_timeout() = time;
        break;
      case Pipeline::kLabelsFieldNumber:
        ReadLabels(reader, value, out->mutable_labels());
        break;
      case Pipeline::kHooksFieldNumber:
        ReadHooks(reader, value, out->mutable_hooks());
        break;
      case Pipeline::kMaxParallelFieldNumber:
        if (reader.ReadInt32(value, 0, INT32_MAX, &word)) out->set_max_parallel(word);
        break;
    }
  };
  if (!reader.ReadFields(root, *Pipeline::descriptor(), "a mapping with `name` and `steps`", read,
                         {Pipeline::kNameFieldNumber, Pipeline::kStepsFieldNumber}, "defaults")) {
    return;
  }
  for (const absl::string_view key : {"name", "steps"}) {
    if (tree->Lookup(tree->root, key) == kNoNode) reader.AddBelow(key, tree->root, "is missing", "REQUIRED");
  }
}

// Null after a problem.
std::shared_ptr<Tree> LoadRoot(absl::string_view text, const ParseLimits& limits, std::vector<Problem>* problems) {
  std::shared_ptr<Tree> tree = Load(text, limits, problems);
  if (tree != nullptr && tree->root == kNoNode) {
    problems->push_back({{1, 1}, "", "the file is empty", "REQUIRED"});
    return nullptr;
  }
  return tree;
}

}  // namespace

ParsedPipeline ParsePipeline(absl::string_view text, const ParseLimits& limits) {
  ParsedPipeline out;
  const std::shared_ptr<Tree> tree = LoadRoot(text, limits, &out.problems);
  if (tree == nullptr) return out;
  out.map = SourceMap(tree);
  Reader reader(tree.get());
  ReadPipeline(reader, tree.get(), limits, &out.pipeline);
  out.problems = reader.TakeProblems();
  return out;
}

ConfigDocument ParseConfig(absl::string_view text, const ParseLimits& limits) {
  ConfigDocument out;
  const std::shared_ptr<Tree> tree = LoadRoot(text, limits, &out.problems);
  if (tree == nullptr) return out;
  out.map = SourceMap(tree);
  Reader reader(tree.get());
  reader.ReadStruct({tree->root}, &out.value);
  out.problems = reader.TakeProblems();
  return out;
}

absl::StatusOr<google::protobuf::Value> ParseParameterValue(absl::string_view text) {
  if (!IsUtf8(text)) {
    return Error(absl::StatusCode::kInvalidArgument, "INVALID_ENCODING", "a parameter's value must be UTF-8");
  }
  google::protobuf::Value value;
  value.set_string_value(std::string(text));
  if (text.empty()) return value;
  const Type type = TypeOf(text);
  const bool structured = absl::string_view("\"'[{").find(text[0]) != absl::string_view::npos;
  if (type == Type::kText && !structured) return value;
  if (type == Type::kFloat && text.find_first_of("iInN") != absl::string_view::npos) return value;  // .inf, .nan
  std::vector<Problem> problems;
  const std::shared_ptr<Tree> tree = Load(text, {}, &problems);
  if (tree == nullptr || tree->root == kNoNode) return value;
  Reader reader(tree.get());
  google::protobuf::Value read;
  if (reader.ReadValue(tree->root, &read)) return read;
  problems = reader.TakeProblems();
  if (problems.empty() || problems[0].reason != "OUT_OF_RANGE") return value;
  return Error(absl::StatusCode::kOutOfRange, "OUT_OF_RANGE",
               absl::StrCat(problems[0].description, ", as in '\"12345\"'"));
}

std::string Format(absl::string_view file, const Problem& problem) {
  std::string out(file);
  if (problem.position.line > 0) absl::StrAppend(&out, ":", problem.position.line);
  if (problem.position.line > 0 && problem.position.column > 0) absl::StrAppend(&out, ":", problem.position.column);
  absl::StrAppend(&out, out.empty() ? "" : ": ");
  if (!problem.field.empty()) absl::StrAppend(&out, problem.field, ": ");
  return out + problem.description;
}

}  // namespace orch::spec
