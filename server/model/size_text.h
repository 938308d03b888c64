// Sizes as people write them in configurations.
#pragma once

#include "absl/strings/string_view.h"

namespace orch {

// The bytes of `16Gi`, `512M`, `16GB`, `1.5Gi`, `1000`; negative: it is no size. The caller judges whether it is too
// large.
double BytesOf(absl::string_view text);

}  // namespace orch
