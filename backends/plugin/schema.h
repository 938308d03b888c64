// The part of JSON Schema (2020-12) that plug-ins may describe their configuration and settings with.
//
// Our own because the packaged validators match `pattern` with std::regex, which recurses over its input, and leave out
// what they do not know in silence: a schema with any other keyword is refused here.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/status.h"

namespace orch::plugin {

inline constexpr size_t kMaxSchemaBytes = 256 << 10;

// Whether `text` is such a schema, of an object; empty text is one that allows nothing. What is wrong with it is
// appended to `faults`.
void CheckSchema(absl::string_view text, std::vector<std::string>* faults);

// What is wrong with `value` (JSON text), by a schema that CheckSchema likes; fields are paths below `root`. At most
// 100.
std::vector<Violation> Validate(absl::string_view schema, absl::string_view value, const std::string& root);

}  // namespace orch::plugin
