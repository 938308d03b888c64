// What is read off a jq expression: total, and a blank more at either end changes nothing.
#include "server/model/expression.h"

#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string text(orch::fuzz::View(data, size));
  const orch::ExpressionFacts facts = orch::ReadExpression(text);
  // A path has a name, unless that is the empty text, or one that never ends, which libjq refuses.
  const bool nameless = text.find("\"\"") != text.npos || text.ends_with(".\"");
  for (const auto& path : facts.paths) REQUIRE(!path.head.empty() || !path.field.empty() || nameless);
  if (text.find('#') != std::string::npos) return 0;  // a comment would swallow the blank
  const orch::ExpressionFacts again = orch::ReadExpression(" " + text);
  REQUIRE(again.paths.size() == facts.paths.size());
  REQUIRE(again.refused == facts.refused);
  REQUIRE(again.only_known_paths == facts.only_known_paths);
  return 0;
}
