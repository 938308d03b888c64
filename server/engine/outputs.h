// Takes the outputs of an attempt into the store.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "server/core/messages.h"
#include "server/engine/blob_store.h"

namespace orch {

// One output. INVALID_ARGUMENT with reason OUTPUT_MISSING or OUTPUT_INVALID says what the step did wrong; anything else
// is the store's own trouble. With `keep` the step's file stays where it is. `delivered`: the digest that a launcher
// gave it, or empty; DATA_LOSS (DIGEST_MISMATCH) if its bytes are others by now.
absl::StatusOr<StoredOutput> StoreOutput(const OutputSpec& spec, uint32_t number, const std::string& output_dir,
                                         int64_t value_bytes, bool keep, absl::string_view delivered, BlobStore* blobs);

// The digest that an output was delivered with, by its name; empty: it was not delivered.
using DeliveredAs = std::function<std::string(const std::string& name)>;
// All outputs that are not in `published`; nothing counts unless all are there.
absl::StatusOr<std::vector<StoredOutput>> StoreOutputs(const std::vector<OutputSpec>& specs,
                                                       const std::vector<bool>& published,
                                                       const std::string& output_dir, int64_t value_bytes,
                                                       const DeliveredAs& delivered, BlobStore* blobs);

}  // namespace orch
