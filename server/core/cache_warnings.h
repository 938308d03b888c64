// What a pipeline's author probably does not mean about the cache.
#pragma once

#include <vector>

#include "server/base/status.h"
#include "server/model/pipeline.h"

namespace orch {

// One warning for all steps that are cached without a declared `source`: what their files import is not in their keys.
std::vector<Violation> CacheWarnings(const PipelineSpec& spec);

}  // namespace orch
