// Pipeline files: YAML (1.2 core schema) or JSON, read into orch.v1.Pipeline, with the place of every field.
//
// Short forms, units and `defaults` are resolved here; references between steps, templates and expressions are judged
// by the server, whose field paths SourceMap turns into places of the file. No function here throws, blocks or keeps
// global state; all are safe to call from several threads. Work and memory are bounded by ParseLimits.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "google/protobuf/struct.pb.h"
#include "orch/v1/pipeline.pb.h"

namespace orch::spec {

class Tree;

// A place in the text; both count from 1, columns in characters. 0: unknown.
struct Position {
  int line = 0;
  int column = 0;
};

// One fault. `field` is its path from the root (`steps[3].resources.memory`; empty: the whole text), `description` says
// what is wrong and what would be right, `reason` is a word for programs:
// SYNTAX INVALID_ENCODING TOO_LARGE DUPLICATE_KEY UNKNOWN_FIELD REQUIRED WRONG_TYPE OUT_OF_RANGE INVALID_NAME
// DUPLICATE_NAME UNKNOWN_WORD CONFLICT.
struct Problem {
  Position position;
  std::string field;
  std::string description;
  std::string reason;
};

// Where the fields of a parsed text are. Cheap to copy; keeps the parsed tree (not the text) alive.
class SourceMap {
 public:
  SourceMap() = default;
  explicit SourceMap(std::shared_ptr<const Tree> tree) : tree_(std::move(tree)) {}

  // The place of the value at `field`, a path of the message as the server reports it: short forms are seen through
  // (`steps[0].inputs.table.from`, `steps[0].foreach[1].values`), and what a step took from `defaults` is found there.
  // A field that is not in the text: the nearest enclosing one that is. Unknown only for an empty or broken text.
  Position Find(absl::string_view field) const;

 private:
  std::shared_ptr<const Tree> tree_;
};

struct ParsedPipeline {
  orch::v1::Pipeline pipeline;  // complete only without problems
  SourceMap map;
  std::vector<Problem> problems;  // by place; empty: the pipeline is good
};

struct ParseLimits {
  int64_t bytes = 32 << 20;       // of text
  int depth = 64;                 // of lists and mappings, aliases expanded
  int64_t nodes = 20'000'000;     // scalars, lists and mappings as written; the same for what steps inherit
  int64_t alias_nodes = 100'000;  // nodes that aliases add when they are expanded
};

ParsedPipeline ParsePipeline(absl::string_view text, const ParseLimits& limits = {});

// `FILE:LINE:COLUMN: field: description`, without the parts that are unknown or empty.
std::string Format(absl::string_view file, const Problem& problem);

// The value of `--param name=TEXT`: null, booleans and numbers by the core schema; what is a quoted string, list or
// mapping in YAML or JSON as that; everything else, the empty text included, as the string it is. Fails
// (OUT_OF_RANGE) for an integer beyond 2^53, which must be quoted, and (INVALID_ENCODING) for what is no UTF-8.
absl::StatusOr<google::protobuf::Value> ParseParameterValue(absl::string_view text);

// Any YAML or JSON mapping, for `apply -f`.
struct ConfigDocument {
  google::protobuf::Struct value;
  SourceMap map;
  std::vector<Problem> problems;
};
ConfigDocument ParseConfig(absl::string_view text, const ParseLimits& limits = {});

}  // namespace orch::spec
