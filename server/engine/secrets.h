// Secrets as they are stored: encrypted with XChaCha20-Poly1305 under a key in a file beside the database, bound to
// their project, name and version.
//
// Any thread; may block on the key's file.
#pragma once

#include <string>

#include "absl/status/statusor.h"
#include "absl/strings/string_view.h"
#include "server/base/mutex.h"
#include "server/model/rows.h"

namespace orch {

class Secrets {
 public:
  // `path`: of the key; made at the first Seal, with mode 0600.
  explicit Secrets(std::string path);
  ~Secrets();
  Secrets(const Secrets&) = delete;
  Secrets& operator=(const Secrets&) = delete;

  // Fills `sealed` and `text` of a row whose other fields are set. `may_make`: no secret exists, so a key that is not
  // there may be made; otherwise FAILED_PRECONDITION (SECRET_KEY_MISSING). FAILED_PRECONDITION (SECRET_KEY_UNSAFE) if
  // others may read the file, INTERNAL (DATA_DIR_UNUSABLE) if it cannot be read or written.
  absl::Status Seal(absl::string_view value, bool may_make, SecretRow* row);
  // The same errors, and DATA_LOSS (SECRET_DAMAGED) if it was not sealed with this key, or for another row.
  absl::StatusOr<std::string> Open(const SecretRow& row);

 private:
  absl::Status LoadKey(bool may_make) ABSL_EXCLUSIVE_LOCKS_REQUIRED(mutex_);

  const std::string path_;
  Mutex mutex_;
  std::string key_ ABSL_GUARDED_BY(mutex_);  // empty: not loaded yet
};

}  // namespace orch
