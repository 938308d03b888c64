// Takes the outputs of an attempt into the store.
#pragma once

#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/core/messages.h"
#include "server/engine/blob_store.h"

namespace orch {

// One output. INVALID_ARGUMENT with reason OUTPUT_MISSING or OUTPUT_INVALID says what the step did wrong; anything else
// is the store's own trouble. With `keep` the step's file stays where it is.
absl::StatusOr<StoredOutput> StoreOutput(const OutputSpec& spec, uint32_t number, const std::string& output_dir,
                                         int64_t value_bytes, bool keep, BlobStore* blobs);

// All outputs that are not in `published`; nothing counts unless all are there.
absl::StatusOr<std::vector<StoredOutput>> StoreOutputs(const std::vector<OutputSpec>& specs,
                                                       const std::vector<bool>& published,
                                                       const std::string& output_dir, int64_t value_bytes,
                                                       BlobStore* blobs);

}  // namespace orch
