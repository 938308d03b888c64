// The artifact store on a local folder: bytes under their SHA-256, immutable, mode 0444.
//
//   DIR/blobs/ab/abcdef…      a file, or a folder
//   DIR/staging/…             on its way in or out; emptied at start
//   DIR/made/ab/abcdef…       small files made of values for steps to read; no blobs
//
// Small files are made durable by the database (their bytes are in the commit that lands them), so that landing them
// costs no sync of its own; the file here is for readers and is made again if a power loss took it. Larger ones are
// synced with their folders before they are named.
//
// Any thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/mutex.h"
#include "server/model/rows.h"

namespace orch {

struct ContentDigest {
  std::string digest;  // 32 raw bytes
  int64_t size = 0;
};

class BlobStore {
 public:
  // Reads the bytes that the database keeps of a digest; nullopt: it keeps none.
  using InlineReader = std::function<absl::StatusOr<std::optional<BlobRow>>(absl::string_view digest)>;

  static absl::StatusOr<std::unique_ptr<BlobStore>> Open(const std::string& data_dir, int64_t inline_bytes,
                                                         InlineReader reader);

  // Keeps the bytes of a digest from being removed until the handle goes. Those of what Take and Copy return are held
  // by BlobRow::hold. Never waits.
  std::shared_ptr<const void> Hold(absl::string_view digest);
  bool IsHeld(absl::string_view digest);
  // Announces that the bytes will be removed. False, and nothing changed, if somebody holds them.
  bool Condemn(absl::string_view digest);
  // Removes the bytes of a condemned digest. ABORTED (BLOB_WANTED): somebody has held it since; other errors: it is
  // where it was. Either way it is condemned no more.
  absl::Status Remove(absl::string_view digest);
  void Spare(absl::string_view digest);

  // What brings bytes back that this machine does not have any more: a file or folder at `to`, with the row's digest.
  // Before any other call.
  using Fetch = std::function<absl::Status(const BlobRow& row, const std::string& to)>;
  void SetFetch(Fetch fetch) { fetch_ = std::move(fetch); }

  // The file, which only the daemon writes to, has bytes of this digest, which has just been made of them: Take need
  // not read it again unless it has changed. Forgotten with the process.
  void Vouch(const std::string& path, absl::string_view digest);

  // Takes a file or folder into the store. Its bytes are shared with `path`, which must not be written to any more and
  // stays where it is: a crash before the commit may repeat the call. INVALID_ARGUMENT (OUTPUT_INVALID) for what is
  // neither a file nor a folder, or a folder with a link out of itself.
  absl::StatusOr<BlobRow> Take(const std::string& path);
  // The same, but `path` may be written to afterwards.
  absl::StatusOr<BlobRow> Copy(const std::string& path);

  // Where the bytes are, made from the database if need be. NOT_FOUND (BLOB_MISSING).
  absl::StatusOr<std::string> PathOf(absl::string_view digest);
  // A file with the listing (server/base/folder_listing.h) of a folder: made once, then kept with what is made of
  // values. NOT_FOUND (BLOB_MISSING), DATA_LOSS (BLOB_DAMAGED).
  absl::StatusOr<std::string> ListingOf(absl::string_view digest);
  // True if the bytes can be had.
  bool Exists(absl::string_view digest);

  // True if the bytes can be had and are those of the digest. They are read through once, and again when the file's
  // inode, size or times have changed; damaged ones are taken out of the way.
  bool Sound(absl::string_view digest);

  // Reads all of what is stored as a file or folder. DATA_LOSS (BLOB_DAMAGED), or why it cannot be read.
  static absl::Status CheckFile(const std::string& data_dir, const BlobRow& row);

  // A file with these bytes, for readers; not durable, made again when asked for.
  absl::StatusOr<std::string> Materialize(absl::string_view bytes);

 private:
  BlobStore(std::string data_dir, int64_t inline_bytes, InlineReader reader);
  std::string NameOf(absl::string_view digest) const;
  absl::StatusOr<ContentDigest> VouchedOrRead(const std::string& path);
  absl::StatusOr<BlobRow> TakeFile(const std::string& path, int64_t size);
  absl::StatusOr<BlobRow> TakeFolder(const std::string& path);
  absl::Status Place(const std::string& path, const std::string& name, absl::string_view digest, bool sync);
  absl::Status EnsureFolder(const std::string& path);
  bool Verified(absl::string_view digest);
  void SetVerified(absl::string_view digest);
  std::string StagingName();

  const std::string dir_;
  const std::string staging_;
  const std::string made_dir_;
  const int64_t inline_bytes_;
  const InlineReader reader_;
  Fetch fetch_;
  Mutex mutex_;
  // Digests whose file is known to be good in this life of the daemon.
  std::unordered_set<std::string> verified_ ABSL_GUARDED_BY(mutex_);
  std::unordered_map<std::string, std::string> sound_ ABSL_GUARDED_BY(mutex_);    // digest → stamp
  std::unordered_set<std::string> made_ ABSL_GUARDED_BY(mutex_);                  // the same of DIR/made
  std::unordered_map<std::string, std::string> vouched_ ABSL_GUARDED_BY(mutex_);  // stamp → digest
  std::unordered_set<std::string> folders_ ABSL_GUARDED_BY(mutex_);
  // Handles may outlive the store.
  struct Holds {
    Mutex mutex;
    std::map<std::string, int> held ABSL_GUARDED_BY(mutex);  // how often
    std::unordered_set<std::string> condemned ABSL_GUARDED_BY(mutex);
  };
  const std::shared_ptr<Holds> holds_ = std::make_shared<Holds>();
  uint64_t next_staging_ ABSL_GUARDED_BY(mutex_) = 0;
};

// The digest of a file, or of a folder: sorted relative paths, file digests, the executable bit and link targets.
absl::StatusOr<ContentDigest> DigestOfFile(const std::string& path);
absl::StatusOr<ContentDigest> DigestOfFolder(const std::string& path);
// The listing of a folder, and the sum of its files' sizes if that is wanted.
absl::StatusOr<std::string> ListFolder(const std::string& path, int64_t* size);

}  // namespace orch
