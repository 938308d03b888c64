// A pipeline as YAML or JSON: faults have places in the text, reading is repeatable, and the same tree written as JSON
// means the same.
#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>

#include "client/spec/load.h"
#include "client/spec/parse.h"
#include "client/spec/scalar.h"
#include "client/spec/tree.h"
#include "tests/fuzz/fuzz.h"

namespace orch::spec {
namespace {

// Small enough for a thousand runs a second, with every limit in reach.
constexpr ParseLimits kLimits{1 << 16, 64, 20'000, 5'000};

using Faults = std::vector<std::pair<std::string, std::string>>;  // field, reason
Faults FaultsOf(const ParsedPipeline& parsed) {
  Faults out;
  for (const Problem& problem : parsed.problems) out.emplace_back(problem.field, problem.reason);
  std::sort(out.begin(), out.end());
  return out;
}

bool TooLarge(const ParsedPipeline& parsed) {
  return std::any_of(parsed.problems.begin(), parsed.problems.end(),
                     [](const Problem& problem) { return problem.reason == "TOO_LARGE"; });
}

std::string Quoted(absl::string_view text) { return nlohmann::json(std::string(text)).dump(-1, ' ', true); }

// Whether the tree has an alias: a fault in what it stands for is told once, in JSON for each place.
bool HasAlias(const Tree& tree) {
  for (NodeId id = 0; id < tree.size(); ++id) {
    if (tree.at(id).kind == Kind::kAlias) return true;
  }
  return false;
}

// The tree as JSON text; false if JSON cannot say the same (a number such as 0x10, a key that is no text).
bool AppendJson(const Tree& tree, NodeId id, std::string* out) {
  id = tree.Resolve(id);
  const Node& node = tree.at(id);
  switch (node.kind) {
    case Kind::kAlias:
      return false;
    case Kind::kScalar: {
      const absl::string_view text = tree.Text(id);
      const std::optional<Type> type = TypeOf(text, node.tag);
      if (!type || (node.tag != Tag::kPlain && node.tag != Tag::kText)) return false;
      if (*type == Type::kText) {
        out->append(Quoted(text));
        return true;
      }
      if (!nlohmann::json::accept(text.begin(), text.end())) return false;
      out->append(text.data(), text.size());
      return true;
    }
    case Kind::kSequence:
    case Kind::kMapping: {
      const bool mapping = node.kind == Kind::kMapping;
      out->push_back(mapping ? '{' : '[');
      bool key = true;
      for (NodeId child = node.size == 0 ? kNoNode : node.first; child != kNoNode; child = tree.at(child).next) {
        if (mapping && key) {
          const NodeId resolved = tree.Resolve(child);
          if (tree.at(resolved).kind != Kind::kScalar) return false;
          if (TypeOf(tree.Text(resolved), tree.at(resolved).tag) != Type::kText) return false;
          if (tree.Text(resolved) == "<<") return false;  // a merge key only where it is not quoted
        }
        if (out->back() != '{' && out->back() != '[' && (!mapping || key)) out->push_back(',');
        if (!AppendJson(tree, child, out)) return false;
        if (mapping && key) out->push_back(':');
        key = !key;
      }
      out->push_back(mapping ? '}' : ']');
      return true;
    }
  }
  return false;
}

void Check(absl::string_view text) {
  const ParsedPipeline parsed = ParsePipeline(text, kLimits);
  const auto lines =
      static_cast<int>(std::count(text.begin(), text.end(), '\n') + std::count(text.begin(), text.end(), '\r')) + 3;
  for (const Problem& problem : parsed.problems) {
    REQUIRE(!problem.reason.empty() && !problem.description.empty());
    REQUIRE(problem.position.line >= 0 && problem.position.line <= lines);
    REQUIRE(problem.position.column >= 0);
    REQUIRE(!Format("f", problem).empty());
    (void)parsed.map.Find(problem.field);
  }
  for (int i = 0; i < parsed.pipeline.steps_size() && i < 3; ++i) {
    (void)parsed.map.Find("steps[" + std::to_string(i) + "].command[0]");
  }
  const ParsedPipeline again = ParsePipeline(text, kLimits);
  REQUIRE(FaultsOf(again) == FaultsOf(parsed));
  REQUIRE(again.pipeline.ShortDebugString() == parsed.pipeline.ShortDebugString());

  std::vector<Problem> problems;
  const std::shared_ptr<Tree> tree = Load(text, kLimits, &problems);
  REQUIRE((tree != nullptr) || !problems.empty());
  std::string json;
  if (tree == nullptr || tree->root == kNoNode || TooLarge(parsed) || !AppendJson(*tree, tree->root, &json)) return;
  const ParsedPipeline from_json = ParsePipeline(json, kLimits);
  if (TooLarge(from_json)) return;  // aliases are written out, so there is more of it
  REQUIRE(HasAlias(*tree) ? from_json.problems.empty() == parsed.problems.empty()
                          : FaultsOf(from_json) == FaultsOf(parsed));
  if (!parsed.problems.empty()) return;
  REQUIRE(from_json.pipeline.ShortDebugString() == parsed.pipeline.ShortDebugString());
}

}  // namespace
}  // namespace orch::spec

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view text = orch::fuzz::View(data, size);
  orch::spec::Check({text.data(), text.size()});
  return 0;
}
