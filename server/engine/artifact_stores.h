// The registered artifact stores, and the copies of blobs that they hold: what a run with such a store makes is there
// before its step succeeds, and comes from there if this machine does not have it any more. Any thread; calls block.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/mutex.h"
#include "server/engine/blob_home.h"
#include "server/engine/blob_store.h"
#include "server/store/queries.h"

namespace orch {

class ArtifactStores {
 public:
  ArtifactStores(BlobStore* blobs, store::Queries* queries) : blobs_(blobs), queries_(queries) {}

  void Put(const std::string& name, std::shared_ptr<BlobHome> home);
  void Remove(const std::string& name);
  std::shared_ptr<BlobHome> Find(const std::string& name);
  // True if there is one besides the local folder.
  bool Any();
  void Stop();

  // Brings the bytes of a blob that this machine has to the store, and notes the store in the row. Small ones, too.
  absl::Status Keep(const std::string& store, BlobRow* row);
  // Brings a blob back: a file or folder at `to`, which is not there yet. NOT_FOUND (BLOB_MISSING): no store has it.
  absl::Status Fetch(const BlobRow& row, const std::string& to);
  // Removes all copies of a blob that nobody needs; the row still says what it was.
  absl::Status RemoveCopies(absl::string_view digest);

  // An address to which the bytes of a new blob may be sent, for a run with this store. UNIMPLEMENTED: there is none.
  absl::StatusOr<s3::Presigned> UploadAddress(const std::string& store, absl::string_view digest, int64_t size,
                                              int64_t seconds);
  // What was sent there, to `path`. NOT_FOUND (OBJECT_MISSING), DATA_LOSS (DIGEST_MISMATCH).
  absl::Status FetchSent(const std::string& store, absl::string_view digest, const std::string& path);
  // What a launcher leaves where the daemon does not answer (engine/left_behind.h): an address to leave `name` at, for
  // once; its size, its bytes, and the end of it. UNIMPLEMENTED: this store has no addresses; UNAVAILABLE
  // (STORE_UNAVAILABLE): it is away, or not in service.
  absl::StatusOr<s3::Presigned> LeaveAddress(const std::string& store, const std::string& key, const std::string& name,
                                             int64_t seconds);
  bool HasAddresses(const std::string& store);
  absl::StatusOr<int64_t> SizeOfLeft(const std::string& store, const std::string& key, const std::string& name);
  absl::Status FetchLeft(const std::string& store, const std::string& key, const std::string& name,
                         const std::string& path);
  void RemoveLeft(const std::string& store, const std::string& key, const std::string& name);
  // An address of the blob's bytes, good for `seconds`; `file`: of a folder's file, raw digest. NOT_FOUND: no store
  // that holds it has addresses.
  absl::StatusOr<std::string> AddressOf(absl::string_view digest, absl::string_view file, int64_t seconds);

  // `ab/HEX`, and of a folder's file.
  static std::string NameOf(absl::string_view digest);
  static std::string FileNameOf(absl::string_view folder, absl::string_view file);

 private:
  // One call at a time for a digest: what is removed is not just being brought.
  std::shared_ptr<Mutex> LockOf(absl::string_view digest);

  BlobStore* const blobs_;
  store::Queries* const queries_;
  Mutex mutex_;
  std::map<std::string, std::shared_ptr<BlobHome>> homes_ ABSL_GUARDED_BY(mutex_);
  std::map<std::string, std::weak_ptr<Mutex>> locks_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace orch
