// A YAML (or JSON) text as a small tree of texts, for files whose values are texts.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace orch::kubernetes {

struct YamlNode {
  enum class Kind { kNull, kText, kList, kMap };
  Kind kind = Kind::kNull;
  std::string text;
  std::vector<YamlNode> list;     // of a map: its values
  std::vector<std::string> keys;  // of a map, in the order of the text; each is there once
  int line = 0;                   // from 1

  // Null if it is no map or has none of that name.
  const YamlNode* Find(absl::string_view key) const;
};

// The one document of `text`. INVALID_ARGUMENT (YAML_INVALID) says where and what: broken, nested deeper than 32, an
// alias, a key twice, a second document.
absl::StatusOr<YamlNode> ParseYamlTree(absl::string_view text);

}  // namespace orch::kubernetes
