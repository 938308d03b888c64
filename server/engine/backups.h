// Backups of the database: on request, and every so often by itself.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <thread>
#include <utility>

#include "absl/status/statusor.h"
#include "server/base/mutex.h"
#include "server/store/backup.h"

namespace orch {

// Where the daemon keeps backups without being asked.
struct BackupPolicy {
  std::string folder;                 // absolute; empty: none by itself, and a request has to say where
  int64_t every_micros = 60'000'000;  // from the end of one to the begin of the next
  int64_t keep = 3;                   // so many of them stay
};

class Backups {
 public:
  // `commits`: how many there were; a change without an event, such as a new secret, counts too. Any thread.
  Backups(std::string data_dir, BackupPolicy policy, std::function<int64_t()> commits)
      : data_dir_(std::move(data_dir)), policy_(std::move(policy)), commits_(std::move(commits)) {}
  ~Backups() { Stop(); }

  // In `folder`, or where the policy says. The errors of store::MakeBackup; INVALID_ARGUMENT (BACKUP_FOLDER_NEEDED)
  // where neither says. One at a time; a second call waits. Any thread.
  absl::StatusOr<store::Backup> Make(const std::string& folder);

  // By the policy, until Stop. Once. Nothing is copied while nothing was written, and no more than a tenth of the time
  // is spent on it.
  void Start();
  void Stop();

  // The newest that was made in this life of the daemon where the policy says, and what went wrong there since, if
  // anything did. Without a policy the newest anywhere.
  struct Latest {
    std::optional<store::Backup> backup;
    absl::Status failure;
  };
  Latest latest();

 private:
  void Run();
  bool stopping();

  const std::string data_dir_;
  const BackupPolicy policy_;
  const std::function<int64_t()> commits_;
  Mutex one_at_a_time_;
  Mutex mutex_;
  CondVar changed_;
  bool stopping_ ABSL_GUARDED_BY(mutex_) = false;
  Latest latest_ ABSL_GUARDED_BY(mutex_);
  std::thread thread_;
};

}  // namespace orch
