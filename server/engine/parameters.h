// A run's parameters: what was given, checked against the types, with defaults filled in.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "server/base/status.h"
#include "server/model/pipeline.h"

namespace orch {

struct FilledParameters {
  std::string json;                   // one compact object, by name
  std::vector<Violation> violations;  // fields `parameters.NAME`
};

FilledParameters FillParameters(const PipelineSpec& spec, const std::map<std::string, std::string>& given,
                                bool missing_allowed);

}  // namespace orch
