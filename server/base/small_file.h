// Files that an administrator gives the daemon: certificates, keys, tokens.
#pragma once

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"

namespace orch {

// The text of a file of at most `max_bytes`. INVALID_ARGUMENT (FILE_UNUSABLE) begins with its name: it cannot be read,
// is no plain file, or larger.
absl::StatusOr<std::string> ReadSmallFile(const std::string& file, int64_t max_bytes);

// The same of one that nobody else may read or change: 0600 and ours, or, as PostgreSQL has it, root's and 0640.
absl::StatusOr<std::string> ReadSecretFile(const std::string& file, int64_t max_bytes);

}  // namespace orch
