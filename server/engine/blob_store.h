// The artifact store on a local folder: bytes under their SHA-256, immutable, mode 0444.
//
//   DIR/blobs/ab/abcdef…      a file, or a folder
//   DIR/staging/…             on its way in; emptied at start
//
// Small files are made durable by the database (their bytes are in the commit that lands them), so that landing them
// costs no sync of its own; the file here is for readers and is made again if a power loss took it. Larger ones are
// synced with their folders before they are named.
//
// Any thread.
#pragma once

#include <functional>
#include <string>
#include <unordered_set>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/mutex.h"
#include "server/model/rows.h"

namespace orch {

class BlobStore {
 public:
  // Reads the bytes that the database keeps of a digest; nullopt: it keeps none.
  using InlineReader = std::function<absl::StatusOr<std::optional<BlobRow>>(absl::string_view digest)>;

  static absl::StatusOr<std::unique_ptr<BlobStore>> Open(const std::string& data_dir, int64_t inline_bytes,
                                                         InlineReader reader);

  // Takes a file or folder into the store. Its bytes are shared with `path`, which must not be written to any more and
  // stays where it is: a crash before the commit may repeat the call. INVALID_ARGUMENT (OUTPUT_INVALID) for what is
  // neither a file nor a folder, or a folder with a link out of itself.
  absl::StatusOr<BlobRow> Take(const std::string& path);
  // The same, but `path` may be written to afterwards.
  absl::StatusOr<BlobRow> Copy(const std::string& path);

  // Where the bytes are, made from the database if need be. NOT_FOUND (BLOB_MISSING).
  absl::StatusOr<std::string> PathOf(absl::string_view digest);
  // True if the bytes can be had.
  bool Exists(absl::string_view digest);

  // Reads all of what is stored as a file or folder. DATA_LOSS (BLOB_DAMAGED), or why it cannot be read.
  static absl::Status CheckFile(const std::string& data_dir, const BlobRow& row);

  // A file with these bytes, for readers; not durable, made again when asked for.
  absl::StatusOr<std::string> Materialize(absl::string_view bytes);

 private:
  BlobStore(std::string data_dir, int64_t inline_bytes, InlineReader reader);
  std::string NameOf(absl::string_view digest) const;
  absl::StatusOr<BlobRow> TakeFile(const std::string& path, int64_t size);
  absl::StatusOr<BlobRow> TakeFolder(const std::string& path);
  absl::Status Place(const std::string& path, const std::string& name, absl::string_view digest, bool sync);
  absl::Status EnsureFolder(const std::string& path);
  bool Verified(absl::string_view digest);
  void SetVerified(absl::string_view digest);
  std::string StagingName();

  const std::string dir_;
  const std::string staging_;
  const int64_t inline_bytes_;
  const InlineReader reader_;
  Mutex mutex_;
  // Digests whose file is known to be good in this life of the daemon.
  std::unordered_set<std::string> verified_ ABSL_GUARDED_BY(mutex_);
  std::unordered_set<std::string> folders_ ABSL_GUARDED_BY(mutex_);
  uint64_t next_staging_ ABSL_GUARDED_BY(mutex_) = 0;
};

// The digest of a file, or of a folder: sorted relative paths, file digests, the executable bit and link targets.
struct ContentDigest {
  std::string digest;  // 32 raw bytes
  int64_t size = 0;
};
absl::StatusOr<ContentDigest> DigestOfFile(const std::string& path);
absl::StatusOr<ContentDigest> DigestOfFolder(const std::string& path);

}  // namespace orch
