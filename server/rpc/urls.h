// Addresses of our own pages, derived whenever they are read, so that old runs follow a change of `public_url`.
#pragma once

#include <string>

#include "absl/strings/string_view.h"

namespace orch::rpc {

// `text` as one segment of a path: everything but letters, digits and `-_.~` becomes %XX.
std::string UrlEscape(absl::string_view text);
// The reverse; an invalid %XX stays as it is.
std::string UrlUnescape(absl::string_view text);

// `pages`: the base without a slash at its end.
std::string RunUrl(absl::string_view pages, absl::string_view run);
std::string RunLogsUrl(absl::string_view pages, absl::string_view run);
std::string StepLogUrl(absl::string_view pages, absl::string_view run, absl::string_view step);

}  // namespace orch::rpc
