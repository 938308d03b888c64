// A place for bytes beyond this machine's own folder: a bucket, or another folder. What a registered artifact store is
// made of.
//
//   ab/abcdef…             a file by its digest, or a folder's listing (server/base/folder_listing.h)
//   ab/abcdef….files/HEX   a folder's files, which are shared with nothing else
//
// Any thread; calls block.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/model/rows.h"
#include "server/s3/client.h"

namespace orch {

class BlobHome {
 public:
  virtual ~BlobHome() = default;

  // Errors as of s3::Client: the reason word says whose fault it is, the text has the platform's words.
  virtual absl::Status Put(const std::string& name, const std::string& path, int64_t size,
                           absl::string_view digest) = 0;
  // Into a new file. NOT_FOUND (OBJECT_MISSING), DATA_LOSS (DIGEST_MISMATCH).
  virtual absl::Status Get(const std::string& name, const std::string& path, absl::string_view digest) = 0;
  virtual absl::StatusOr<int64_t> SizeOf(const std::string& name) = 0;
  virtual absl::Status Remove(const std::string& name) = 0;
  virtual bool has_addresses() const { return false; }
  // Addresses that steps may use for a while, without any key. UNIMPLEMENTED: there are none.
  virtual absl::StatusOr<s3::Presigned> PresignGet(const std::string& name, int64_t seconds);
  virtual absl::StatusOr<s3::Presigned> PresignPut(const std::string& name, int64_t size, absl::string_view digest,
                                                   int64_t seconds);
  // The same for bytes that nobody knows yet.
  virtual absl::StatusOr<s3::Presigned> PresignAnyPut(const std::string& name, int64_t seconds);
  // Writes, reads and removes a small object: says at registration what would be said at the end of the first step.
  absl::Status Probe();
  // Calls that are under way fail soon.
  virtual void Stop() {}
};

// `secret` gives a secret's value. INVALID_ARGUMENT (CONFIG_INVALID) with all faults; NOT_FOUND (FLAVOR_NOT_FOUND).
using ReadSecret = std::function<absl::StatusOr<std::string>(const std::string& name)>;
absl::StatusOr<std::unique_ptr<BlobHome>> MakeBlobHome(const ArtifactStoreRow& row, const std::string& data_dir,
                                                       ReadSecret secret);

}  // namespace orch
