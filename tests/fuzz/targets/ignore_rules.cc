// Ignore files, with the paths that they are asked about behind an empty line: comments change nothing, the last line
// decides.
#include <string>

#include "client/image/context.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using orch::image::IgnoreRules;
  const std::string all(orch::fuzz::View(data, size));
  const size_t cut = all.find("\n\n");
  const std::string text = all.substr(0, cut);
  const std::string path = cut == std::string::npos ? "a/b.log" : all.substr(cut + 2);
  if (text.size() > 4096 || path.size() > 1024) return 0;
  for (const bool folder : {false, true}) {
    const bool ignored = IgnoreRules(text).Ignores(path, folder);
    REQUIRE(IgnoreRules("# words\n\n" + text + "\n# more").Ignores(path, folder) == ignored);
    REQUIRE(!IgnoreRules(text + "\n!**").Ignores(path, folder));
    REQUIRE(IgnoreRules(text + "\n**").Ignores(path, folder));
  }
  return 0;
}
