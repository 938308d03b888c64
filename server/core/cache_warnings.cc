#include "server/core/cache_warnings.h"

#include "absl/strings/str_cat.h"

namespace orch {

std::vector<Violation> CacheWarnings(const PipelineSpec& spec) {
  constexpr int kNamed = 3;
  std::string names;
  size_t first = 0;
  int64_t count = 0;
  for (size_t t = 0; t < spec.steps.size(); ++t) {
    const StepOptions& options = spec.steps[t].options();
    if (!options.cache_enabled || !options.source_path.empty()) continue;
    if (count++ == 0) first = t;
    if (count <= kNamed) absl::StrAppend(&names, count > 1 ? ", " : "", "`", spec.steps[t].name, "`");
  }
  if (count == 0) return {};
  if (count > kNamed) absl::StrAppend(&names, " and ", count - kNamed, " more");
  return {{absl::StrCat("steps[", first, "].cache"),
           absl::StrCat(names, count == 1 ? " is" : " are",
                        " cached without a `source`: of the code only files that `command` names are in the key, not "
                        "what they import; declare `source`, or change `cache: {key: …}` with the code"),
           "SOURCE_NOT_IN_KEY"}};
}

}  // namespace orch
