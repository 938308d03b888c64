// What the launcher of an attempt may fetch and deliver: inputs and source, its task, outputs, its end. Each call is
// for one attempt, whose token has been checked. Any thread; may block.
#pragma once

#include <cstdint>
#include <functional>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "backends/api/backend.h"
#include "server/engine/artifact_stores.h"
#include "server/engine/attempt_task.h"
#include "server/engine/blob_store.h"
#include "server/engine/deliveries.h"
#include "server/engine/sources.h"

namespace orch {

struct StepFileLimits {
  int64_t source_bytes = 0;
  int64_t patience_seconds = 0;  // of launchers
  int64_t handed_inline_bytes =
      0;                       // in a task that is handed over: larger things are named by an address if they have one
  int64_t handed_bytes = 0;    // … of all that is in it
  int64_t folder_entries = 0;  // … of one folder
};

class StepFiles {
 public:
  using ReadSecrets = std::function<absl::StatusOr<std::vector<SecretValue>>(const std::string& key)>;
  // All of them outlive it.
  StepFiles(const Sources* sources, Deliveries* deliveries, BlobStore* blobs, StepFileLimits limits,
            ReadSecrets secrets, ArtifactStores* stores);

  // The task with its secrets, as JSON. As Deliveries::Begin.
  absl::StatusOr<std::string> Begin(const std::string& key, absl::string_view launcher);

  // The task of an attempt whose launcher reaches nothing but the run's artifact store, as a file: begun, with all that
  // the step reads, small things as they are and others by addresses, and with the places where to leave what it makes.
  // FAILED_PRECONDITION (STORE_UNREACHABLE): the store has no addresses, or too much is not in it (handed_bytes).
  absl::StatusOr<std::string> Hand(const std::string& key);

  struct Found {
    enum class What : uint8_t { kBytes = 1, kListing = 2, kIndex = 3 };
    What what = What::kBytes;
    std::string path;  // of a file with these bytes; empty: they are in `text`
    std::string text;
    std::string digest;  // of the bytes, raw; empty: only the listing or index that names them says it
    std::string folder;  // of a file inside a folder that is an artifact: the folder's digest
  };
  // An input by its name; with `rest` what is inside: a file of a folder, an item of a fan-in, a file of a folder that
  // is an item. NOT_FOUND (INPUT_NOT_FOUND); FAILED_PRECONDITION (INPUT_MISSING).
  absl::StatusOr<Found> FindInput(const std::string& key, const std::string& name, const std::string& rest);
  // The source folder, which is listed as it is now; or a file of it. NOT_FOUND (SOURCE_NOT_FOUND);
  // RESOURCE_EXHAUSTED (SOURCE_TOO_LARGE).
  absl::StatusOr<Found> FindSource(const std::string& key, const std::string& rest);

  // Where else these bytes can be had, without a token and for a few minutes; empty: nowhere.
  std::string AddressOf(const Found& found, int64_t seconds = kAddressSeconds);
  static constexpr int64_t kAddressSeconds = 300;
  // Where the bytes of an output may be sent instead of here, for an attempt whose run has such a store; nullopt: here,
  // as for what a store takes in no single request (kMaxSinglePut).
  std::optional<s3::Presigned> UploadAddress(const std::string& key, const std::string& hex, int64_t size);
  static constexpr int64_t kMaxSinglePut = int64_t{5} << 30;  // of S3 itself
  // They were sent there: brings them here. As ArtifactStores::FetchSent.
  absl::Status TakeSent(const std::string& key, const std::string& hex);

  // NOT_FOUND (OUTPUT_NOT_FOUND); else as Deliveries::PutOutput.
  absl::Status PutOutput(const std::string& key, const std::string& name, const std::string& hex, bool folder);

  Deliveries& deliveries() { return *deliveries_; }

 private:
  absl::StatusOr<AttemptTask> TaskOf(const std::string& key);
  absl::Status CountInlined(int64_t size, int64_t* inlined);
  absl::Status Describe(const Found& found, int64_t* inlined, nlohmann::json* out);
  absl::Status DescribeInput(const std::string& key, const std::string& name, const std::string& rest, int64_t* inlined,
                             nlohmann::json* out);
  std::string PlacesToLeave(const std::string& key, const AttemptTask& task);

  const Sources* const sources_;
  Deliveries* const deliveries_;
  BlobStore* const blobs_;
  const StepFileLimits limits_;
  const ReadSecrets secrets_;
  ArtifactStores* const stores_;
};

}  // namespace orch
