// `${…}` templates in commands, environment values and working directories.
//
// A `${` followed by `params. inputs. outputs. item. values. run. step.` or by `attempt}` begins one; `$$` is a dollar;
// every other `${` is left as it is, since shells use it.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"

namespace orch {

enum class TemplateScope : uint8_t { kLiteral, kParams, kInputs, kOutputs, kItem, kValues, kRun, kStep, kAttempt };

struct TemplatePiece {
  TemplateScope scope = TemplateScope::kLiteral;
  std::string text;  // the literal, or the name after the dot
};

// INVALID_ARGUMENT (TEMPLATE_INVALID) if one is not closed.
absl::StatusOr<std::vector<TemplatePiece>> ParseTemplate(absl::string_view text);

}  // namespace orch
