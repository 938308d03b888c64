// The certificate that the daemon shows and its key: read from files, judged, and read again when these change.
#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "server/base/mutex.h"

namespace orch {

struct TlsPair {
  std::string certificate_pem;  // the daemon's own first, then those that lead to its CA
  std::string key_pem;
  int64_t not_after = 0;  // seconds UTC
};

// Reads both and sees that they can be used together now. INVALID_ARGUMENT (TLS_FILES) with all faults, their fields
// being `tls_cert` and `tls_key`: unreadable, no PEM, expired or not yet valid, a key with a passphrase, one that
// others may read (as PostgreSQL has it: 0600, or 0640 of root), one of another certificate. `now`: seconds UTC.
absl::StatusOr<TlsPair> ReadTlsPair(const std::string& certificate_file, const std::string& key_file, int64_t now);

// The text of a file that holds certificates in PEM form, at least one. INVALID_ARGUMENT (TLS_FILES) says what is wrong
// with it.
absl::StatusOr<std::string> ReadCertificates(const std::string& file);

// The pair in force. Any thread.
class TlsFiles {
 public:
  // As ReadTlsPair.
  static absl::StatusOr<std::unique_ptr<TlsFiles>> Open(const std::string& certificate_file,
                                                        const std::string& key_file);
  ~TlsFiles();
  TlsFiles(const TlsFiles&) = delete;
  TlsFiles& operator=(const TlsFiles&) = delete;

  std::shared_ptr<const TlsPair> pair() const;
  // A file that always holds the pair in force, whole: key and certificates. It lies in memory and is replaced by one
  // call, so that whoever reads it never meets half a change.
  const std::string& memory_file() const { return memory_file_; }

  // Reads again if a file has changed since it was last looked at, or always with `force`. True if another pair is in
  // force now. What ReadTlsPair says of a bad one, which is not taken: the old pair stays.
  absl::StatusOr<bool> Refresh(bool force);

 private:
  TlsFiles(std::string certificate_file, std::string key_file);
  absl::Status Publish(const TlsPair& pair);

  const std::string certificate_file_;
  const std::string key_file_;
  int fd_ = -1;
  std::string memory_file_;
  mutable Mutex mutex_;
  std::string seen_ ABSL_GUARDED_BY(mutex_);  // which files, by inode, size and times
  std::shared_ptr<const TlsPair> pair_ ABSL_GUARDED_BY(mutex_);
};

}  // namespace orch
